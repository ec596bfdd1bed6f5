"""Append varied copies of bias-conflicting rows to the batch."""

from __future__ import annotations

from typing import Literal

import torch

from online_debias.engine import Batch, Callback
from online_debias.functional.inputs.augment import mild, strong
from online_debias.functional.inputs.copy_slots import fill_slots, n_slots


class Copies(Callback):
    """Adds up to `copies` variations of every row whose remembered score is above a threshold.

    The augmented copies of MoDAD (Pastore et al., WACV 2025), online: a row is flagged by the score
    it had when it was last seen, so the first epoch has no copies. There are three differences to
    the released code: each image draws its own angle where that draws one for the batch; what a
    rotation leaves empty is filled by reflection; and a batch has a fixed number of slots, since a
    number that depends on scores would wait for the device. Rows with the highest scores come
    first; slots that are left hold plain images of other rows, with the weight 0.

    Signals: requires `conflict` (argument `signal`).
    Records: `copies/used`, share of the slots that hold a copy; `weights/copies`, the mean factor.

    Args:
        copies: most copies of a row.
        capacity: slots, relative to the rows of the batch, at most `copies`; rounded to a multiple
            of 8. They cost as much as other rows, used or not.
        augment: "modad" (turned upside down, rotated by any angle, contrast stretched, the middle
            enlarged) or "mild" (rotated by up to 15 degrees, scaled and shifted by up to a tenth);
            "modad" harms classes that are no longer themselves when turned, such as 6 and 9.
        signal: name of the score.
        threshold: scores above it are flagged, in [0, 1).
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range or, in a step, the inputs are not images.

    Example:
        >>> Copies(capacity=0.5, augment="mild").requires
        ('conflict',)
    """

    input_turn = "append"

    def __init__(
        self,
        copies: int = 3,
        capacity: float = 0.25,
        augment: Literal["modad", "mild"] = "mild",
        signal: str = "conflict",
        threshold: float = 0.5,
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("copies", copies, copies >= 1, "a whole number >= 1")
        self.expect("capacity", capacity, 0 < capacity <= copies, f"0 < capacity <= {copies}")
        self.expect("augment", augment, augment in ("modad", "mild"), "'modad' or 'mild'")
        self.expect("threshold", threshold, 0 <= threshold < 1, "0 <= threshold < 1")
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.unless = unless
        self.copies, self.capacity, self.augment = copies, capacity, augment
        self.signal, self.threshold = signal, threshold

    def on_batch(self, batch: Batch) -> None:
        """Append the copies."""
        images, self._first = batch.inputs, len(batch)
        if images.ndim != 4:
            raise ValueError(
                f"Copies: inputs have shape {tuple(images.shape)}, expected images of shape "
                "(rows, channels, height, width)."
            )
        count = n_slots(len(batch), self.capacity)
        self._used = torch.zeros(count, dtype=torch.bool, device=images.device)
        if not count:
            return
        score = self.run.samples.read(self.signal, batch.index, self.unless)
        flagged = (score > self.threshold) & ~batch.mixed
        slots = fill_slots(score, flagged, count, self.copies)
        plain = images[slots.row]
        stream = self.run.generator(self.name)
        if self.augment == "mild":
            varied = mild(plain, stream)
        else:
            low, high = images.amin((0, 2, 3)), images.amax((0, 2, 3))
            varied = strong(plain, slots.kind % 3, low, high, stream)
        appended = torch.where(slots.used.view(-1, 1, 1, 1), varied, plain)
        if images.is_contiguous(memory_format=torch.channels_last):
            appended = appended.contiguous(memory_format=torch.channels_last)
        batch.append(slots.row, appended)
        self._used = slots.used

    def on_loss(self, batch: Batch) -> None:
        """Take slots without a copy out of the loss."""
        factor = torch.ones(len(batch), device=self._used.device)
        factor[self._first : self._first + len(self._used)] = self._used.to(factor.dtype)
        batch.reweight(self.name, factor)
        self.run.record("copies/used", self._used.float().sum() / max(len(self._used), 1))
