"""The training images that a page shows: of each class the most and the least suspicious ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from online_debias.data import Images
from online_debias.report.naming import name_of, seen_as, top
from online_debias.report.pictures import thumbnail
from online_debias.runtime.scores_csv import Details, Scores

FIRST = 20  # classes shown; the others fold away
SHOWN, FEW = 6, 3  # images of each kind in a class, and of many classes
NOISY = 24  # images suspected of a wrong label


class Card(NamedTuple):
    """An image and what is known of it.

    Attributes:
        uri: the thumbnail.
        name: its file or index.
        own: its class.
        looks: what the biased view takes it for, None where it agrees or nobody can tell.
        facts: further names and numbers.
    """

    uri: str
    name: str
    own: str
    looks: str | None
    facts: list[tuple[str, str]]


class ClassCards(NamedTuple):
    """A class, its share of samples with a score above 1/2, and its cards."""

    name: str
    share: float
    highest: list[Card]
    lowest: list[Card]


def of_classes(images: Images, scores: Scores, details: Details) -> list[ClassCards]:
    """Return the cards of every class, the most conflicting class first if there are many."""
    shown = SHOWN if len(images.classes) <= FIRST else FEW
    found = []
    for label, name in enumerate(images.classes):
        own = ((scores.targets == label) & ~scores.score.isnan()).nonzero().flatten()
        score = scores.score[own]
        share = float((score > 0.5).double().mean()) if len(own) else 0.0
        highest = [int(own[place]) for place in top(score, shown)]
        ascending = own[score.argsort(stable=True)].tolist()
        lowest = [place for place in ascending[:shown] if place not in highest]
        both = [_cards(places, images, scores, details) for places in (highest, lowest)]
        found.append(ClassCards(name, share, *both))
    if len(found) > FIRST:
        found.sort(key=lambda cards: cards.share, reverse=True)
    return found


def noisy(places: Sequence[int], images: Images, scores: Scores, details: Details) -> list[Card]:
    """Return cards of the first samples that are suspected of a wrong label."""
    return _cards(places[:NOISY], images, scores, details)


def _cards(places: Iterable[int], images: Images, scores: Scores, details: Details) -> list[Card]:
    cards = []
    for place in places:
        own, group = int(scores.targets[place]), int(scores.bias_label[place])
        pixels = images.images[place]
        facts = [("score", _number(scores.score, place, ".3f"))]
        facts.append(("times drawn", _number(details.times_drawn, place, "d")))
        facts.append(("loss", _number(details.loss, place, ".2f")))
        facts.append(("wrong label", _number(details.noise, place, ".2f")))
        cards.append(
            Card(
                thumbnail(pixels),
                name_of(place, images),
                images.classes[own],
                seen_as(group, images.classes) if group not in (own, -1) else None,
                [(name, value) for name, value in facts if value],
            )
        )
    return cards


def _number(values: torch.Tensor | None, place: int, form: str) -> str:
    if values is None or bool(values[place].isnan()):
        return ""
    return format(values[place].item(), form)
