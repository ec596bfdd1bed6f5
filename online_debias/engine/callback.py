"""The events of a fit, and the two kinds of listeners: callbacks act, monitors watch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from online_debias.engine.batch import Batch
from online_debias.engine.run import Run
from online_debias.errors import expect

if TYPE_CHECKING:
    from online_debias.functional.metrics import Report
    from online_debias.memory.recorder import Scalar


InputTurn = Literal["vary", "append", "mix"]
INPUT_TURNS: tuple[InputTurn, ...] = get_args(InputTurn)


class Event(Enum):
    """The loop, with every event in its place; the values are the names of the hooks.

    ```
    on_fit_start(run)                 after setup(run), and after a checkpoint was loaded
      on_epoch_start(run)
        on_batch(batch)               before forward: may replace inputs, batch.append(...)
           forward; taps fill batch.features
        on_features(batch)            detectors score, then learn; signals are published;
                                      batch.shift_logits(...)
           losses = criterion(logits + sum(shifts), targets), one a sample
        on_loss(batch)                batch.reweight(...), batch.add_loss(...)
           loss = mean(weights * losses) + sum(terms); backward; optimizer step
        on_step_end(batch)            run.samples knows the step; run.resample(...), run.record(...)
      on_epoch_end(run)
    on_evaluate(report, run)   on_save(run)   on_exception(run, error)   on_fit_end(run)
    ```

    Only callbacks that override a hook are called.
    """

    FIT_START = "on_fit_start"
    EPOCH_START = "on_epoch_start"
    BATCH = "on_batch"
    FEATURES = "on_features"
    LOSS = "on_loss"
    STEP_END = "on_step_end"
    EPOCH_END = "on_epoch_end"
    EVALUATE = "on_evaluate"
    SAVE = "on_save"
    EXCEPTION = "on_exception"
    FIT_END = "on_fit_end"


def snake_case(name: str) -> str:
    """Return a class name as a callback's default name.

    Example:
        >>> snake_case("ConflictScore"), snake_case("EnD")
        ('conflict_score', 'end')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower()


class Callback(nn.Module):
    """Changes the run, by contributions that commute with those of other callbacks.

    A callback is a module and its state is its buffers: device moves and exact resume come for
    free. It never holds the model. Hooks must not wait for the GPU: no `.item()`, `bool(tensor)`
    or boolean-mask indexing.

    Attributes:
        requires: signals it reads.
        optional: signals it reads if a callback publishes them; it runs after that one.
        provides: signals it publishes.
        input_turn: what it does to inputs in `on_batch`, where order matters: "vary" rows in place,
            "append" copies of rows, or "mix" rows; in this order.
        taps: names of all features that it may read; see `active_taps`.
        uses_annotations: True if it reads true bias labels; its run is then marked "oracle".
        bias: `[N]` int64, those labels; set by the engine if `uses_annotations`, else None.
        lr_scale: learning rate of its parameters, relative to the model's.
        run: the fit it belongs to; set by the engine before `setup`.

    Args:
        name: unique in a run; the class name in snake case by default.

    Example:
        >>> class WeighByLoss(Callback):
        ...     def on_loss(self, batch):
        ...         batch.reweight(self.name, batch.losses.detach())
        >>> WeighByLoss().name
        'weigh_by_loss'
    """

    requires: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    input_turn: InputTurn = "vary"
    taps: tuple[str, ...] = ()
    uses_annotations = False
    lr_scale = 1.0
    run: Run
    bias: Tensor | None = None

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name or snake_case(type(self).__name__)

    def expect(self, name: str, value: object, valid: bool, expected: str) -> None:
        """Raise ValueError unless an argument is valid; see `errors.expect`."""
        expect(self, name, value, valid, expected)

    @property
    def active_taps(self) -> tuple[str, ...]:
        """Names of the features that it reads in the step that follows; all of `taps`."""
        return self.taps

    def setup(self, run: Run) -> None:
        """Make buffers whose shapes depend on the data; called once, before a checkpoint loads."""

    def on_fit_start(self, run: Run) -> None:
        """Training begins or goes on."""

    def on_epoch_start(self, run: Run) -> None:
        """An epoch begins."""

    def on_batch(self, batch: Batch) -> None:
        """Replace `batch.inputs`, before the forward pass."""

    def on_features(self, batch: Batch) -> None:
        """Score the features, learn from them, publish signals."""

    def on_loss(self, batch: Batch) -> None:
        """Reweight rows, add loss terms."""

    def on_step_end(self, batch: Batch) -> None:
        """Update memories, propose sampling factors, record."""

    def on_epoch_end(self, run: Run) -> None:
        """An epoch is over; the next round is drawn after this."""

    def on_fit_end(self, run: Run) -> None:
        """Training is over."""

    def findings(self) -> dict[str, float | str]:
        """Return what was found, by name, for results.json; called once training is over."""
        return {}

    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the bias value of each row, `[B]` int64; None if the callback cannot tell.

        Asked of images outside training, so it must learn nothing from them. A bias value that is
        the row's target means that the row looks bias-aligned.

        Args:
            features: tap -> `[B, D]`, read in evaluation mode.
            inputs: `[B, ...]`, what the model was given.
        """
        return None


class Monitor:
    """Watches the run and changes nothing: it gets everything detached, after the step.

    Monitors alone see bias annotations: `bias` is `[B]` int64, None where the data has none. A
    monitor that fails is closed and reported once; training goes on. What is known of samples and
    the verdict are the run's (`run.samples`, `run.shortcut`), whoever watches.

    Example:
        >>> class Losses(Monitor):
        ...     def on_step_end(self, batch, bias, run):
        ...         print(f"step {run.step}: {batch.losses.mean():.2f}")
    """

    def on_fit_start(self, run: Run) -> None:
        """Training begins or goes on from `run.step`."""

    def on_epoch_start(self, run: Run) -> None:
        """An epoch begins."""

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        """A step is over."""

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        """Scalars recorded over the last interval were read, in bulk."""

    def on_epoch_end(self, run: Run) -> None:
        """An epoch is over."""

    def on_evaluate(self, report: Report, run: Run) -> None:
        """An evaluation is over."""

    def on_save(self, run: Run) -> None:
        """A checkpoint is about to be written."""

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Training ends with `error`."""

    def on_fit_end(self, run: Run) -> None:
        """Training is over; also called after `on_exception`. Close files here."""

    def state_dict(self) -> dict[str, Any]:
        """State to save with a checkpoint: tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
