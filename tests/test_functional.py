"""The pure maths of the methods, against loops over rows and pairs."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.functional.inputs.mixing import cross_bias_partners, symmetric_beta
from online_debias.functional.inputs.take_rows import take_rows
from online_debias.functional.losses.end import Variant, disentangle, entangle
from online_debias.functional.losses.gce import generalized_cross_entropy
from online_debias.functional.weights.draw_share import draw_share

torch.set_num_threads(1)
VARIANTS: tuple[Variant, ...] = ("paper", "code")


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Rows.


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (6, 1, 4, 5), (6, 3, 1, 1)])
def test_rows_of_images_keep_their_memory_format(
    shape: tuple[int, ...], form: torch.memory_format
) -> None:
    images = torch.rand(shape, generator=stream(0)).contiguous(memory_format=form)
    index = torch.tensor([5, 0, 0, 3])
    found = take_rows(images, index)
    assert torch.equal(found, torch.stack([images[i] for i in index.tolist()]))
    assert found.is_contiguous(memory_format=form)


def test_rows_of_tensors_other_than_images_are_taken_too() -> None:
    index = torch.tensor([2, 2, 1])
    for x in (torch.rand(3), torch.rand(3, 4), torch.rand(4, 3).T, torch.rand(3, 2, 2, 2, 2)):
        assert torch.equal(take_rows(x, index), x[index])


# Generalised cross-entropy.


def test_gce_is_the_formula_row_by_row() -> None:
    logits = torch.randn(20, 5, generator=stream(0), dtype=torch.float64)
    targets = torch.randint(5, (20,), generator=stream(1))
    for q in (0.2, 0.7, 1.0):
        expected = []
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
            p = math.exp(row[target]) / sum(math.exp(logit) for logit in row)
            expected.append((1 - p**q) / q)
        actual = generalized_cross_entropy(logits, targets, q)
        assert actual.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gce_gradient_is_that_of_cross_entropy_times_p_to_the_q(q: float) -> None:
    logits = torch.randn(20, 5, generator=stream(0), dtype=torch.float64).mul(3).requires_grad_()
    targets = torch.randint(5, (20,), generator=stream(1))
    (ours,) = torch.autograd.grad(generalized_cross_entropy(logits, targets, q).sum(), logits)
    cross_entropy = F.cross_entropy(logits, targets, reduction="sum")
    (plain,) = torch.autograd.grad(cross_entropy, logits)
    p = logits.detach().softmax(1)[torch.arange(20), targets]
    torch.testing.assert_close(ours, plain * p[:, None] ** q)


def test_gce_tends_to_cross_entropy_for_small_q() -> None:
    logits = torch.randn(20, 5, generator=stream(0), dtype=torch.float64)
    targets = torch.randint(5, (20,), generator=stream(1))
    plain = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(
        generalized_cross_entropy(logits, targets, 1e-6), plain, rtol=1e-4, atol=0
    )


def test_gce_is_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[1e4, -1e4], [1e4, -1e4], [3e38, -3e38]], requires_grad=True)
    losses = generalized_cross_entropy(logits, torch.tensor([0, 1, 1]), q=0.7)
    assert losses.tolist() == pytest.approx([0.0, 1 / 0.7, 1 / 0.7])
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0]] * 3  # p or 1 - p is 0


# EnD.


def cosine(u: list[float], v: list[float]) -> float:
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return max(-1.0, min(1.0, dot / (math.hypot(*u) * math.hypot(*v))))


def disentangle_loops(features: Tensor, bias: Tensor, keep: Tensor, variant: str) -> float:
    x, b = features.tolist(), bias.tolist()
    rows = [i for i in range(len(x)) if keep[i]]
    values = sorted({b[i] for i in rows})
    if variant == "paper":
        total = 0.0
        for value in values:
            members = [i for i in rows if b[i] == value]
            pairs = [(i, j) for i in members for j in members]
            total += sum(abs(cosine(x[i], x[j])) for i, j in pairs) / len(members) ** 2
        return total / len(values) if values else 0.0
    total, n_pairs = 0.0, 0
    for value in values:
        pairs = [(i, j) for i in rows for j in rows if i > j and b[i] == b[j] == value]
        total += abs(sum(cosine(x[i], x[j]) for i, j in pairs))
        n_pairs += len(pairs)
    return total / n_pairs if n_pairs else 0.0


def entangle_loops(
    features: Tensor, targets: Tensor, bias: Tensor, keep: Tensor, variant: str
) -> float:
    x, y, b = features.tolist(), targets.tolist(), bias.tolist()
    rows = [i for i in range(len(x)) if keep[i]]
    if variant == "paper":
        means = []
        for i in rows:
            partners = [j for j in rows if y[j] == y[i] and b[j] != b[i]]
            if partners:
                means.append(sum(cosine(x[i], x[j]) for j in partners) / len(partners))
        return 1 - sum(means) / len(means) if means else 0.0
    total, n_pairs = 0.0, 0
    for target in set(y):
        for low in set(b):
            for high in set(b):
                for i in rows:
                    for j in rows:
                        of_target = y[i] == y[j] == target
                        if i > j and of_target and low < high and (b[i], b[j]) == (low, high):
                            total += (1 + cosine(x[i], x[j])) / 2
                            n_pairs += 1
    return 1 - total / n_pairs if n_pairs else 0.0


def end_batch(seed: int, n: int = 14) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, targets, bias and keep; bias value 7 has one row, class 5 no partners."""
    source = stream(seed)
    features = torch.randn(n, 4, generator=source, dtype=torch.float64)
    targets = torch.randint(3, (n,), generator=source)
    bias = torch.randint(3, (n,), generator=source)
    keep = torch.rand(n, generator=source) < 0.7
    bias[0], targets[1:3], bias[1:3] = 7, 5, 1
    keep[:3] = True
    return features, targets, bias, keep


