"""A worker's knowledge of policies, told as the feed tells it, and in force at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection
from typing import Final

from interceptors.access import About
from interceptors.contract import Call, Headers, Method, Peer, RawField
from sidecar.policy import rows
from sidecar.policy.known import Known
from sidecar.policy.model import Item

STALENESS_S: Final = 5.0
NOBODY: Final = About(None, 0)


class Knowing:
    """known: what is tested.  clock, heard: seconds, now and when it was last told.  changed: whom it told of.

    slow: a row fills a slice; else nothing does, however slow the machine.
    """

    def __init__(self, slow: bool = False) -> None:
        self.clock = self.heard = 1_000.0
        self.changed: list[Collection[str] | None] = []
        timer: Callable[[], float] = itertools.count().__next__ if slow else lambda: 0.0
        self.known = Known(lambda: self.clock - self.heard, self.changed.append, lambda: self.clock, timer)

    def tell(self, *items: Item, gone: Collection[str] = ()) -> None:
        """Of all this, as of now, and return once it is in force."""
        told: list[tuple[str, bytes | None]] = [(str(rows.key(item)), rows.encode(item)) for item in items]
        self.tell_rows(*told, *((key, None) for key in gone))

    def tell_rows(self, *told: tuple[str, bytes | None]) -> None:
        async def run() -> None:
            for key, row in told:
                self.known.listen(key, row)
            self.know()
            await settled()

        self.heard = self.clock
        asyncio.run(run())

    def know(self) -> None:
        """Whoever tells has read what there is."""
        self.known.listen_so(rows.SO, (self.clock, 1.0))

    def doubt(self, tenant: str = "default") -> str:
        return self.known.doubt(tenant, STALENESS_S)


async def settled() -> None:
    """Slices follow one another in turns of the loop, with nothing between."""
    for _ in range(1_000):
        await asyncio.sleep(0)


def called(
    path: str = "/a.B/C", now: float = 0.0, source: str = "192.0.2.1", headers: tuple[RawField, ...] = ()
) -> Call:
    return Call(Method(path, True, True), Headers(headers), Peer(f"{source}:5000", source), now)
