"""The stages of a step: wiring checks, events, loss and state; any training loop can drive it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.engine.batch import Batch
from online_debias.engine.callback import Callback, Event, Monitor
from online_debias.engine.checks import (
    check_logits,
    check_losses,
    check_state,
    load_states,
    norms,
    warn_of_untrained,
)
from online_debias.engine.dispatch import Dispatch, named
from online_debias.engine.ordering import in_order, none_is_oracle, unique_names
from online_debias.engine.run import Run
from online_debias.engine.sampling import RoundSampler
from online_debias.engine.weights import (
    Combine,
    Normalize,
    check_composition,
    compose,
    weighted_mean,
)
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.memory.recorder import Recorder
from online_debias.runtime import distributed, seeds
from online_debias.taps.taps import Tap, Taps

Criterion = Callable[[Tensor, Tensor], Tensor]


class Engine:
    """Runs callbacks and monitors inside a training loop, through four calls.

    Args:
        model: the classifier; its features are read by hooks.
        callbacks: in any order.
        monitors: in any order.
        taps: name -> module path or `Tap`, beside the defaults "bottleneck" and "shallow".
        n_samples: length of the training set.
        n_classes: number of target classes.
        criterion: `(logits, targets) -> losses [B]`, one a row.
        bias: `[N]` bias annotations, for monitors (and oracle callbacks) only.
        combine, normalize, clip: how weight factors become weights, see `weights.compose`.
        seed: of everything random here.
        max_steps: planned number of steps, if known.
        log_every: steps between two reads of the recorded scalars.

    Raises:
        ValueError: the wiring cannot work: a cyclic or missing signal, two callbacks of one name,
            an unknown tap, an oracle callback without annotations.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> engine = Engine(model, n_samples=8, n_classes=2)
        >>> batch = engine.start_step(torch.arange(3), torch.zeros(3, 4), torch.tensor([0, 1, 1]))
        >>> loss = engine.loss(batch, model(batch.inputs))
        >>> loss.backward()  # then optimizer.step()
        >>> engine.end_step(batch)
        >>> engine.end_epoch()
    """

    def __init__(
        self,
        model: nn.Module,
        callbacks: Iterable[Callback] = (),
        monitors: Iterable[Monitor] = (),
        *,
        n_samples: int,
        n_classes: int,
        taps: Mapping[str, str | Tap] | None = None,
        criterion: Criterion = cross_entropy,
        bias: Tensor | None = None,
        combine: Combine = "product",
        normalize: Normalize = "batch",
        clip: tuple[float, float] = (0.0, math.inf),
        seed: int = 0,
        max_steps: int | None = None,
        log_every: int = 50,
    ) -> None:
        self.callbacks = in_order(callbacks)
        unique_names(self.callbacks)
        if bias is None:
            none_is_oracle(self.callbacks)
        device = next((p.device for p in model.parameters()), None)
        if device is None:
            raise ValueError(f"The model {type(model).__name__} has no parameters to train.")
        self.recorder = Recorder(device)
        self.taps = Taps(model, taps, {name for call in self.callbacks for name in call.taps})
        self.run = Run(n_samples, n_classes, device, seed, self._record, max_steps, self.taps.width)
        self.sampling = RoundSampler(self.run)
        self.oracle = any(callback.uses_annotations for callback in self.callbacks)
        check_composition(combine, normalize, clip)
        self._criterion = criterion
        self._compose = (combine, normalize, clip)
        self._log_every = log_every
        self._bias = None if bias is None else bias.to(device)
        self._started = self._in_epoch = False
        self._steps_opened = self._steps_closed = 0  # steps of this epoch
        self._rows, self._opened = 0, 0.0
        self._dispatch = Dispatch(self.callbacks, monitors, self.run)
        self.emit, self.watch = self._dispatch.emit, self._dispatch.watch
        for callback in self.callbacks:
            callback.run = self.run
            if callback.uses_annotations:
                callback.bias = self._bias
            with seeds.fixed(seed, callback.name, "weights"), named(callback, "setup", 0):
                callback.setup(self.run)
            callback.to(device)
        self._initial = [norms(callback) for callback in self.callbacks]

    @property
    def monitors(self) -> list[Monitor]:
        """Monitors that are still at work."""
        return self._dispatch.monitors

    @property
    def seconds_watching(self) -> float:
        """Time spent in monitors so far; they measure a run, they are not part of it."""
        return self._dispatch.seconds_watching

    # The four calls of a loop.

    def start_step(self, index: Tensor, inputs: Tensor, targets: Tensor) -> Batch:
        """Open a step with rows `index` `[B]` of the training set; forward `batch.inputs` next.

        A step that is given up may stay open: the next one takes its place.

        Raises:
            RuntimeError: callbacks resample, but the loader does not draw by `sampler`.
        """
        if not self._started:
            self._started = True
            self.emit(Event.FIT_START, self.run)
        if not self._in_epoch:
            self._in_epoch = True
            self.sampling.check_in_use()
            self.emit(Event.EPOCH_START, self.run)
        device = self.run.device
        self._opened = time.perf_counter()
        self._steps_opened += 1
        index, inputs, targets = (
            distributed.gather_rows(value.to(device, non_blocking=True))
            for value in (index, inputs, targets)
        )
        self._rows = len(index)  # callbacks may append others
        batch = Batch(
            step=self.run.step,
            epoch=self.run.epoch,
            index=index,
            inputs=inputs,
            targets=targets,
            rate=self.sampling.rate_of(index),
            mixed=torch.zeros(len(index), dtype=torch.bool, device=device),
            originals=inputs,
        )
        self.emit(Event.BATCH, batch)
        self.read_features()
        return batch.of_rank()

    def loss(self, batch: Batch, logits: Tensor) -> Tensor:
        """Return the scalar to call `backward` on, from the model's `logits` `[B, C]`.

        Raises:
            ConfigError: these are no such logits, or the criterion does not give one loss a row.
        """
        check_logits(logits, len(batch), self.run.n_classes)
        with torch.autocast(batch.index.device.type, enabled=False):  # losses stay in float32
            batch.logits = logits.float()
            batch.features = {name: x.float() for name, x in self.taps.finish().items()}
            batch = batch.gathered()
            assert batch.logits is not None
            self.emit(Event.FEATURES, batch)
            shifted = sum((batch.shifts[name] for name in sorted(batch.shifts)), batch.logits)
            batch.losses = self._criterion(shifted, batch.targets)
            check_losses(batch.losses, len(batch))
            self.emit(Event.LOSS, batch)
            self.run.record("train/loss", batch.losses.detach().mean())
            composed = compose(batch.factors, *self._compose) if batch.factors else None
            batch.weights, record = composed, self.run.record
            total = weighted_mean(batch.losses, composed, batch.factors, record)
            for name in sorted(batch.terms):
                self.run.record(f"terms/{name}", batch.terms[name].detach())
                total = total + batch.terms[name]
        return total

    def end_step(self, batch: Batch) -> None:
        """Close a step, after the optimizer's."""
        batch = batch if batch.whole is None else batch.whole
        assert batch.logits is not None
        index, targets, logits = batch.index, batch.targets, batch.logits.detach()
        if batch.signals:
            self.run.samples.remember(index, targets, batch.signals, batch.known)
        if self.monitors:
            self.run.samples.count(index, targets, logits, ~batch.mixed)
        self.emit(Event.STEP_END, batch)
        right = logits.argmax(1) == targets
        self.run.record("train/accuracy", right.float().mean())
        self.run.record("time/step_ms", 1e3 * (time.perf_counter() - self._opened))
        if self.monitors:
            seen = batch.detached()
            bias = None if self._bias is None else self._bias[batch.index]
            self.watch("on_step_end", seen, bias, self.run)
        self.sampling.consume(self._rows)
        self._steps_closed += 1
        self.run.step += 1
        if self.run.step % self._log_every == 0:
            self.flush()

    def end_epoch(self) -> None:
        """Close an epoch; the next one is drawn from the sampling tables as they stand now.

        Raises:
            RuntimeError: none of its steps was closed.
        """
        if self._steps_opened and not self._steps_closed:
            raise RuntimeError(
                f"Of {self._steps_opened} steps none was closed; call engine.end_step(batch) "
                "after each of the optimizer's."
            )
        self._steps_opened = self._steps_closed = 0
        self.flush()  # a loss that is not finite is found before anyone builds on the epoch
        if self.run.epoch == 0:
            warn_of_untrained(self.callbacks, self._initial)
        self.emit(Event.EPOCH_END, self.run)
        self.flush()
        self.run.epoch += 1
        self.sampling.next_round()
        self._in_epoch = False

    # What a loop may need besides.

    def read_features(self) -> None:
        """Read what callbacks want to see of the forward pass that follows."""
        self.taps.start(name for callback in self.callbacks for name in callback.active_taps)

    def sampler(self, seed: int | None = None) -> RoundSampler:
        """Return the sampler for the loader; `resample` has no effect without it."""
        if seed is not None:
            self.sampling.seed = seed
        return self.sampling

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the callbacks, for the optimizer."""
        return [p for callback in self.callbacks for p in callback.parameters()]

    @torch.no_grad()
    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the bias value of rows outside training, `[B]`; None where no callback can tell.

        Of several callbacks the last one that can tell counts.
        """
        features = {name: value.float() for name, value in features.items()}
        answers = (call.predict_bias(features, inputs) for call in reversed(self.callbacks))
        return next((answer for answer in answers if answer is not None), None)

    def end_fit(self) -> None:
        """Close the fit: the last records are read and monitors close their files."""
        self.flush()
        self.emit(Event.FIT_END, self.run)

    def close(self) -> None:
        """Take the hooks off the model, which can be pickled then; no step may follow."""
        self.taps.remove()

    def flush(self) -> None:
        """Read the recorded scalars and hand them to the monitors."""
        scalars = self.recorder.flush()
        if scalars:
            self.watch("on_scalars", scalars, self.run)

    def state_dict(self) -> dict[str, Any]:
        """State of callbacks, monitors, sampling and progress: tensors, numbers and strings."""
        self.flush()
        self.watch("on_save", self.run)
        return {
            "progress": {
                "seed": self.run.seed,
                "step": self.run.step,
                "epoch": self.run.epoch,
                "open": self._in_epoch,
                "stop_reason": self.run.stop_reason,
            },
            "callbacks": {c.name: dict(c.state_dict()) for c in self.callbacks},
            "monitors": {name: m.state_dict() for name, m in self._dispatch.named_monitors()},
            "samples": self.run.samples.state_dict(),
            "shortcut": self.run.shortcut.state_dict(),
            "sampling": self.sampling.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state is of a run with another seed or other callbacks; names them.
        """
        check_state(state, self.run.seed, self.callbacks)
        load_states(state["callbacks"], self.callbacks)
        for name, monitor in self._dispatch.named_monitors():
            monitor.load_state_dict(state["monitors"].get(name, {}))
        self.run.samples.load_state_dict(state["samples"])
        self.run.shortcut.load_state_dict(state["shortcut"])
        self.sampling.load_state_dict(state["sampling"])
        progress = state["progress"]
        self.run.step, self.run.epoch = progress["step"], progress["epoch"]
        self.run.stop_reason = progress["stop_reason"]
        self._in_epoch = progress["open"]

    def _record(self, name: str, value: Tensor | float) -> None:
        self.recorder.add(self.run.step, self.run.epoch, name, value)
