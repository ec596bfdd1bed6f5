"""Append varied copies of bias-conflicting rows to the batch."""

from __future__ import annotations

from typing import Literal

import torch

from online_debias.engine import Batch, Callback, Run, SampleMemory
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

    def __init__(
        self,
        copies: int = 3,
        capacity: float = 0.25,
        augment: Literal["modad", "mild"] = "mild",
        signal: str = "conflict",
        threshold: float = 0.5,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if copies < 1:
            raise ValueError(f"Copies: copies is {copies}, expected a whole number >= 1.")
        if not 0 < capacity <= copies:
            raise ValueError(f"Copies: capacity is {capacity}, expected 0 < capacity <= {copies}.")
        if augment not in ("modad", "mild"):
            raise ValueError(f"Copies: augment is {augment!r}, expected 'modad' or 'mild'.")
        if not 0 <= threshold < 1:
            raise ValueError(f"Copies: threshold is {threshold}, expected 0 <= threshold < 1.")
        self.requires = (signal,)
        self.copies, self.capacity, self.augment = copies, capacity, augment
        self.signal, self.threshold = signal, threshold

    def setup(self, run: Run) -> None:
        """Make the memory of scores."""
        self.scores = SampleMemory(run.n_samples)

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
        score = self.scores.read(batch.index)
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

    def on_features(self, batch: Batch) -> None:
        """Remember the scores of the rows that are training images as they are."""
        self.scores.follow(batch, self.signal)

    def on_loss(self, batch: Batch) -> None:
        """Take slots without a copy out of the loss."""
        factor = torch.ones(len(batch), device=self._used.device)
        factor[self._first : self._first + len(self._used)] = self._used.to(factor.dtype)
        batch.reweight(self.name, factor)
        self.run.record("copies/used", self._used.float().sum() / max(len(self._used), 1))
