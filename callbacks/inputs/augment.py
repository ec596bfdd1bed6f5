"""Vary the images of the batch, so that few conflicting samples become many."""

from __future__ import annotations

import torch

from online_debias.engine import Batch, Callback
from online_debias.functional.inputs.augment import mild


class Augment(Callback):
    """Rotates, scales and shifts each image a little, with a given probability.

    Ordinary data augmentation, on the device. It matters here because resampling shows a handful of
    bias-conflicting images again and again, which a network would soon know by heart. Varied rows
    stay training images: detectors score and learn what the model is shown, as they would behind a
    loader that augments. With a least rate they first see the images as they are, where a small
    mark is still in its place, and so they stay where nothing is resampled. Varies images before
    others mix them.

    Signals: none.
    Records: `augment/share`, share of the rows that were varied.

    Args:
        probability: chance that a row is varied, in (0, 1].
        least_rate: images are varied in rounds in which some sample is drawn at least so much
            oftener than uniform; 0 varies them always.
        name: unique in a run.

    Raises:
        ValueError: the probability is out of range or, in a step, the inputs are not images.

    Example:
        >>> Augment(probability=0.5).name
        'augment'
    """

    input_turn = "vary"

    def __init__(
        self, probability: float = 0.75, least_rate: float = 0.0, name: str | None = None
    ) -> None:
        super().__init__(name)
        self.expect("probability", probability, 0 < probability <= 1, "0 < probability <= 1")
        self.expect("least_rate", least_rate, least_rate >= 0, "a number >= 0")
        self.probability, self.least_rate = probability, least_rate

    def on_batch(self, batch: Batch) -> None:
        """Vary."""
        images = batch.inputs
        if images.ndim != 4:
            raise ValueError(
                f"Augment: inputs have shape {tuple(images.shape)}, expected images of shape "
                "(rows, channels, height, width)."
            )
        if self.run.max_rate < self.least_rate:
            self.run.record("augment/share", 0.0)
            return
        stream = self.run.generator(self.name)
        draw = torch.rand(len(batch), generator=stream, device=images.device)
        chosen = (draw < self.probability).to(images.dtype)
        # First to the images' memory format: to choose between two formats costs more than that.
        varied = torch.empty_like(images).copy_(mild(images, stream))
        # Weights of 0 and 1 choose exactly, at a fraction of the time of `where`.
        batch.inputs = varied.lerp_(images, (1 - chosen).view(-1, 1, 1, 1))
        self.run.record("augment/share", chosen.mean())
