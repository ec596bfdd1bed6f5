"""Trees compiled by numba: the same leaves and scores as without it."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch

from online_debias.detectors import HalfSpaceTrees
from online_debias.detectors.compiled import CompiledRouter, _kernel
from online_debias.detectors.trees import Router, random_trees
from online_debias.errors import ConfigError

torch.set_num_threads(1)


@pytest.mark.parametrize(("trees", "height", "width"), [(1, 1, 1), (5, 8, 7), (100, 6, 64)])
def test_leaves_are_those_of_the_torch_path(trees: int, height: int, width: int) -> None:
    stream = torch.Generator().manual_seed(0)
    feature, cut = random_trees(trees, height, width, stream)
    router, compiled = Router(), CompiledRouter()
    for rows in (1, 128, 17):  # the work space follows the batch
        x = torch.rand(rows, width, generator=stream) * 1.4 - 0.2
        x[::3, 0] = torch.nan
        x[1::3, -1] = torch.inf
        x[2::3, 0] = cut[0, 0]  # on a threshold
        found = compiled(x, feature, cut)
        assert found.dtype == torch.int32
        assert torch.equal(found, router(x, feature, cut))


@pytest.mark.parametrize(
    "settings",
    [
        {"fold": 100},
        {"fold": 100, "score": "mass"},
        {"fold": 100, "blocks": 2, "n_trees": 10},
        {"fold": 100, "score": "mass", "classes": False, "normalizer": "none", "retention": 0.0},
    ],
)
def test_scores_are_those_of_the_torch_path(settings: dict[str, Any]) -> None:
    usual, compiled = HalfSpaceTrees(**settings), HalfSpaceTrees(**settings, compiled=True)
    for detector in (usual, compiled):
        detector.setup(6, 3, "cpu", seed=1)
    stream = torch.Generator().manual_seed(0)
    for rows in (64, 64, 64, 31, 128, 256, 64):
        y = torch.randint(3, (rows,), generator=stream)
        x = torch.rand(rows, 6, generator=stream) + 0.2 * y[:, None]
        mass = torch.rand(rows, generator=stream)
        found = [detector.step(x, y, mass) for detector in (usual, compiled)]
        assert torch.equal(found[0][0], found[1][0])
        compiled = copy.deepcopy(compiled)
    assert float(found[0][0].std()) > 0
    assert all(
        torch.equal(value, compiled.state_dict()[name])
        for name, value in usual.state_dict().items()
        if isinstance(value, torch.Tensor)
    )


def test_without_numba_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    _kernel.cache_clear()
    with pytest.raises(ConfigError, match=r"needs numba; install it with: pip install"):
        HalfSpaceTrees(compiled=True).setup(2, 2, "cpu", seed=0)


def test_rows_elsewhere_than_on_the_cpu_are_refused() -> None:
    x = torch.zeros(2, 3, device="meta")
    with pytest.raises(ValueError, match="read rows on the CPU, not on meta"):
        CompiledRouter()(x, torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, 1))
