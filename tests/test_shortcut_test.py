"""Is what the cells see a shortcut: the counts, the decision, and when it stands."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from online_debias.detectors import MassTrees
from online_debias.functional.shortcut.agreement import agreement
from online_debias.views import CellView, ShortcutTest

torch.set_num_threads(1)
CLASSES = 4
Rows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # what `CellView.judge` is given


def made(**settings: float) -> CellView:
    view = CellView(test=ShortcutTest(**settings))  # type: ignore[arg-type]
    view.setup(CLASSES, torch.device("cpu"), seed=0)
    return view


def drawn(
    right: float,
    rows: int = 128,
    seed: int = 0,
    rate: Tensor | None = None,
    mixed: Tensor | None = None,
    sides: float = 1.0,
) -> Rows:
    """Rows of which the view tells a share right.

    In a share `sides` of the rows the model prefers what the view sees, else the label.
    """
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (rows,), generator=stream)
    wrong = (targets + torch.randint(1, CLASSES, (rows,), generator=stream)) % CLASSES
    label = torch.where(torch.rand(rows, generator=stream) < right, targets, wrong)
    chosen = torch.where(torch.rand(rows, generator=stream) < sides, label, targets)
    logits = torch.nn.functional.one_hot(chosen, CLASSES).float()
    mixed = torch.zeros(rows, dtype=torch.bool) if mixed is None else mixed
    rate = torch.ones(rows) if rate is None else rate
    return label, (label != targets).float(), targets, logits, mixed, rate


def step(view: CellView, right: float, **settings: object) -> bool:
    """Whether there is a shortcut after a batch of such rows."""
    return bool(view.judge(*drawn(right, **settings)))  # type: ignore[arg-type]


def steps(view: CellView, right: float, number: int, sides: float = 1.0) -> list[bool]:
    return [step(view, right, seed=seed, sides=sides) for seed in range(number)]


def slow_agreement(right: list[float], seen: list[float]) -> float:
    shares = [r / s for r, s in zip(right, seen, strict=True) if s > 0]
    chance = 1 / max(2, len(shares))
    return max(0.0, (sum(shares) / len(shares) - chance) / (1 - chance)) if shares else 0.0


class Slowly:
    """The definition, row by row."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.settings = settings
        self.latest = [[0.0, 0.0] for _ in range(CLASSES)]  # right, seen
        self.early = [[0.0, 0.0] for _ in range(CLASSES)]
        self.rows, self.sided, self.contradicting, self.released = 0, 4.0, 8.0, False

    def judge(self, *given: Tensor) -> tuple[float, float, bool]:
        of = self.settings
        rows = list(zip(*(value.tolist() for value in given), strict=True))
        plain = [row for row in rows if not row[4]]
        if any(row[0] != row[2] for row in plain) and self.rows < of["settle"]:
            keep = max(0.0, 1 - len(rows) / of["window"])
            self.latest = [[keep * n for n in cell] for cell in self.latest]
            self.sided, self.contradicting = keep * self.sided, keep * self.contradicting
            for label, score, target, logits, _, rate in plain:
                for tally in [self.latest, self.early][: 1 + (self.rows < of["early"])]:
                    tally[target][0] += (label == target) / rate
                    tally[target][1] += 1 / rate
                if score > 0.5:
                    self.contradicting += 1
                    self.sided += logits[label] > logits[target]
            self.rows += len(plain)
        latest, early = (slow_agreement(*zip(*x, strict=True)) for x in (self.latest, self.early))
        hinted = self.rows < of["early"] or early >= of["hint"]
        evidence, followed = latest if hinted else early, self.sided / self.contradicting
        suffices = self.rows >= of["least"] and evidence >= of["threshold"]
        self.released |= suffices and (evidence >= of["sure"] or followed >= of["follow"])
        return evidence, followed, suffices and (self.released or self.rows < of["window"])


