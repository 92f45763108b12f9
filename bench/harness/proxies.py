"""What a round asks of a proxy under test, and how one shows that it did its work."""

from __future__ import annotations

from typing import Protocol

from bench.harness.processes import Process


class Proxy(Protocol):
    """A running proxy on loopback.

    title: as tables name it.  process: its first.  port: its TLS listener.  sampled: whether its callers' trace
    context says so.
    """

    @property
    def title(self) -> str: ...

    @property
    def process(self) -> Process: ...

    @property
    def port(self) -> int: ...

    @property
    def sampled(self) -> bool: ...

    def finish(self, calls: int) -> None:
        """The load is over: wait until all work for it is done.

        Raises BenchError unless the proxy's own evidence shows exactly `calls` calls since the last time.
        """
