"""DFR: the features stay, the last layer is trained anew on balanced groups (oracle)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from online_debias.data import Images
from online_debias.errors import ConfigError, expect
from online_debias.offline.two_step import bottleneck
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob
from online_debias.runtime import seeds
from online_debias.training.trainer import Trainer


class DFR(Pipeline):
    """Trains the last layer of a plain model anew, on equally many images of each group (oracle).

    Deep feature reweighting (Kirichenko, Izmailov, Wilson, ICLR 2023) reads true bias labels. After
    a plain training (with the callbacks of the settings; the method `dfr` has none) the bottleneck
    features of the annotated split are scaled by mean and deviation of the training set's, and
    L1-penalised logistic regressions, one class against the rest, are fitted to random balanced
    subsets. The strength of the penalty is the one with the best worst-group accuracy on one half
    of the split, fitted on the other; then `runs` subsets of the whole split are drawn, and the
    mean of their weights, with the scale folded in, becomes the last layer. For two classes this is
    the binary regression of the paper; its search over class weights is left out.

    A class has two groups here, its aligned and its conflicting images, since with many bias values
    their cells may have no images each; see `balanced` for what is then drawn. For two bias values
    these are the groups of the paper.

    The paper's main results take validation images, which the model has not learned by heart. A
    validation split that is as biased as the training set may have no two conflicting images of
    each class, though; so the training split (in the paper, DFR with training data) is the default.

    Args:
        split: whose annotations and images are used.
        runs: number of subsets that the last layer is averaged over.
        strengths: what to choose C, the inverse weight of the penalty, from.

    Raises:
        ValueError: an argument is out of range.
        ConfigError: in `fit`, there is no such split, it is not annotated, a group has no two
            images, or the model does not end in a Linear layer.

    Example:
        >>> DFR(split="validation", runs=20).runs
        20
    """

    def __init__(
        self,
        split: Literal["train", "validation"] = "train",
        runs: int = 10,
        strengths: Sequence[float] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01),
    ) -> None:
        expect(self, "split", split, split in ("train", "validation"), "'train' or 'validation'")
        expect(self, "runs", runs, runs >= 1, "at least 1")
        above = len(strengths) > 0 and all(strength > 0 for strength in strengths)
        expect(self, "strengths", strengths, above, "numbers above 0")
        self.split, self.runs, self.strengths = split, runs, tuple(strengths)

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train, then train the last layer anew."""
        data = job.train if self.split == "train" else job.evaluate_on.get(self.split)
        if data is None:
            raise ConfigError(
                f"DFR: split is {self.split!r}, but the data set has none; choose split: train."
            )
        group = groups(data)
        trainer = job.trainer(callbacks=job.settings.callbacks)
        head = last_linear(trainer.model, len(data.classes))
        trainer.fit()
        with job.between_trainings(), torch.no_grad():
            weight, bias, strength = self._solve(job, trainer, data, group)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
        for split in job.evaluate_on:
            trainer.evaluate(split)
        return PipelineResult([trainer], {}, oracle=True, figures={"dfr_strength": strength})

    def _solve(
        self, job: TrainingJob, trainer: Trainer, data: Images, group: Tensor
    ) -> tuple[Tensor, Tensor, float]:
        seed, n_classes = job.settings.seed, len(data.classes)
        stream = seeds.generator("cpu", seed, "dfr")
        of_training = bottleneck(trainer, job.train)[0].double()
        own = of_training if data is job.train else bottleneck(trainer, data)[0].double()
        mean, scale = of_training.mean(0), of_training.std(0)
        scale = torch.where(scale > 0, scale, 1.0)
        features, targets = (own - mean) / scale, data.targets.cpu()

        def solve(rows: Tensor, strength: float) -> tuple[Tensor, Tensor]:
            return sparse_regression(features[rows], targets[rows], n_classes, strength, seed)

        def worst(rows: Tensor, weight: Tensor, bias: Tensor) -> float:
            right = (features[rows] @ weight.T + bias).argmax(1) == targets[rows]
            return min(float(right[group[rows] == g].double().mean()) for g in group.unique())

        n_values = len(data.bias.unique()) if data.bias is not None else 0
        fitted, held_out = halves(group, stream)
        rows = fitted[balanced(group[fitted], n_values, stream)]
        best = max(self.strengths, key=lambda strength: worst(held_out, *solve(rows, strength)))
        found = [solve(balanced(group, n_values, stream), best) for _ in range(self.runs)]
        weight = torch.stack([weight for weight, _ in found]).mean(0) / scale
        bias = torch.stack([bias for _, bias in found]).mean(0) - weight @ mean
        return weight, bias, best


