"""What a round asks of a proxy under test, and how one shows that it did its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.harness.processes import Process


class Proxy(Protocol):
    """A running proxy on loopback.

    title: as tables name it.  process: its first.  port: its listener.  sampled: whether its callers' trace context
    says so.  share: of a round's calls that it is given, for one that takes much longer than others.
    """

    @property
    def title(self) -> str: ...

    @property
    def process(self) -> Process: ...

    @property
    def port(self) -> int: ...

    @property
    def sampled(self) -> bool: ...

    @property
    def share(self) -> float: ...

    def finish(self, calls: int) -> None:
        """The load is over: wait until all work for it is done.

        Raises BenchError unless the proxy's own evidence shows exactly `calls` calls since the last time.
        """


@dataclass(frozen=True, slots=True)
class Peer:
    """A running proxy of somebody else's. Its evidence is the answer that every call got, which the load checks."""

    title: str
    process: Process
    port: int
    share: float = 1.0
    sampled: bool = True

    def finish(self, calls: int) -> None:
        """Nothing is left to do once the last answer is out."""
