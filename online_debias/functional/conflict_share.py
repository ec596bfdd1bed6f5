"""How likely a row is bias-conflicting, if a share of all rows is and a view tells the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from online_debias.functional.draw_share import SHARPNESS

_LEAST = 1 / (1 + math.exp(SHARPNESS / 2))  # the probability whose score is 0


def label_likelihood(own: Tensor, share: Tensor, n_classes: int) -> Tensor:
    """Return how likely the labels are, given what a view sees in the rows; the shape of `own`.

    A row has the label that goes with its bias value, or, with the probability `share`, any other.
    So it is p(y | x) = (1 - share) q + share (1 - q) / (C - 1), q being the view's p(y | x). A view
    that is surer than it is right makes labels less likely than one that knows how often it errs.

    Args:
        own: q, what the view holds the row's own class to be likely, in [0, 1].
        share: of conflicting rows, in (0, 1); broadcasts against `own`.
        n_classes: C, at least 2.
    """
    return (1 - share) * own + share * (1 - own) / (n_classes - 1)


def conflict_probability(own: Tensor, share: Tensor, n_classes: int) -> Tensor:
    """Return how likely each row is bias-conflicting; the shape of `own`.

    The posterior of the mixture in `label_likelihood`: share (1 - q) / (C - 1) of p(y | x). Where
    few rows conflict, a view must be very sure before it says so of one; the mean over rows is the
    share itself, if that is the likeliest (expectation maximisation).

    Args:
        own: q, what the view holds the row's own class to be likely, in [0, 1].
        share: of conflicting rows, in (0, 1); broadcasts against `own`.
        n_classes: C, at least 2.

    Example:
        >>> import torch
        >>> conflict_probability(torch.tensor([0.5, 0.01, 0.0]), torch.tensor(0.02), n_classes=11)
        tensor([0.0020, 0.1681, 1.0000])
    """
    conflicting = share * (1 - own) / (n_classes - 1)
    return conflicting / ((1 - share) * own + conflicting).clamp_min(1e-30)


def probability_score(probability: Tensor) -> Tensor:
    """Return the score, in [0, 1], of rows that conflict with this probability.

    It is such that `draw_share` draws rows in proportion to their probability: 1/2 at even odds,
    and a 24th more for every unit of the log-odds. So are moving averages those of log-odds. To
    draw the likely ones alone would show few rows too often, where a view is not sure of many.

    Args:
        probability: in [0, 1], any shape.

    Example:
        >>> probability_score(torch.tensor([0.0, 0.1, 0.5, 1.0]))
        tensor([0.0000, 0.4084, 0.5000, 1.0000])
    """
    score: Tensor = 0.5 + torch.logit(probability, _LEAST) / SHARPNESS
    return score.clamp(0, 1)  # rounding may leave it
