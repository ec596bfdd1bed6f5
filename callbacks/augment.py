"""Vary the images of the batch, so that few conflicting samples become many."""

from __future__ import annotations

import torch

from online_debias.batch import Batch
from online_debias.callback import Callback
from online_debias.functional.augment import mild


class Augment(Callback):
    """Rotates, scales and shifts each image a little, with a given probability.

    Ordinary data augmentation, on the device. It matters here because resampling shows a handful of
    bias-conflicting images again and again, which a network would soon know by heart. Varied rows
    stay training images: detectors score and learn what the model is shown, as they would behind a
    loader that augments. With a warm-up they first see the images as they are, where a small mark
    is still in its place. Varies images before others mix them.

    Signals: none.
    Records: `augment/share`, share of the rows that were varied.

    Args:
        probability: chance that a row is varied, in (0, 1].
        warmup: epochs in which nothing is varied.
        name: unique in a run; callbacks that change inputs act in the order of their names.

    Raises:
        ValueError: the probability is out of range or, in a step, the inputs are not images.

    Example:
        >>> Augment(probability=0.5).name
        'augment'
    """

    def __init__(
        self, probability: float = 0.75, least_rate: float = 0.0, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not 0 < probability <= 1:
            raise ValueError(
                f"Augment: probability is {probability}, expected 0 < probability <= 1."
            )
        if not least_rate >= 0:
            raise ValueError(f"Augment: least_rate is {least_rate}, expected a number >= 0.")
        self.probability, self.least_rate = probability, least_rate

    def on_batch(self, batch: Batch) -> None:
        """Vary."""
        images = batch.inputs
        if images.ndim != 4:
            raise ValueError(
                f"Augment: inputs have shape {tuple(images.shape)}, expected images of shape "
                "(rows, channels, height, width)."
            )
        stream = self.run.generator(self.name)
        draw = torch.rand(len(batch), generator=stream, device=images.device)
        chosen = (draw < self.probability) & (batch.rate.amax() >= self.least_rate)
        varied = torch.where(chosen.view(-1, 1, 1, 1), mild(images, stream), images)
        if images.is_contiguous(memory_format=torch.channels_last):
            varied = varied.contiguous(memory_format=torch.channels_last)
        batch.inputs = varied
        self.run.record("augment/share", chosen.float().mean())
