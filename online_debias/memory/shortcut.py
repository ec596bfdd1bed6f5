"""The verdict: is there a shortcut, and where is it seen? One object, which all others ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.memory.former_names import current_name

Figure = float | str | bool


class Shortcut:
    """Whether there is a shortcut.

    One callback looks for it and writes here (`seek`, `see`, `rest`, `describe`); whoever acts,
    watches or reports reads. Where nobody looks, `seen` is true: every score counts.

    Attributes:
        sought: whether a callback looks for a shortcut.
        signals: names of the signals that mean nothing while none is seen.
        seen: 0-dim bool on the device, whether one is seen, as of the latest step.
        resting: whether the host knows that none is seen, so that who acts on the signals may
            rest; a step costs nothing then.
        figures: what results.json says of it, as of the latest epoch's end; empty while nobody
            looks.

    Example:
        >>> verdict = Shortcut(torch.device("cpu"))
        >>> verdict.sought, bool(verdict.seen)
        (False, True)
    """

    def __init__(self, device: torch.device) -> None:
        self.sought, self.resting = False, False
        self.signals: frozenset[str] = frozenset()
        self.seen = torch.ones((), dtype=torch.bool, device=device)
        self.figures: dict[str, Figure] = {}

    def seek(self, signals: Iterable[str]) -> None:
        """Begin to look: `signals` mean nothing until a shortcut is seen.

        Raises:
            ValueError: another callback looks already.
        """
        if self.sought:
            raise ValueError("Two callbacks look for a shortcut; leave one of them out.")
        self.sought, self.signals = True, frozenset(map(current_name, signals))
        self.seen.fill_(False)

    def rests(self, signal: str) -> bool:
        """Whether the host knows that a signal means nothing, so that who acts on it may rest."""
        return self.resting and current_name(signal) in self.signals

    def counts(self, signal: str) -> Tensor:
        """Whether a signal means something, 0-dim bool: a shortcut is seen, or none is needed."""
        return self.seen if current_name(signal) in self.signals else torch.ones_like(self.seen)

    def extend(self, signals: Iterable[str], made_of: Iterable[str]) -> None:
        """Say that `signals` mean nothing either while what they are `made_of` does not."""
        if not self.signals.isdisjoint(map(current_name, made_of)):
            self.signals |= frozenset(map(current_name, signals))

    def see(self, seen: Tensor) -> None:
        """Say whether a shortcut is seen, 0-dim bool; the host need not know."""
        self.seen.copy_(seen)

    def rest(self, resting: bool) -> None:
        """Say whether the host knows that none is seen."""
        self.resting = resting

    def describe(self, figures: Mapping[str, Figure]) -> None:
        """Say what was found, by the names of results.json."""
        self.figures = dict(figures)

    def state_dict(self) -> dict[str, Any]:
        """The verdict, as far as it is known."""
        return {
            "sought": self.sought,
            "signals": sorted(self.signals),
            "seen": self.seen,
            "resting": self.resting,
            "figures": self.figures,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is of a verdict on other signals.
        """
        signals = frozenset(state["signals"])
        if self.sought and signals != self.signals:
            raise ValueError(
                f"The checkpoint's verdict is on {', '.join(sorted(signals)) or 'no signal'}, this "
                f"run's on {', '.join(sorted(self.signals))}; resume with the recipe the run was "
                "started with."
            )
        self.sought, self.signals = state["sought"], signals
        self.seen.copy_(state["seen"])
        self.resting, self.figures = state["resting"], dict(state["figures"])