@pytest.mark.parametrize("variant", VARIANTS)
def test_end_terms_are_the_formulas_pair_by_pair(variant: Variant) -> None:
    for seed in range(8):
        features, targets, bias, keep = end_batch(seed)
        for rows in (keep, torch.ones_like(keep)):
            pushed = disentangle(features, bias, rows, variant)
            pulled = entangle(features, targets, bias, rows, variant)
            expected = disentangle_loops(features, bias, rows, variant)
            assert pushed.item() == pytest.approx(expected, rel=1e-5) and expected > 0
            expected = entangle_loops(features, targets, bias, rows, variant)
            assert pulled.item() == pytest.approx(expected, rel=1e-5) and expected > 0


def test_disentangling_known_values() -> None:
    every = torch.ones(3, dtype=torch.bool)
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])  # cosines 0, -1, 0
    bias = torch.tensor([4, 4, 4])
    assert disentangle(features, bias, every, "paper").item() == pytest.approx(5 / 9)
    assert disentangle(features, bias, every, "code").item() == pytest.approx(1 / 3)
    alone = torch.tensor([4, 6, 8])  # bias values with one row: only self-pairs
    assert disentangle(features, alone, every, "paper").item() == pytest.approx(1.0)
    assert disentangle(features, alone, every, "code").item() == 0.0


