"""A reload in two phases: every child prepares, then all switch, or none. Sending is `supervisor`'s.

(nothing) ──begin──► PREPARING ──all prepared──► COMMITTED
                         └──a fault, or out of time──► ABANDONED
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto


class Verdict(Enum):
    PREPARING = auto()
    COMMITTED = auto()
    ABANDONED = auto()


class Switch:
    """children: names of those that must be able to.  deadline: seconds on the caller's clock."""

    def __init__(self, generation: int, children: Collection[str], deadline: float) -> None:
        self.generation = generation
        self.verdict = Verdict.PREPARING
        self.faults: list[list[str]] = []
        self.children = frozenset(children)
        self._missing = set(children)
        self._deadline = deadline
        self._settle()

    def prepared(self, child: str, generation: int, faults: Sequence[list[str]]) -> Verdict:
        """A child has answered; one that answers about another generation has said nothing."""
        if generation == self.generation and self.verdict is Verdict.PREPARING:
            self._missing.discard(child)
            self.faults += [fault for fault in faults if fault not in self.faults]
            self._settle()
        return self.verdict

    def gone(self, child: str) -> Verdict:
        """A child has ended: its successor starts with whatever is decided."""
        if self.verdict is Verdict.PREPARING:
            self._missing.discard(child)
            self._settle()
        return self.verdict

    def tick(self, now: float) -> Verdict:
        if self.verdict is Verdict.PREPARING and now >= self._deadline:
            self.faults.append(["", f"no answer in time from {', '.join(sorted(self._missing))}"])
            self.verdict = Verdict.ABANDONED
        return self.verdict

    def _settle(self) -> None:
        if self.faults:
            self.verdict = Verdict.ABANDONED
        elif not self._missing:
            self.verdict = Verdict.COMMITTED
