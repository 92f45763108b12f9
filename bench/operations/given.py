"""How much of everything a run does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Given:
    """rate: unary calls begun each second.  trials: of each kind of lost trust.  rounds: of limits.

    faults: of each kind of whoever decides.
    """

    rate: float
    streams: int
    changes: int
    kills: int
    stops: int
    trials: int
    rounds: int
    starts: int
    faults: int
