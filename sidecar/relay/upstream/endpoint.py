"""One address of the model server: its connections, made again when they end, and whether calls may go there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from sidecar.logs import Log
from sidecar.relay.settings import Target
from sidecar.relay.upstream.dial import DialError, SentAwayError, UnfitError, dial
from sidecar.relay.upstream.eject import Record, room
from sidecar.relay.upstream.examiner import Examiner
from sidecar.relay.upstream.states import Condition, EndpointState
from sidecar.relay.upstream.wire import UpstreamWire

if TYPE_CHECKING:
    from sidecar.relay.upstream.pool import Pool

_log = Log("upstream")
_SPARE_S: Final = 30.0  # an additional connection without calls is kept so long
_LASTED_S: Final = 1.0  # a connection that was told to go away after this time is replaced at once


class Endpoint:
    """failure: why no connection can be had, None while there is one, or hope.  wires: settled and usable."""

    def __init__(self, pool: Pool, target: Target, name: str) -> None:
        """name: the host as configured, which TLS expects in the certificate."""
        self.pool = pool
        self.target = target
        self.name = name
        self.address = str(target)
        self.record = Record(pool.settings.ejection, pool.relay.clock())
        self.failure: str | None = None
        self.wires: list[UpstreamWire] = []
        self._retired: set[UpstreamWire] = set()  # told to go away, with calls still open
        self._connecting = 0
        self._pause = 0.0  # seconds before the next connection, while they do not last
        self._tasks: set[asyncio.Task[None]] = set()
        self._examiner = Examiner(self, pool.settings.health)
        self._leaving = False

    @property
    def every(self) -> list[UpstreamWire]:
        return [*self.wires, *self._retired]

    @property
    def calls(self) -> int:
        return sum(wire.connection.slots for wire in self.every)

    @property
    def full(self) -> bool:
        most = self.pool.settings.calls_most
        return bool(most) and self.calls >= most

    @property
    def usable(self) -> bool:
        """Whether it can serve as far as is known; being ejected is another matter."""
        return bool(self.wires) and self._examiner.standing.known and not self._examiner.standing.reason

    @property
    def hopeful(self) -> bool:
        """Whether it may become usable any moment, for nothing has failed yet."""
        return not self._examiner.standing.known if self.wires else self.failure is None

    @property
    def reason(self) -> str:
        return self._examiner.standing.reason if self.wires else self.failure or ""

    def state(self) -> EndpointState:
        return EndpointState(
            self.address,
            self._condition(),
            self.reason,
            len(self.wires),
            self.calls,
            self.record.calls,
            self.record.failures,
            self.record.until,
        )

    def _condition(self) -> Condition:
        if self.hopeful:
            return "connecting"
        if not self.usable:
            return "unhealthy" if self.wires else "down"
        return "ready" if self.record.until is None else "ejected"

    # --- its life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._refill()

    def leave(self) -> None:
        """It is an endpoint no more: open calls go on, and connections close with the last of them."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        for wire in list(self.wires):
            self._set_aside(wire)
            wire.connection.drain()
            wire.touch()
            self.freed(wire)

    async def stop(self) -> None:
        """Close everything now."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self.every:
            wire.connection.drain()
            wire.flush()
            wire.close()

    @property
    def gone(self) -> bool:
        return self._leaving and not self._retired

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for as long as this is an endpoint."""
        task = self.pool.run(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- connections --------------------------------------------------------------------------------------------

    def _refill(self, pause: float = 0.0) -> None:
        """Begin what connections are lacking."""
        while not self._leaving and len(self.wires) + self._connecting < self.pool.settings.connections:
            self._begin(pause)

    def grow(self) -> bool:
        """Begin an additional connection, where all streams are taken and it may have one (gRPC proposal A105)."""
        most = self.pool.settings.connections_most
        if self.full or not self.wires or self._connecting or len(self.wires) >= most:
            return False
        self._begin(0.0)
        return True

    def _begin(self, pause: float) -> None:
        self._connecting += 1
        self.run(self._connect(pause))

    async def _connect(self, pause: float) -> None:
        """Try until there is a connection."""
        settings, delay = self.pool.settings, self.pool.settings.backoff_first_s
        begun = self.pool.relay.clock() + pause
        try:
            if pause:
                await asyncio.sleep(self.pool.jittered(pause))
            while True:
                try:
                    wire = await self._connect_once()
                    break
                except DialError as error:
                    self.pool.meter.upstream_connected(self.address, error.result)
                    # Sent away is no failure, as long as calls that wait for the next connection still may.
                    lenient = isinstance(error, SentAwayError) and self.pool.relay.clock() - begun <= settings.queue_s
                    if not lenient:
                        self._fail(str(error))
                await asyncio.sleep(self.pool.jittered(delay))
                delay = delay if lenient else min(delay * 2, settings.backoff_most_s)
        finally:
            self._connecting -= 1
        self.pool.meter.upstream_connected(self.address, "success")
        self._join(wire)

    async def _connect_once(self) -> UpstreamWire:
        """A connection to use. Raises DialError."""
        wire = await dial(self, self.target, self.pool.settings.connect_s)
        try:
            refusal = await self.pool.refusal(self.target)
        except BaseException:
            wire.abort()  # cancelled: it belongs to nobody
            raise
        if refusal is None and not wire.closing and wire.connection.usable:
            return wire
        sent_away = wire.connection.peer_goaway is not None
        wire.close()
        if refusal is None and sent_away:
            raise SentAwayError("the connection was sent away before it was of use")
        if refusal is not None:
            raise UnfitError(refusal)
        raise DialError(wire.failure or "connection lost")

    def _join(self, wire: UpstreamWire) -> None:
        self.failure = None
        self.wires.append(wire)
        if len(self.wires) == 1:
            _log.info("upstream_up", address=self.address)
            self.pool.meter.upstream_state(self.address, True)
            self._examiner.begin()
        self.pool.review()

    def _fail(self, reason: str) -> None:
        if self.wires:
            return
        if self.failure != reason:
            _log.warning("upstream_down", address=self.address, reason=reason)
        self.pool.meter.upstream_state(self.address, False)
        self.failure = reason
        self.pool.review()
        self.pool.hurry(self.name)

    def retire(self, wire: UpstreamWire) -> None:
        """The model server sent GOAWAY: open calls go on, new ones go to another connection, made at once."""
        if wire not in self.wires:
            return
        self._set_aside(wire)
        lasted = wire.used or self.pool.relay.clock() - wire.opened >= _LASTED_S
        self._refill(0.0 if lasted else self._longer_pause(wire))
        self.pool.review()
        self.freed(wire)

    def renew(self) -> None:
        """Other connections in place of those that are there, whose calls go on."""
        for wire in list(self.wires):
            self._set_aside(wire)
            self.freed(wire)
        self._refill()
        self.pool.review()

    def _set_aside(self, wire: UpstreamWire) -> None:
        self.wires.remove(wire)
        self._retired.add(wire)
        wire.retired = True

    def lost(self, wire: UpstreamWire, reason: str) -> None:
        self._retired.discard(wire)
        if wire not in self.wires:
            return
        self.wires.remove(wire)
        if self._leaving:
            return
        _log.warning("upstream_lost", address=self.address, reason=reason)
        if not self.wires:
            self.pool.meter.upstream_state(self.address, False)
        self._refill(self._longer_pause(wire))
        self.record.fail()
        self.blame()
        self.pool.review()
        self.pool.hurry(self.name)

    def _longer_pause(self, wire: UpstreamWire) -> float:
        """Seconds before the next connection: none where `wire` has lasted, else more each time."""
        settings = self.pool.settings
        if self.pool.relay.clock() - wire.opened >= settings.backoff_most_s:
            self._pause = 0.0
        else:
            self._pause = min(max(2 * self._pause, settings.backoff_first_s), settings.backoff_most_s)
        return self._pause

    def freed(self, wire: UpstreamWire) -> None:
        """A call has left `wire`, or it was set aside."""
        if not wire.retired:
            self.pool.serve()
        elif not wire.connection.slots:
            wire.flush()
            wire.close()

    # --- health -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look after its connections and its time out; several times a second."""
        settings = self.pool.settings
        for wire in self.every:
            if not wire.watch(now, settings.keepalive_s, settings.keepalive_answer_s):
                _log.warning("upstream_silent", address=self.address)
                # Calls do not wait for it: the next connection is taken up, and as silent, for all that is known.
                self.failure = f"no answer to a PING within {settings.keepalive_answer_s:g} s"
                wire.give_up(self.failure)
            elif settings.try_s:
                wire.overdue(now, settings.try_s)
        if self.record.readmit(now):
            _log.info("upstream_readmitted", address=self.address)
            self.pool.review()
        if len(self.wires) > settings.connections:
            self._close_spare(now)

    def _close_spare(self, now: float) -> None:
        for wire in self.wires:
            if not wire.connection.slots and now - wire.heard > _SPARE_S:
                self._set_aside(wire)
                wire.connection.drain()
                self.pool.review()
                self.freed(wire)
                return

    def blame(self) -> None:
        """A call has failed, or a connection: put the endpoint out where that is too much and others are left."""
        record, now = self.record, self.pool.relay.clock()
        if record.until is not None or not record.bad(now):
            return
        out, endpoints = self.pool.out()
        if room(out, endpoints, self.pool.settings.ejection.share):
            _log.warning("upstream_ejected", address=self.address, seconds=record.eject(now))
            self.pool.review()
