"""Many factors, one weight a row; many tables, one rate a sample."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from online_debias.engine import weights

torch.set_num_threads(1)
COMBINES: tuple[weights.Combine, ...] = ("product", "geometric", "max")


def factors(names: str = "abc", n: int = 12) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(0)
    return {name: torch.rand(n, generator=source) * 5 + 0.01 for name in names}


def weights_loops(
    given: dict[str, Tensor],
    combine: str,
    normalize: str = "batch",
    clip: tuple[float, float] = (0.0, math.inf),
) -> list[float]:
    composed = []
    for row in zip(*(factor.tolist() for factor in given.values()), strict=True):
        if combine == "max":
            weight = max(row)
        else:
            weight = math.prod(row)
            if combine == "geometric":
                weight **= 1 / len(row)
        composed.append(min(max(weight, clip[0]), clip[1]))
    scale = len(composed) / sum(composed) if normalize == "batch" else 1.0
    return [weight * scale for weight in composed]


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("normalize", ["batch", "none"])
@pytest.mark.parametrize("clip", [(0.0, math.inf), (0.5, 4.0)])
def test_weights_are_the_formula_row_by_row(
    combine: weights.Combine, normalize: weights.Normalize, clip: tuple[float, float]
) -> None:
    expected = weights_loops(factors(), combine, normalize, clip)
    actual = weights.compose(factors(), combine, normalize, clip)
    assert actual.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("combine", COMBINES)
def test_weights_do_not_depend_on_the_order_of_the_factors_in_any_bit(
    combine: weights.Combine,
) -> None:
    given = factors("abcd", n=64)
    expected = weights.compose(given, combine)
    for order in itertools.permutations(given):
        assert torch.equal(
            weights.compose({name: given[name] for name in order}, combine), expected
        )


@pytest.mark.parametrize("combine", COMBINES)
def test_weights_have_mean_one(combine: weights.Combine) -> None:
    assert weights.compose(factors(), combine).mean().item() == pytest.approx(1.0)
    assert weights.compose(factors(), combine, "none").mean().item() != pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("combine", COMBINES)
def test_a_single_factor_is_kept_up_to_its_mean(combine: weights.Combine) -> None:
    weight = weights.compose({"only": torch.tensor([1.0, 2.0, 5.0])}, combine)
    assert weight.tolist() == pytest.approx([3 / 8, 6 / 8, 15 / 8])


def test_weights_are_clipped_before_they_are_normalised() -> None:
    weight = weights.compose({"a": torch.tensor([1.0, 100.0])}, clip=(0.0, 3.0))
    assert weight.tolist() == pytest.approx([0.5, 1.5])  # after: the ratio would not be 3


def test_weights_of_low_precision_factors_are_float32() -> None:
    weight = weights.compose({"a": torch.tensor([1.0, 3.0], dtype=torch.bfloat16)})
    assert weight.dtype == torch.float32
    assert weight.tolist() == [0.5, 1.5]


def test_factors_that_are_all_zero_give_zero_weights_and_no_nan() -> None:
    assert weights.compose({"a": torch.zeros(8)}).tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("weight", "share"),
    [([1.0] * 5, 1.0), ([7.0, 0.0, 0.0, 0.0], 0.25), ([3.0, 1.0], 0.8), ([2.0, 2.0, 0.0], 2 / 3)],
)
def test_effective_sample_size_of_known_weights(weight: list[float], share: float) -> None:
    assert weights.effective_sample_size(torch.tensor(weight)).item() == pytest.approx(share)


def test_rates_multiply_the_tables_and_have_mean_one() -> None:
    tables = factors("xy", n=30)
    product = [a * b for a, b in zip(tables["x"].tolist(), tables["y"].tolist(), strict=True)]
    rate = weights.rates(tables)
    assert rate.dtype == torch.float64
    assert rate.mean().item() == pytest.approx(1.0, rel=1e-12)
    assert rate.tolist() == pytest.approx([30 * p / sum(product) for p in product], rel=1e-6)


def test_rates_do_not_depend_on_the_order_of_the_tables_in_any_bit() -> None:
    tables = factors("wxyz", n=64)
    for order in itertools.permutations(tables):
        given = {name: tables[name] for name in order}
        assert torch.equal(weights.rates(given), weights.rates(tables))


def test_rates_let_a_sample_be_left_out() -> None:
    assert weights.rates({"a": torch.tensor([0.0, 1.0, 3.0])}).tolist() == [0.0, 0.75, 2.25]


@pytest.mark.parametrize(
    "bad",
    [[1.0, -0.5, 3.0], [0.0, 0.0, 0.0], [1.0, math.nan, 1.0], [1.0, math.inf, 1.0]],
    ids=["negative", "all zero", "NaN", "infinite"],
)
def test_rates_that_cannot_be_drawn_from_are_refused_with_the_proposers(bad: list[float]) -> None:
    tables = {"resample": torch.tensor(bad), "balance": torch.ones(3)}
    with pytest.raises(ValueError, match="balance, resample .* factors >= 0 with a positive"):
        weights.rates(tables)
