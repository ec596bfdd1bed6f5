"""What a pipeline leaves behind, and what it spent."""

from __future__ import annotations

from dataclasses import dataclass, field

from online_debias.trainer import Trainer


@dataclass
class Fitted:
    """What a pipeline leaves behind.

    Attributes:
        trainers: all trainings, the last one's model is the result.
        detection: auroc and average precision of the method's own score, {} if it has none.
        oracle: whether bias labels were read between trainings; callbacks tell of themselves.
        figures: further numbers for results.json.
    """

    trainers: list[Trainer]
    detection: dict[str, float]
    oracle: bool = False
    figures: dict[str, float | str] = field(default_factory=dict)


@dataclass
class Cost:
    """What a method spends beside its classifiers' trainings.

    Attributes:
        passes: trainings of other models.
        seconds: in those and in what is computed between trainings.
        samples: rows those were trained on.
        parameters: of those models.
    """

    passes: int = 0
    seconds: float = 0.0
    samples: int = 0
    parameters: int = 0
