"""Names → addresses: looked up off the event loop, again and again, and sooner after a connection has failed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from sidecar.logs import Log
from sidecar.relay.settings import Target

Lookup: TypeAlias = Callable[[str, int], Awaitable[Iterable[str]]]  # host, port → IP addresses; raises OSError
ADDRESSES_MOST: Final = 64  # of one name
_LOOKUP_S: Final = 10.0
_log = Log("upstream")


def is_name(target: Target) -> bool:
    """Whether a target must be looked up. localhost need not: both its addresses are one server (RFC 6761 §6.3)."""
    host = target.host.lower()
    if not host or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def system_lookup(loop: asyncio.AbstractEventLoop) -> Lookup:
    """The host's own resolver, in a thread."""

    async def lookup(host: str, port: int) -> Iterable[str]:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(place[0]) for *_, place in found]

    return lookup


class Name:
    """One target that is a name.  found: told its places, sorted, each once; failed: told why there are none."""

    def __init__(
        self,
        target: Target,
        lookup: Lookup,
        *,
        every_s: float,
        least_s: float,
        found: Callable[[Target, tuple[Target, ...]], None],
        failed: Callable[[Target, str], None],
    ) -> None:
        """every_s: between look-ups.  least_s: the same when one is wanted sooner, or has failed."""
        self.target = target
        self._lookup = lookup
        self._every_s, self._least_s = every_s, least_s
        self._found, self._failed = found, failed
        self._soon = asyncio.Event()

    def hurry(self) -> None:
        """A connection has failed: the name may have moved."""
        self._soon.set()

    async def keep(self) -> None:
        """Look it up for ever."""
        while True:
            self._soon.clear()
            await self._look()
            await asyncio.sleep(self._least_s)
            try:
                async with asyncio.timeout(self._every_s - self._least_s):
                    await self._soon.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        target = self.target
        try:
            async with asyncio.timeout(_LOOKUP_S):
                hosts = await self._lookup(target.host, target.port)
        except (OSError, TimeoutError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            _log.warning("upstream_lookup_failed", name=target.host, reason=reason)
            self._failed(target, f"'{target.host}' does not resolve: {reason}")
            self.hurry()
            return
        places = sorted({Target(host, target.port) for host in hosts}, key=str)
        if places:
            self._found(target, tuple(places[:ADDRESSES_MOST]))
