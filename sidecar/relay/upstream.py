"""The model server's side: one pool of connections that reconnects with backoff, and the calls that wait for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from sidecar.logs import Log
from sidecar.relay.http2.connection import ClientConnection
from sidecar.relay.http2.errors import ConnectionFault
from sidecar.relay.http2.streams import Stream
from sidecar.relay.relay import Relay
from sidecar.relay.settings import UpstreamSettings
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.tls_errors import TlsError
from sidecar.relay.wire import Wire

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

_log = Log("upstream")
_UNAVAILABLE: Final = "model server is unavailable"  # where it is and why not is the operator's to know
_TICK_S: Final = 0.5
_ANSWER_S: Final = 10.0  # for a keepalive PING
_LINGER_S: Final = 5.0  # for a closed connection whose last bytes nobody reads


class UpstreamWire(Wire):
    """One connection to the model server."""

    connection: ClientConnection

    def __init__(self, pool: Pool, channel: TlsChannel | None) -> None:
        super().__init__(pool.relay.flusher, channel, pool.relay.clock())
        self._pool = pool
        self.announced = False
        self.retired = False  # told to go away, with calls still open
        self.failure = ""
        self.settled: asyncio.Future[None] = pool.loop.create_future()

    def clock(self) -> float:
        return self._pool.relay.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        watch(transport.get_extra_info("socket"))
        super().connection_made(transport)
        if self._channel is not None:
            self._write(self._channel.start())

    def ready(self) -> None:
        self.connection = ClientConnection(self._pool.settings.limits)
        self.connection.send_preface()
        self.touch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        connection = self.connection
        if connection is None or self.closing:
            return
        if not self.announced:
            if connection.settled and not self.settled.done():
                self.announced = True
                self.settled.set_result(None)
        elif not connection.usable:
            self._pool.retire(self)
        elif self._pool.waits:
            self._pool.serve()  # the model server may allow more streams now

    def refused(self, error: TlsError) -> None:
        self.failure = str(error)

    def faulted(self, fault: ConnectionFault) -> None:
        self.failure = str(fault)
        _log.warning("upstream_fault", code=fault.code.name, reason=fault.reason)

    def release(self, stream: Stream) -> None:
        """A call is done with its stream: another may have the slot."""
        self.connection.release(stream)
        stream.owner = None  # no cycle is left for the collector
        if not self.dirty:
            self.touch()
        if self.retired or self._pool.waits:
            self._pool.freed(self)

    def close(self) -> None:
        if not self.closing:
            super().close()
            self.gone("connection closed")
            if self.transport is not None:
                # A model server that does not read must not keep what is left to say for ever.
                self._pool.loop.call_later(_LINGER_S, self.transport.abort)

    def gone(self, reason: str) -> None:
        if not self.settled.done():
            self.settled.set_exception(ConnectionError(self.failure or reason))
            self.settled.exception()  # whoever connects may have given up
        self._pool.lost(self, self.failure or reason)


class Pool:
    """Connections to one model server. Calls wait while the first connection is made, or for a free stream."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        relay: Relay,
        settings: UpstreamSettings,
        channel: Callable[[], TlsChannel] | None,
        vet: Callable[[], Awaitable[str | None]] | None,
        jitter: Callable[[], float],
    ) -> None:
        """channel: makes the TLS side of a connection.  jitter: numbers in [0, 1).

        vet: why the model server may not be used although it answers, or None; asked whenever it comes up.
        """
        self.loop = loop
        self.relay = relay
        self.settings = settings
        self.failure: str | None = None  # why no connection can be had; None while there is one, or hope
        self._channel = channel
        self._vet = vet
        self._jitter = jitter
        self._wires: list[UpstreamWire] = []  # settled and usable
        self._retired: set[UpstreamWire] = set()  # told to go away, with calls still open
        self._waiting: dict[Exchange, float] = {}
        self._slots = settings.connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause = 0.0  # seconds before the next connection, while they do not last
        self._ticker: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def up(self) -> bool:
        return bool(self._wires)

    def start(self) -> None:
        for _ in range(self._slots):
            self._connect_soon()
        self._ticker = self.loop.call_later(_TICK_S, self._tick)

    async def stop(self) -> None:
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in [*self._wires, *self._retired]:
            wire.connection.drain()
            wire.flush()
            wire.close()

    def renew(self, channel: Callable[[], TlsChannel] | None) -> None:
        """TLS towards the model server has changed: new connections at once, and the old ones end with their calls."""
        self._channel = channel
        self._pause = 0.0
        for wire in list(self._wires):
            wire.opened = float("-inf")  # it did not fail: its successor need not wait
            self.retire(wire)

    def want(self, exchange: Exchange) -> None:
        """Give the exchange a connection now, later, or a reason why not."""
        wire = self.free()
        if wire is not None:
            exchange.upstream_ready(wire)
        elif self.failure is not None:
            exchange.upstream_failed("upstream.unreachable", _UNAVAILABLE)
        elif len(self._waiting) >= self.settings.queue:
            exchange.upstream_failed("upstream.queue_full", "model server is busy: too many calls wait for it")
        else:
            self._waiting[exchange] = self.relay.clock() + self.settings.queue_s

    def forget(self, exchange: Exchange) -> None:
        self._waiting.pop(exchange, None)

    def free(self) -> UpstreamWire | None:
        """The usable connection with the fewest calls."""
        wires = self._wires
        if len(wires) == 1:
            return wires[0] if wires[0].connection.can_open and not wires[0].closing else None
        best: UpstreamWire | None = None
        for wire in self._wires:
            connection = wire.connection
            if connection.can_open and not wire.closing:
                if best is None or connection.slots < best.connection.slots:
                    best = wire
        return best

    @property
    def waits(self) -> bool:
        """Whether calls wait for a stream."""
        return bool(self._waiting)

    @property
    def short(self) -> bool:
        """Whether unread answers hold nearly all the window of a connection, so that others' may soon not come."""
        return any(wire.connection.short for wire in (*self._wires, *self._retired))

    def freed(self, wire: UpstreamWire) -> None:
        if wire.retired:
            if not wire.connection.slots:
                wire.flush()
                wire.close()
        elif self._waiting:
            self.serve()

    def serve(self) -> None:
        """Give those who wait what streams there are, in their order."""
        while self._waiting:
            wire = self.free()
            if wire is None:
                return
            exchange = next(iter(self._waiting))
            del self._waiting[exchange]
            exchange.upstream_ready(wire)

    def retire(self, wire: UpstreamWire) -> None:
        """The model server sent GOAWAY: open calls go on, new ones go to another connection."""
        if wire in self._wires:
            self._wires.remove(wire)
            self._retired.add(wire)
            wire.retired = True
            self._replace(wire)
            if not wire.connection.slots:
                wire.close()

    def lost(self, wire: UpstreamWire, reason: str) -> None:
        self._retired.discard(wire)
        if wire in self._wires:
            self._wires.remove(wire)
            if not self._stopping:
                _log.warning("upstream_lost", address=self.settings.address, reason=reason)
                self._replace(wire)

    def _replace(self, wire: UpstreamWire) -> None:
        """Connect anew: at once where `wire` has lasted, else after a pause that grows."""
        settings = self.settings
        if self.relay.clock() - wire.opened >= settings.backoff_most_s:
            self._pause = 0.0
        else:
            self._pause = min(max(2 * self._pause, settings.backoff_first_s), settings.backoff_most_s)
        self._connect_soon(self._pause)

    def _connect_soon(self, pause: float = 0.0) -> None:
        if not self._stopping:
            task = self.loop.create_task(self._connect(pause))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, pause: float) -> None:
        """Try until there is a connection; calls fail fast from the first failure on."""
        if pause:
            await asyncio.sleep(self._jittered(pause))
        delay = self.settings.backoff_first_s
        while True:
            try:
                wire = await self._connect_once()
            except (OSError, TlsError, TimeoutError) as error:
                reason = _why(error, self.settings.connect_s)
            else:
                refusal = await self._refusal()
                if refusal is None and not wire.closing and wire.connection.usable:
                    self._join(wire)
                    return
                reason = refusal or wire.failure or "connection lost"
                wire.close()
            self._fail(reason)
            await asyncio.sleep(self._jittered(delay))
            delay = min(delay * 2, self.settings.backoff_most_s)

    async def _refusal(self) -> str | None:
        """Why the model server that answers may not be used, or None; what cannot be checked may not."""
        if self._vet is None:
            return None
        try:
            return await self._vet()
        except Exception as error:
            _log.error("upstream_check_failed", error)
            return "whether it may be used could not be checked"

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.5 + self._jitter() / 2)

    def _join(self, wire: UpstreamWire) -> None:
        if self.failure is not None or not self._wires:
            _log.info("upstream_up", address=self.settings.address)
        self.failure = None
        self._wires.append(wire)
        self.serve()

    def _fail(self, reason: str) -> None:
        if self._wires:
            return
        if self.failure != reason:
            _log.warning("upstream_down", address=self.settings.address, reason=reason)
        self.failure = reason
        waiting, self._waiting = self._waiting, {}
        for exchange in waiting:
            exchange.upstream_failed("upstream.unreachable", _UNAVAILABLE)

    async def _connect_once(self) -> UpstreamWire:
        settings = self.settings

        wire = UpstreamWire(self, self._channel() if self._channel is not None else None)
        try:
            async with asyncio.timeout(settings.connect_s):
                if settings.path:
                    await self.loop.create_unix_connection(lambda: wire, settings.path)
                else:
                    await self.loop.create_connection(lambda: wire, settings.host, settings.port)
                await wire.settled
                return wire
        except BaseException:
            # Cancelled while it connects, uvloop has closed the transport and tells the protocol nothing of it.
            wire.abort()
            raise

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(_TICK_S, self._tick)  # first: what follows must not end the watch
        now = self.relay.clock()
        late = [exchange for exchange, until in self._waiting.items() if until < now]
        for exchange in late:
            self._waiting.pop(exchange, None)
            exchange.upstream_failed("upstream.queue_timeout", "model server is busy: no free stream in time")
        for wire in [*self._wires, *self._retired]:
            # Without calls no PING: servers take that for abuse, and the transport's own keepalive is enough.
            if wire.connection.slots and not wire.keepalive(now, self.settings.keepalive_s, _ANSWER_S):
                _log.warning("upstream_silent", address=self.settings.address)
                wire.abort()


def watch(connection: socket.socket | None) -> None:
    """Have the kernel find out whether the other host is still there."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)  # seconds of silence
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)  # seconds
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)  # milliseconds unacknowledged


def _why(error: BaseException, connect_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no HTTP/2 settings within {connect_s:g} s"
    return str(error) or type(error).__name__
