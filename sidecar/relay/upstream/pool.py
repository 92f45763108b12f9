"""All endpoints of one upstream, and the calls that wait for one of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.logs import Log
from sidecar.relay.http2.fields import Field
from sidecar.relay.meter import UNMETERED, Meter
from sidecar.relay.relay import Relay
from sidecar.relay.settings import Target, UpstreamSettings
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.upstream.balance import least
from sidecar.relay.upstream.budget import RetryBudget
from sidecar.relay.upstream.endpoint import Endpoint
from sidecar.relay.upstream.resolve import Directory, Lookup, system_lookup
from sidecar.relay.upstream.retries import pause_of
from sidecar.relay.upstream.states import EndpointState, PoolState
from sidecar.relay.upstream.wire import UpstreamWire

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

Admit = Callable[[socket.socket | None], str | None]
_log = Log("upstream")
_UNAVAILABLE: Final = "model server is unavailable"  # where it is and why not is the operator's to know
_TICK_S: Final = 0.1


class Pool:
    """Connections to the endpoints of one upstream. Calls wait for the first connection, or for a free stream.

    failure: why no call can be served, None while one can, or there is hope.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        relay: Relay,
        settings: UpstreamSettings,
        channel: Callable[[str], TlsChannel] | None,
        vet: Callable[[Target], Awaitable[str | None]] | None,
        jitter: Callable[[], float],
        *,
        admit: Admit = lambda _: None,
        lookup: Lookup | None = None,
        meter: Meter = UNMETERED,
    ) -> None:
        """channel: makes the TLS side of a connection to a host of that name.  jitter: numbers in [0, 1).

        vet: why an endpoint may not be used although it answers, or None; asked whenever it comes up, as a place.
        admit: why the process at a socket's other end is not the one meant, or None; asked before anything is sent.
        lookup: names to addresses, the host's own resolver where unset.  meter: told of connections made and lost.
        """
        self.loop = loop
        self.relay = relay
        self.settings = settings
        self.channel = channel
        self.admit = admit
        self.meter = meter
        self.failure: str | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._vet = vet
        self._jitter = jitter
        self._wires: list[UpstreamWire] = []  # what calls may be given
        self._turn = 0
        self._endpoints: dict[Target, Endpoint] = {}
        self._leaving: list[Endpoint] = []  # endpoints no more, with calls still open
        self._past = 0  # calls of endpoints that are gone
        self._waiting: dict[Exchange, float] = {}
        self._later: dict[Exchange, asyncio.TimerHandle] = {}
        self._budget = RetryBudget(settings.retries.budget, settings.retries.reserve)
        self._directory = Directory(settings.targets, lookup or system_lookup(loop), settings, self._list)
        self._ticker: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def up(self) -> bool:
        return bool(self._wires)

    @property
    def waits(self) -> bool:
        """Whether calls wait for a stream."""
        return bool(self._waiting)

    @property
    def short(self) -> bool:
        """Whether unread answers hold nearly all the window of a connection, so that others' may soon not come."""
        return any(wire.connection.short for endpoint in self._all() for wire in endpoint.every)

    def endpoints(self) -> tuple[EndpointState, ...]:
        return tuple(endpoint.state() for endpoint in self._endpoints.values())

    def state(self) -> PoolState:
        waiting = len(self._waiting) + len(self._later)
        return PoolState(self.endpoints(), waiting, self._budget.spent, self._budget.refused)

    def _all(self) -> list[Endpoint]:
        return [*self._endpoints.values(), *self._leaving]

    # --- its life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        for watch in self._directory.watches():
            self.run(watch)
        self._list()
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def renew(self, channel: Callable[[str], TlsChannel] | None) -> None:
        """TLS towards the model server has changed: new connections at once, and the old ones end with their calls."""
        self.channel = channel
        for endpoint in list(self._endpoints.values()):
            endpoint.renew()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def stop(self) -> None:
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        for endpoint in self._all():
            await endpoint.stop()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(_TICK_S, self._tick)  # first: what follows must not end the watch
        now = self.relay.clock()
        for exchange in [exchange for exchange, until in self._waiting.items() if until < now]:
            self._waiting.pop(exchange, None)
            if self._wires:
                exchange.upstream_failed("upstream.queue_timeout", "model server is busy: no free stream in time")
            else:
                exchange.upstream_failed("upstream.unreachable", _UNAVAILABLE)
        for endpoint in self._all():
            endpoint.tick(now)
        if self._leaving:
            self._past += sum(endpoint.record.calls for endpoint in self._leaving if endpoint.gone)
            self._leaving = [endpoint for endpoint in self._leaving if not endpoint.gone]

    # --- endpoints ----------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """An endpoint for each place, and for nothing else."""
        places = self._directory.places
        for place, source in places.items():
            if place not in self._endpoints:
                self._endpoints[place] = endpoint = Endpoint(self, place, source.host)
                endpoint.start()
        for place in self._endpoints.keys() - places.keys():
            _log.info("upstream_left", address=str(place))
            self.meter.upstream_forgotten(str(place))
            endpoint = self._endpoints.pop(place)
            self._leaving.append(endpoint)
            endpoint.leave()
        self.review()

    def hurry(self, host: str) -> None:
        """A connection to `host` failed: it may be elsewhere now."""
        self._directory.hurry(host)

    async def refusal(self, place: Target) -> str | None:
        """Why an endpoint that answers may not be used, or None; what cannot be checked may not."""
        if self._vet is None:
            return None
        try:
            return await self._vet(place)
        except Exception as error:
            _log.error("upstream_check_failed", error)
            return "whether it may be used could not be checked"

    def jittered(self, seconds: float) -> float:
        return seconds * (0.5 + self._jitter() / 2)

    def out(self) -> tuple[int, int]:
        """How many endpoints are ejected, and how many there are."""
        return sum(each.record.until is not None for each in self._endpoints.values()), len(self._endpoints)

    def review(self) -> None:
        """Something about an endpoint has changed: what calls may be given, and what becomes of those that wait."""
        if self._stopping:
            return
        usable = [endpoint for endpoint in self._endpoints.values() if endpoint.usable]
        # Where all that could serve are ejected, their failures say more about the calls, or about what they all need.
        chosen = [endpoint for endpoint in usable if endpoint.record.until is None] or usable
        self._wires = [wire for endpoint in chosen for wire in endpoint.wires]
        self.failure = None if self._wires or self._hopeful() else self._reason()
        if self._wires:
            self.serve()
        elif self.failure is not None and not self.settings.wait:
            waiting, self._waiting = self._waiting, {}
            for exchange in waiting:
                exchange.upstream_failed("upstream.unreachable", _UNAVAILABLE)

    def _hopeful(self) -> bool:
        return None in self._directory.unresolved.values() or any(each.hopeful for each in self._endpoints.values())

    def _reason(self) -> str:
        reasons = [endpoint.reason for endpoint in self._endpoints.values()]
        return next((reason for reason in (*reasons, *self._directory.unresolved.values()) if reason), "no endpoint")

    # --- calls --------------------------------------------------------------------------------------------------

    def free(self) -> UpstreamWire | None:
        """A connection that takes a call now: the one with the fewest."""
        wires = self._wires
        if len(wires) == 1 and not self.settings.calls_most:
            wire = wires[0]
            return wire if wire.connection.can_open and not wire.closing else None
        self._turn += 1
        return least(wires, self._turn, self._jitter)

    def want(self, exchange: Exchange) -> None:
        """Give the exchange a connection now, later, or a reason why not."""
        wire = self._other(exchange.up_wire) or self.free()
        if wire is not None:
            exchange.upstream_ready(wire)
        elif self.failure is not None and not self.settings.wait:
            exchange.upstream_failed("upstream.unreachable", _UNAVAILABLE)
        elif len(self._waiting) >= self.settings.queue:
            exchange.upstream_failed("upstream.queue_full", "model server is busy: too many calls wait for it")
        else:
            self._waiting[exchange] = self.relay.clock() + self.settings.queue_s
            any(endpoint.grow() for endpoint in self._endpoints.values() if endpoint.usable)

    def _other(self, last: UpstreamWire | None) -> UpstreamWire | None:
        """For a call that is tried again a connection to another endpoint, where one takes it."""
        if last is None:
            return None
        self._turn += 1
        return least([wire for wire in self._wires if wire.endpoint is not last.endpoint], self._turn, self._jitter)

    def forget(self, exchange: Exchange) -> None:
        self._waiting.pop(exchange, None)
        timer = self._later.pop(exchange, None)
        if timer is not None:
            timer.cancel()

    def serve(self) -> None:
        """Give those who wait what streams there are, in their order."""
        while self._waiting:
            wire = self.free()
            if wire is None:
                return
            exchange = next(iter(self._waiting))
            del self._waiting[exchange]
            exchange.upstream_ready(wire)

    def excuses(self, wire: UpstreamWire) -> bool:
        """Whether a call that was not processed on `wire` may be tried again.

        Where the connection goes away, or is gone, that costs the model server nothing; else it is spent of the budget.
        """
        return wire.closing or not wire.connection.usable or self._spend()

    def retries(self, attempts: int, answer: tuple[Field, ...]) -> float | None:
        """Seconds after which a call that may have been processed may be tried again, or None: it may not.

        attempts: made so far, at least 1.  answer: the fields it was answered with, if any.
        """
        settings = self.settings.retries
        if attempts > settings.attempts:
            return None
        pause = pause_of(answer, self.jittered(settings.backoff_s * 2 ** (attempts - 1)))
        return pause if pause is not None and pause <= self.settings.queue_s and self._spend() else None

    def _spend(self) -> bool:
        return self._budget.spend(self._past + sum(endpoint.record.calls for endpoint in self._all()))

    def want_later(self, exchange: Exchange, seconds: float) -> None:
        self._later[exchange] = self.loop.call_later(seconds, partial(self._wanted, exchange))

    def _wanted(self, exchange: Exchange) -> None:
        del self._later[exchange]
        self.want(exchange)
