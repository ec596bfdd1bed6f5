"""Trees compiled by numba: the same leaves, masses and scores as without it."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch

from online_debias.detectors import HalfSpaceTrees, MassTrees
from online_debias.detectors.trees.compiled import CompiledMassTable, CompiledRouter, _kernels
from online_debias.detectors.trees.compiled import add_mass as compiled_add_mass
from online_debias.detectors.trees.mass import MassTable, add_mass
from online_debias.detectors.trees.trees import Router, random_trees
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
    ("kind", "settings"),
    [
        (HalfSpaceTrees, {}),
        (MassTrees, {}),
        (MassTrees, {"classes": False, "normalizer": "none", "retention": 0.0}),
    ],
)
def test_scores_are_those_of_the_torch_path(
    kind: type[HalfSpaceTrees | MassTrees], settings: dict[str, Any]
) -> None:
    usual, compiled = (kind(fold=100, compiled=how, **settings) for how in (False, True))
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


@pytest.mark.parametrize("groups", [1, 4])
def test_masses_and_paths_are_those_of_the_torch_path(groups: int) -> None:
    stream = torch.Generator().manual_seed(0)
    masses = torch.randint(9, (32, 7, groups), generator=stream).float()
    masses[:, 2] = 0  # a tree that nothing was learned of
    tables = MassTable(masses), CompiledMassTable(masses)
    leaf = torch.randint(32, (50, 7), dtype=torch.int32, generator=stream) * 7 + torch.arange(7)
    leaf = leaf.int()
    group = torch.randint(groups, (50,), generator=stream)
    for _ in range(2):
        for table in tables:
            table.refresh(masses)
        usual, compiled = (table.read(leaf, group)[0] for table in tables)
        assert torch.equal(usual, compiled) and float(usual.std()) > 0
        mass = torch.rand(50, generator=stream)
        sums = masses.clone(), masses.clone()
        for add, into in zip((add_mass, compiled_add_mass), sums, strict=True):
            add(into, leaf, group if groups > 1 else None, mass)
        assert torch.equal(*sums) and not torch.equal(sums[0], masses)
        masses = sums[0].round()


def test_before_anything_is_learned_nothing_is_strange() -> None:
    table = CompiledMassTable(torch.zeros(4, 3, 1))
    table.refresh(torch.zeros(4, 3, 1))
    score, _ = table.read(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, dtype=torch.int64))
    assert score.tolist() == [0, 0]


def test_without_numba_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    _kernels.cache_clear()
    with pytest.raises(ConfigError, match=r"needs numba; install it with: pip install"):
        HalfSpaceTrees(compiled=True).setup(2, 2, "cpu", seed=0)


def test_rows_elsewhere_than_on_the_cpu_are_refused() -> None:
    x = torch.zeros(2, 3, device="meta")
    with pytest.raises(ValueError, match="read rows on the CPU, not on meta"):
        CompiledRouter()(x, torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, 1))
