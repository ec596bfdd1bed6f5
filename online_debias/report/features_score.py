"""Score a training set after training, by the features of the finished model."""

from __future__ import annotations

import torch
from torch import nn

from online_debias.data import Images
from online_debias.detectors import HalfSpaceTrees
from online_debias.runtime import seeds
from online_debias.runtime.scores_csv import Scores
from online_debias.taps.taps import Taps

TAP, PASSES, ROWS = "shallow", 3, 256


@torch.no_grad()
def score_features(model: nn.Module, images: Images, taps: Taps, seed: int = 0) -> Scores:
    """Return how much each image's features look like another class's, and which class that is.

    What `ConflictScore` does in training, for a model that was trained without it: half-space
    trees learn the features in three passes in random order, then score them all in a fourth. The
    features are computed once and kept, 4 bytes a number. An image counts once, however many
    passes there are: else the few conflicting ones of a small set would make a region of their own.

    That happens still where the features set apart a (class, bias value) group of more than the
    trees' `least_mass` images, 8: it then looks like its own class's, and scores low. The features
    of a model that follows a shortcut hardly set such groups apart, those of raw pixels may.

    Args:
        model: the trained classifier; it is left in evaluation mode.
        images: the training set, on the model's device.
        taps: of the model, with "shallow" among those read.
        seed: of the trees and of the order.

    Example:
        >>> from online_debias.models import SmallConvNet
        >>> pixels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8)
        >>> images = Images(pixels, torch.arange(8) % 2, None, ("cat", "dog"))
        >>> model = SmallConvNet(2, widths=(4, 4, 4))
        >>> score_features(model, images, Taps(model, None, ["shallow"])).score.shape
        torch.Size([8])
    """
    model.eval()
    read = []
    for pixels in images.images.split(ROWS):
        taps.start()
        model(Images.to_float(pixels))
        read.append(taps.finish()[TAP].float())
    features, targets = torch.cat(read), images.targets
    n, device = len(features), features.device
    trees = HalfSpaceTrees(fold=max(32, min(512, n // 2)))  # ready before the first pass ends
    trees.setup(features.shape[1], len(images.classes), device, seeds.derive(seed, "score"))
    for number in range(PASSES):
        stream = seeds.generator("cpu", seed, "score", number)
        for index in torch.randperm(n, generator=stream).to(device).split(ROWS):
            mass = torch.full((len(index),), 1 / PASSES, device=device)
            trees.learn(features[index], targets[index], mass)
    blocks = list(zip(features.split(ROWS), targets.split(ROWS), strict=True))
    score = torch.cat([trees.score(x, y) for x, y in blocks])
    group = torch.cat([trees.posterior(x).argmax(1) if trees.ready else y for x, y in blocks])
    return Scores(targets.cpu(), score.cpu(), group.cpu())
