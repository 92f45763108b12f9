"""What puts calls through a proxy: the port of the load generators, and what they tell."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Shape:
    """How calls arrive: `connections`, each with `streams` calls open at once."""

    connections: int
    streams: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a load generator says of calls that were all answered as they should be.

    seconds: for all of them.  p50_us, p99_us: of a call's time; None where the generator does not tell.
    """

    seconds: float
    p50_us: float | None = None
    p99_us: float | None = None


Go: TypeAlias = Callable[[], Report]


class Load(Protocol):
    def connected(self, port: int, calls: int, sampled: bool) -> AbstractContextManager[Go]:
        """Within the block, what it gives makes `calls` calls to `port` on loopback, once.

        sampled: what callers' trace context says, where the load lets the proxy choose.  Raises BenchError, when the
        block is entered or from what it gives, where a call was not answered as it should be.
        """
