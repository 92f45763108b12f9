"""Names → addresses: looked up off the event loop, again and again, and sooner after a connection has failed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from sidecar.logs import Log
from sidecar.relay.settings import Target, UpstreamSettings

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
                hosts = set(await self._lookup(target.host, target.port))
            if not hosts:
                raise OSError("it has no address")
        except (OSError, TimeoutError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            _log.warning("upstream_lookup_failed", name=target.host, reason=reason)
            self._failed(target, f"'{target.host}' does not resolve: {reason}")
            self.hurry()
            return
        places = sorted((Target(host, target.port) for host in hosts), key=str)
        self._found(target, tuple(places[:ADDRESSES_MOST]))


class Directory:
    """Where all configured targets are now. places: each place, and the target that named it.

    unresolved: names without a place yet → why, None while the first look-up is under way.
    """

    def __init__(
        self, targets: Sequence[Target], lookup: Lookup, settings: UpstreamSettings, changed: Callable[[], None]
    ) -> None:
        """changed: told when anything here has."""
        self.places: dict[Target, Target] = {}
        self.unresolved: dict[Target, str | None] = {}
        self._found: dict[Target, tuple[Target, ...]] = {}
        self._changed = changed
        self._names: list[Name] = []
        for target in targets:
            if is_name(target):
                self.unresolved[target] = None
                self._names.append(
                    Name(target, lookup, every_s=settings.dns_s, least_s=settings.dns_least_s, found=self._on_found,
                         failed=self._on_failed)
                )  # fmt: skip
            else:
                self._found[target] = (target,)
        self._list()

    def watches(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What keeps each name fresh, to be run side by side."""
        return (name.keep() for name in self._names)

    def hurry(self, host: str) -> None:
        """A connection to `host` failed: it may be elsewhere now."""
        for name in self._names:
            if name.target.host == host:
                name.hurry()

    def _list(self) -> None:
        self.places = {place: target for target, places in self._found.items() for place in places}

    def _on_found(self, target: Target, places: tuple[Target, ...]) -> None:
        self.unresolved.pop(target, None)
        if self._found.get(target) != places:
            self._found[target] = places
            self._list()
            self._changed()

    def _on_failed(self, target: Target, reason: str) -> None:
        """What was known before stands."""
        if target in self.unresolved:
            self.unresolved[target] = reason
            self._changed()
