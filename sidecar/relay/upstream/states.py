"""What can be told of the endpoints: a snapshot for status and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Condition = Literal["connecting", "ready", "unhealthy", "ejected", "down"]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One endpoint at one moment.

    address: as a config spells it; of a name, one that it resolved to.  reason: why it is down or unhealthy, or "".
    calls: open now.  ended, failures: calls that it answered or broke off, ever, and those that count against it.
    ejected_until: on the event loop's clock, seconds; None while it is not out.
    """

    address: str
    condition: Condition
    reason: str
    connections: int
    calls: int
    ended: int
    failures: int
    ejected_until: float | None


@dataclass(frozen=True, slots=True)
class PoolState:
    """waiting: calls without a connection yet.  retries: tries again so far; retries_refused: for want of budget."""

    endpoints: tuple[EndpointState, ...]
    waiting: int
    retries: int
    retries_refused: int
