"""Where two models look: Grad-CAM of both on the most suspicious training images."""

from __future__ import annotations

from typing import NamedTuple

import torch

from online_debias.data import Images
from online_debias.report.finished import Finished
from online_debias.report.grad_cam import grad_cam, last_convolution
from online_debias.report.naming import name_of, seen_as, top
from online_debias.report.pictures import overlay, thumbnail
from online_debias.runtime.scores_csv import Scores

SHOWN = 6


class Look(NamedTuple):
    """A model's answer, the share it gives that, and the image under heat of what speaks for it."""

    uri: str
    answer: str
    share: float


class Views(NamedTuple):
    """An image, and how each of two models looks at it."""

    uri: str
    name: str
    own: str
    looks: str
    of_models: list[Look]


def compare(runs: list[Finished], scores: Scores) -> list[Views] | str:
    """Return the views of the runs' models, or a sentence that says why there are none.

    Of the training images with the highest scores of the first run, a class is shown once before
    it is shown twice.

    Args:
        runs: two, of the same training images.
        scores: those of the first run.
    """
    images = runs[0].train
    for run in runs[1:]:
        same = run.train.classes == images.classes and torch.equal(run.train.images, images.images)
        if not same:
            return "It is left out because the two runs were trained on different images."
    models = [run.model()[0] for run in runs]
    for run, model in zip(runs, models, strict=True):
        if last_convolution(model) is None:
            name = type(model).__name__
            return f"It is left out because the model of {run.folder} ({name}) has no convolutions."
    places = _chosen(scores)
    if not places:
        return "It is left out because no training image looks bias-conflicting."
    inputs = Images.to_float(images.images[places].cpu())
    looks = []
    for model in models:
        with torch.no_grad():
            share, answer = model(inputs).softmax(1).max(1)
        heat = grad_cam(model, inputs, answer)
        looks.append(
            [
                Look(
                    thumbnail(overlay(images.images[place], heat[row]), lossless=0),
                    images.classes[int(answer[row])],
                    float(share[row]),
                )
                for row, place in enumerate(places)
            ]
        )
    return [
        Views(
            thumbnail(images.images[place]),
            name_of(place, images),
            images.classes[int(scores.targets[place])],
            seen_as(int(scores.bias_label[place]), images.classes),
            list(of_models),
        )
        for place, *of_models in zip(places, *looks, strict=True)
    ]


def _chosen(scores: Scores) -> list[int]:
    candidates = top(scores.score, 50 * SHOWN)
    rounds: dict[int, int] = {}  # of each class, how often it came up
    keyed = []
    for place in candidates:
        own = int(scores.targets[place])
        rounds[own] = rounds.get(own, 0) + 1
        keyed.append((rounds[own], place))
    return [place for _, place in sorted(keyed, key=lambda item: item[0])[:SHOWN]]