def test_code_disentangling_cancels_cosines_of_opposite_sign_and_the_paper_does_not() -> None:
    every = torch.ones(3, dtype=torch.bool)
    third = math.sqrt(0.75)
    features = torch.tensor([[1.0, 0.0], [0.5, third], [-0.5, third]])  # cosines .5, -.5, .5
    value = torch.zeros(3, dtype=torch.long)
    assert disentangle(features, value, every, "code").item() == pytest.approx(0.5 / 3)
    assert disentangle(features, value, every, "paper").item() == pytest.approx(6 / 9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_end_reads_directions_only(variant: Variant) -> None:
    features, targets, bias, keep = end_batch(3)
    longer = features * torch.logspace(-2, 3, len(features), dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        disentangle(longer, bias, keep, variant), disentangle(features, bias, keep, variant)
    )
    torch.testing.assert_close(
        entangle(longer, targets, bias, keep, variant),
        entangle(features, targets, bias, keep, variant),
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_left_out_neither_count_nor_learn(variant: Variant) -> None:
    features, targets, bias, keep = end_batch(1)
    assert not keep.all()
    changed = torch.where(keep[:, None], features, 5 - features).requires_grad_()
    pushed = disentangle(changed, bias, keep, variant)
    pulled = entangle(changed, targets, bias, keep, variant)
    assert pushed.item() == disentangle(features, bias, keep, variant).item()
    assert pulled.item() == entangle(features, targets, bias, keep, variant).item()
    (gradient,) = torch.autograd.grad(pushed + pulled, changed)
    assert (gradient[~keep] == 0).all() and (gradient[keep] != 0).any()


def test_only_the_released_code_depends_on_the_order_of_the_batch() -> None:
    features, targets, bias, keep = end_batch(2)

    def back(variant: Variant) -> Tensor:
        return entangle(features.flip(0), targets.flip(0), bias.flip(0), keep.flip(0), variant)

    torch.testing.assert_close(back("paper"), entangle(features, targets, bias, keep, "paper"))
    assert abs(back("code") - entangle(features, targets, bias, keep, "code")) > 0.01
    two, one_class = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, dtype=torch.long)
    every = torch.ones(2, dtype=torch.bool)
    later_is_smaller, later_is_larger = torch.tensor([1, 0]), torch.tensor([0, 1])
    assert entangle(two, one_class, later_is_smaller, every, "code").item() == 0.5
    assert entangle(two, one_class, later_is_larger, every, "code").item() == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", ["nothing kept", "one row", "all different", "all the same"])
def test_end_has_finite_values_and_gradients_without_pairs(variant: Variant, case: str) -> None:
    n = 1 if case == "one row" else 4
    features = torch.randn(n, 3, generator=stream(0)).requires_grad_()
    same, different = torch.zeros(n, dtype=torch.long), torch.arange(n)
    keep = torch.full((n,), case != "nothing kept")
    targets, bias = (same, same) if case == "all the same" else (different, different)
    pulled = entangle(features, targets, bias, keep, variant)
    pushed = disentangle(features, bias, keep, variant)
    assert pulled.item() == 0.0
    assert pushed.item() == pytest.approx(
        disentangle_loops(features, bias, keep, variant), abs=1e-6
    )
    (gradient,) = torch.autograd.grad(pulled + pushed, features)
    assert gradient.isfinite().all()
    if case != "all the same":
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("variant", VARIANTS)
def test_end_gradients_are_those_of_the_formulas(variant: Variant) -> None:
    features, targets, bias, keep = end_batch(5, n=8)

    def terms(x: Tensor) -> Tensor:
        return disentangle(x, bias, keep, variant) + entangle(x, targets, bias, keep, variant)

    assert torch.autograd.gradcheck(terms, features.requires_grad_())


# Sampling factors.


def draw_share_loops(
    score: list[float], targets: list[int], share: float, sharpness: float
) -> list[float]:
    factors = [1.0] * len(score)
    for target in set(targets):
        rows = [i for i in range(len(score)) if targets[i] == target and not math.isnan(score[i])]
        degree = {i: 1 / (1 + math.exp(-sharpness * (score[i] - 0.5))) for i in rows}
        for i in rows:
            conflicting = degree[i] / sum(degree.values())
            aligned = (1 - degree[i]) / sum(1 - s for s in degree.values())
            factors[i] = len(rows) * (share * conflicting + (1 - share) * aligned)
    return factors


def scored(seed: int, n: int = 60) -> tuple[Tensor, Tensor]:
    source = stream(seed)
    score = torch.rand(n, generator=source, dtype=torch.float64) ** 2
    score[torch.rand(n, generator=source) < 0.2] = torch.nan
    return score, torch.randint(4, (n,), generator=source)


@pytest.mark.parametrize("sharpness", [0.0, 3.0, 10.0, 24.0])
def test_draw_share_is_the_formula_class_by_class(sharpness: float) -> None:
    for share in (0.2, 0.5, 0.7):
        score, targets = scored(0)
        expected = draw_share_loops(score.tolist(), targets.tolist(), share, sharpness)
        actual = draw_share(score, targets, 4, share, sharpness)
        assert actual.tolist() == pytest.approx(expected, rel=1e-9)


def test_draw_share_gives_conflicting_samples_their_share_of_each_class_with_sharp_scores() -> None:
    share, score, targets, conflicting = 0.6, [], [], []
    for target, (n_conflicting, n_aligned) in enumerate([(5, 1000), (200, 50), (1, 3)]):
        score += [0.95] * n_conflicting + [0.05] * n_aligned
        conflicting += [True] * n_conflicting + [False] * n_aligned
        targets += [target] * (n_conflicting + n_aligned)
    y, rare = torch.tensor(targets), torch.tensor(conflicting)
    for target in range(3):
        errors = []
        for sharpness in (3.0, 8.0, 16.0, 30.0):
            factor = draw_share(torch.tensor(score), y, 3, share, sharpness)
            given = factor[rare & (y == target)].sum() / factor[y == target].sum()
            errors.append(abs(given.item() - share))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 1e-3 < errors[0]


@pytest.mark.parametrize("sharpness", [1.0, 10.0, 24.0, 100.0])
def test_draw_share_leaves_every_class_its_number_of_draws(sharpness: float) -> None:
    for seed in range(5):
        score, targets = scored(seed)
        factor = draw_share(score.float(), targets, 4, 0.7, sharpness)
        for target in range(4):
            assert factor[targets == target].mean().item() == pytest.approx(1.0, abs=1e-5)


def test_draw_share_draws_unseen_samples_at_the_plain_rate() -> None:
    score = torch.tensor([torch.nan, 0.9, 0.1, 0.1, torch.nan, torch.nan])
    targets = torch.tensor([0, 0, 0, 0, 0, 1])
    factor = draw_share(score, targets, 3, 0.5, 20.0)
    assert factor[[0, 4, 5]].tolist() == [1.0, 1.0, 1.0]
    assert factor[1:4].tolist() == pytest.approx([1.5, 0.75, 0.75], abs=0.01)


@pytest.mark.parametrize("sharpness", [10.0, 30.0, 60.0, 150.0, 400.0])
@pytest.mark.parametrize("value", [0.0, 1.0], ids=["all aligned", "all conflicting"])
def test_draw_share_draws_a_class_of_one_kind_evenly(value: float, sharpness: float) -> None:
    score, targets = torch.full((6,), value), torch.tensor([0, 0, 0, 0, 1, 1])
    score[:2] = torch.tensor([0.95, 0.05])
    targets[:2] = 2
    factor = draw_share(score, targets, 3, 0.7, sharpness)
    assert factor[2:].tolist() == pytest.approx([1.0] * 4, abs=1e-4)


# Mixing.


def eligible(targets: Tensor, bias: Tensor, row: int) -> set[int]:
    y, b = targets.tolist(), bias.tolist()
    return {
        j
        for j in range(len(y))
        if y[j] == y[row] and not math.isnan(b[row]) and not math.isnan(b[j]) and b[j] != b[row]
    }


def test_partners_are_of_the_same_class_and_another_known_bias_value() -> None:
    for seed in range(30):
        source = stream(seed)
        targets = torch.randint(4, (16,), generator=source)
        bias = torch.randint(3, (16,), generator=source).float()
        bias[torch.rand(16, generator=source) < 0.3] = torch.nan
        partner, has_partner = cross_bias_partners(targets, bias, source)
        for row in range(16):
            choice = eligible(targets, bias, row)
            assert has_partner[row].item() == bool(choice)
            assert partner[row].item() in (choice or {row})


def test_no_row_is_mixed_while_no_bias_value_is_known() -> None:
    unknown = torch.full((8,), torch.nan)
    partner, has_partner = cross_bias_partners(torch.zeros(8).long(), unknown, stream(0))
    assert not has_partner.any()
    assert partner.tolist() == list(range(8))


def test_partners_are_uniform_among_those_that_fit() -> None:
    targets = torch.tensor([0, 0, 0, 0, 0, 1])
    bias = torch.tensor([0.0, 1.0, 1.0, 2.0, 0.0, 1.0])
    source, draws = stream(0), 4000
    counts: Counter[int] = Counter()
    for _ in range(draws):
        counts[int(cross_bias_partners(targets, bias, source)[0][0])] += 1
    assert set(counts) == {1, 2, 3}
    chi_square = sum((n - draws / 3) ** 2 / (draws / 3) for n in counts.values())
    assert chi_square < 13.8  # p = .001 at two degrees of freedom


def test_the_generator_decides_the_partners() -> None:
    targets, bias = torch.zeros(32).long(), torch.arange(32.0)
    first, again = (cross_bias_partners(targets, bias, stream(1))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, cross_bias_partners(targets, bias, stream(2))[0])


@pytest.mark.parametrize(("concentration", "variance"), [(1, 1 / 12), (2, 1 / 20), (3, 1 / 28)])
def test_symmetric_beta_has_the_moments_of_beta(concentration: int, variance: float) -> None:
    draws = symmetric_beta(200_000, concentration, stream(0)).double()
    assert draws.mean().item() == pytest.approx(0.5, abs=0.003)
    assert draws.var().item() == pytest.approx(variance, abs=0.001)
    assert draws.min() >= 0 and draws.max() <= 1


def test_symmetric_beta_has_the_distribution_of_beta() -> None:
    draws = symmetric_beta(200_000, 2, stream(0))
    for x in (0.1, 0.25, 0.5, 0.8):
        below = (draws < x).double().mean().item()
        assert below == pytest.approx(3 * x**2 - 2 * x**3, abs=0.004)