SETTINGS = [
    {"threshold": 0.4, "sure": 0.7, "follow": 0.6, "hint": 0.2, "early": 200, "window": 300},
    {"threshold": 0.3, "sure": 0.3, "follow": 0.0, "hint": 0.0, "early": 60, "window": 60},
    {"threshold": 0.5, "sure": 0.9, "follow": 0.3, "hint": 0.5, "early": 900, "window": 700},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_equals_a_plain_computation_row_by_row(settings: dict[str, float]) -> None:
    settings = {"least": 50, "settle": 1200, **settings}
    verdicts = []
    for seed in range(12):
        stream = torch.Generator().manual_seed(seed)
        view, slow = made(**settings), Slowly(settings)
        right, sides = torch.rand(2, generator=stream).tolist()
        for number in range(30):
            label, score, *others = drawn(
                1.0 if number == 3 else right,
                rows=48,
                seed=100 * seed + number,
                rate=0.5 + 3 * torch.rand(48, generator=stream),
                mixed=torch.rand(48, generator=stream) < 0.2,
                sides=sides,
            )
            score = score * torch.rand(48, generator=stream)
            found = bool(view.judge(label, score, *others))
            evidence, followed, expected = slow.judge(label, score, *others)
            assert float(view.standing["evidence"]) == pytest.approx(evidence, abs=1e-5)
            assert float(view.standing["followed"]) == pytest.approx(followed, abs=1e-5)
            assert found is expected is bool(view.test.found), number
            verdicts.append(found)
    assert 20 < sum(verdicts) < len(verdicts) - 20


@pytest.mark.parametrize(
    ("right", "seen"),
    [
        ([9.0, 1.0, 5.0], [10.0, 2.0, 10.0]),
        ([9.0, 0.0, 5.0], [10.0, 0.0, 10.0]),
        ([5.0, 5.0], [10.0, 10.0]),
        ([1.0, 0.0], [10.0, 10.0]),
        ([10.0, 3.0], [10.0, 3.0]),
    ],
)
def test_agreement_equals_a_plain_computation(right: list[float], seen: list[float]) -> None:
    found = agreement(torch.tensor(right), torch.tensor(seen))
    expected = slow_agreement(right, seen)
    assert float(found) == pytest.approx(expected, abs=1e-6)
    both = agreement(torch.tensor([right, seen]), torch.tensor([seen, seen]))
    assert both.tolist() == pytest.approx([expected, slow_agreement(seen, seen)], abs=1e-6)


def test_nothing_seen_is_no_agreement() -> None:
    assert float(agreement(torch.zeros(3), torch.zeros(3))) == 0


@pytest.mark.parametrize(
    ("right", "sides", "found"),
    [(0.95, 0.0, True), (0.7, 1.0, True), (0.7, 0.9, True), (0.7, 0.5, False), (0.4, 1.0, False)],
)
def test_a_view_that_is_not_sure_is_a_shortcut_only_if_the_model_follows_it(
    right: float, sides: float, found: bool
) -> None:
    view = made(hint=0, window=1024)
    last = steps(view, right, 20, sides)
    assert last[5] is (right > 0.5)  # at first the evidence alone decides
    assert last[-1] is found
    figures = view.figures()
    assert figures["shortcut"] is found
    assert figures.get("shortcut_followed") == (
        None if right < 0.5 else pytest.approx(sides, abs=0.1)
    )
    assert view.standing["followed"] == view.test.followed


def test_a_model_need_not_be_followed_if_nobody_asks() -> None:
    assert steps(made(follow=0.0, window=1024), 0.7, 16, sides=0.0)[-1]


def test_what_was_released_stays_so_when_the_model_is_debiased_but_not_without_evidence() -> None:
    view = made(window=1024, early=1024, hint=0)
    assert steps(view, 0.7, 12)[-1]
    assert steps(view, 0.7, 40, sides=0.0)[-1]
    assert float(view.test.followed) < 0.1
    assert not steps(view, 0.3, 40)[-1]


def test_only_rows_that_contradict_the_view_firmly_tell_whether_it_is_followed() -> None:
    view, other = made(), made()
    label, score, *others = drawn(0.7, sides=0.0)
    row = int(score.nonzero()[0])
    view.judge(label, score, *others)
    other.judge(label, torch.where(torch.arange(128) == row, 0.51, score / 2), *others)
    assert float(view.test.followed) == pytest.approx(4 / (8 + int(score.sum())), rel=0.05)
    assert float(other.test.followed) == pytest.approx(4 / 9, rel=0.05)


@pytest.mark.parametrize(("right", "expected"), [(0.95, True), (0.8, True), (0.4, False)])
def test_there_is_a_shortcut_only_where_the_view_tells_the_class(
    right: float, expected: bool
) -> None:
    view = made()
    last = steps(view, right, 12)
    assert last[:3] == [False] * 3  # less than 512 rows say nothing
    assert last[-1] is expected
    assert view.figures()["shortcut"] is expected
    assert float(view.standing["found"]) == float(expected)


def test_evidence_is_the_agreement_of_the_latest_rows() -> None:
    view = made(window=1024, hint=0)
    steps(view, 0.4, 30)
    low = float(view.test.evidence)
    steps(view, 0.95, 30)
    assert low < 0.3 and float(view.test.evidence) > 0.85


@pytest.mark.parametrize(("right", "expected"), [(0.4, False), (0.9, True)])
def test_the_verdict_stands_once_it_is_settled_and_the_host_knows_it(
    right: float, expected: bool
) -> None:
    view = made(window=1024, early=1024, settle=1280)
    steps(view, right, 9)
    view.decide()
    assert view.verdict is None and view.at_work
    steps(view, right, 1)
    settled = float(view.test.evidence)
    for verdict in (None, expected):  # what the host knows; then it stops counting
        assert view.verdict is verdict and view.at_work is (verdict is not False)
        assert steps(view, 1.3 - right, 30) == [expected] * 30
        assert float(view.test.evidence) == settled
        view.decide()


@pytest.mark.parametrize("right", [0.4, 0.9])
@pytest.mark.parametrize("batches", [7, 12])
def test_a_resumed_verdict_is_as_it_was(right: float, batches: int) -> None:
    first, second = (made(window=1024, early=1024, settle=1280) for _ in range(2))
    steps(first, right, batches)
    first.decide()
    second.load_state_dict(first.state_dict())
    assert second.verdict is first.verdict is (None if batches == 7 else right > 0.5)
    assert second.figures() == first.figures()
    assert second.standing == first.standing
    assert step(second, right) is step(first, right)
    assert second.standing == first.standing


@pytest.mark.parametrize(("at_first", "expected"), [(0.4, False), (0.7, True)])
def test_what_is_told_only_later_is_no_shortcut(at_first: float, expected: bool) -> None:
    view = made(early=1024, window=1024)
    steps(view, at_first, 8)
    last = steps(view, 0.95, 40)[-1]
    assert float(view.test.tally.agreement[0]) > 0.85
    assert (float(view.test.evidence) >= 0.3) is last is expected
    assert bool(view.test.found) is expected


def test_rows_drawn_often_count_as_often_as_they_would_be_drawn_evenly() -> None:
    """Drawing contradicting rows nine times as often changes nothing of the evidence."""
    view = made()
    targets = torch.arange(CLASSES).repeat_interleave(32)
    often = torch.arange(128) % 4 < 3  # of each class three in four rows contradict
    label = torch.where(often, (targets + 1) % CLASSES, targets)
    rate = torch.where(often, 9.0, 0.3)
    logits, mixed = torch.zeros(128, CLASSES), torch.zeros(128, dtype=torch.bool)
    for _ in range(8):
        view.judge(label, often.float(), targets, logits, mixed, rate)
    told, contradicted = 1 / 0.3, 3 / 9
    expected = (told / (told + contradicted) - 0.25) / 0.75
    assert float(view.test.evidence) == pytest.approx(expected, abs=1e-5)


def test_mixed_rows_and_batches_without_a_contradiction_say_nothing() -> None:
    view = made()
    step(view, 1.0)  # as before the detector is ready
    step(view, 0.4, mixed=torch.ones(128, dtype=torch.bool))
    assert float(view.test.tally.seen.sum()) == 0 == float(view.test.rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0, expected a number between 0 and 1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"sure": 0.4}, r"sure is 0.4, expected 0.45 \(threshold\) <= sure <= 1"),
        ({"follow": 1.0}, "follow is 1.0, expected 0 <= follow < 1"),
        ({"hint": 0.5}, r"hint is 0.5, expected 0 <= hint <= 0.45 \(threshold\)"),
        ({"least": 0}, "least is 0, expected at least 1"),
        ({"window": 100}, r"window is 100, expected 512 \(least\) to 16384 \(settle\)"),
        ({"settle": 1000}, r"window is 4096, expected 512 \(least\) to 1000 \(settle\)"),
        ({"early": 100}, r"early is 100, expected 512 \(least\) to 16384 \(settle\)"),
        ({"early": 20000}, r"early is 20000, expected 512 \(least\) to 16384 \(settle\)"),
    ],
)
def test_wrong_arguments_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"ShortcutTest: {message}"):
        ShortcutTest(**settings)  # type: ignore[arg-type]


def test_a_detector_without_posteriors_is_refused() -> None:
    with pytest.raises(ValueError, match="CellView: the detector MassTrees has no class post"):
        CellView(MassTrees())