def groups(data: Images) -> Tensor:
    """Return the group of each image `[N]`, 2 * target + whether it is conflicting.

    Raises:
        ConfigError: there are no annotations, or a group has fewer than two images.
    """
    if data.conflicting is None:
        raise ConfigError("DFR reads bias labels, but the split has none; choose another method.")
    group = (2 * data.targets + data.conflicting).cpu()
    for number, size in enumerate(torch.bincount(group, minlength=2 * len(data.classes)).tolist()):
        if size < 2:
            kind = "bias-conflicting" if number % 2 else "bias-aligned"
            raise ConfigError(
                f"DFR: the number of {kind} images of class {data.classes[number // 2]!r} is "
                f"{size}, expected at least 2; choose another split, or data with more."
            )
    return group


def last_linear(model: nn.Module, n_classes: int) -> nn.Linear:
    """Return the model's last layer.

    Raises:
        ConfigError: it is no Linear layer with a bias and one output a class.
    """
    last = [module for module in model.modules() if not any(True for _ in module.children())][-1]
    fits = isinstance(last, nn.Linear) and last.bias is not None and last.out_features == n_classes
    if not (isinstance(last, nn.Linear) and fits):
        raise ConfigError(
            f"DFR: the last layer of {type(model).__name__} is {last}, expected a Linear with a "
            f"bias and {n_classes} outputs; choose another model."
        )
    return last


def halves(group: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return two random halves of the positions 0..N-1, each with half of every group."""
    order = [_shuffled(group == g, stream) for g in group.unique()]
    return (
        torch.cat([rows[: len(rows) // 2] for rows in order]),
        torch.cat([rows[len(rows) // 2 :] for rows in order]),
    )


def balanced(group: Tensor, n_values: int, stream: torch.Generator) -> Tensor:
    """Return random positions in which every (target, bias) cell is equally large, as it were.

    Each class has as many rows, and K - 1 conflicting rows for an aligned one: they stand for K - 1
    bias values. With as many of both, the bias would still tell the class from K = 3 on.

    Args:
        group: `[N]`, 2 * target + whether it is conflicting; every group has rows.
        n_values: number of bias values K.
        stream: of random numbers.

    Example:
        >>> group = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> group[balanced(group, 3, torch.Generator())]
        tensor([0, 1, 1])
    """
    order = [_shuffled(group == g, stream) for g in group.unique()]
    cells = [n_values - 1 if g % 2 else 1 for g in group.unique().tolist()]
    least = max(1, min(len(rows) // n for rows, n in zip(order, cells, strict=True)))
    return torch.cat([rows[: least * n] for rows, n in zip(order, cells, strict=True)])


def _shuffled(chosen: Tensor, stream: torch.Generator) -> Tensor:
    rows = chosen.nonzero().squeeze(1)
    return rows[torch.randperm(len(rows), generator=stream)]


def sparse_regression(
    features: Tensor, targets: Tensor, n_classes: int, strength: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return weights `[C, D]` and biases `[C]` of L1 logistic regressions, a class against others.

    Args:
        features: `[n, D]` float64 on the CPU, standardised.
        targets: `[n]` int64, with rows of every class.
        n_classes: number of classes C.
        strength: inverse weight of the penalty.
        seed: of the order in which the solver takes the features.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    options: dict[str, Any] = {"C": strength, "solver": "liblinear", "max_iter": 1000}
    known = inspect.signature(LogisticRegression).parameters["penalty"].default
    # From scikit-learn 1.8 on the share of L1 says which penalty it is.
    options |= {"penalty": "l1"} if known == "l2" else {"l1_ratio": 1.0}
    found = [
        LogisticRegression(random_state=seed % 2**32, **options).fit(
            features.numpy(), (targets == target).numpy()
        )
        for target in range(n_classes)
    ]
    weight = torch.stack([torch.from_numpy(one.coef_[0]) for one in found])
    return weight, torch.stack([torch.from_numpy(one.intercept_)[0] for one in found])
