"""One connection to an endpoint: how it comes up, what shows that it is alive, and what becomes of its calls."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, cast

from interceptors.contract import Code
from sidecar.logs import Log
from sidecar.relay.http2.connection import ClientConnection
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode
from sidecar.relay.http2.streams import AWAIT, ENDED, Stream
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.tls_errors import TlsError
from sidecar.relay.wire import Wire

if TYPE_CHECKING:
    from sidecar.relay.upstream.endpoint import Endpoint

_log = Log("upstream")
_LINGER_S: Final = 5.0  # for a closed connection whose last bytes nobody reads
_EARLY: Final = 2  # PINGs within one silence
# grpc/doc/keepalive.md: a gRPC server closes a connection at the third PING that comes within five minutes of the last
# while it sends nothing itself; two leave room for one of somebody's own.
_PATIENT_S: Final = 310.0
_UNAVAILABLE: Final = int(Code.UNAVAILABLE)
UNJUDGED: Final = -1  # a call whose end says nothing of the model server


class UpstreamWire(Wire[ClientConnection]):
    """One connection. failure: why it ended, where that is known."""

    of_one = False

    def __init__(self, endpoint: Endpoint, channel: TlsChannel | None) -> None:
        pool = self._pool = endpoint.pool
        super().__init__(pool.relay.flusher, channel, ClientConnection(pool.settings.limits), pool.relay.clock())
        self.endpoint = endpoint
        self.record = endpoint.record
        self.announced = False
        self.retired = False  # told to go away, with calls still open
        self.failure = ""
        self.settled: asyncio.Future[None] = pool.loop.create_future()
        self._early = 0
        self._flushed = 0  # the last stream whose head has been handed to the transport
        self._asked: dict[int, float] = {}  # streams that wait for their answer's head → since when

    def clock(self) -> float:
        return self._pool.relay.clock()

    def timer(self) -> float:
        return self._pool.relay.timer()

    @property
    def used(self) -> bool:
        """Whether it has carried a call."""
        return self._flushed > 0

    @property
    def load(self) -> int:
        """Calls open on it, or -1 where it can take none."""
        connection = self.connection
        if not connection.can_open or self.closing or self.endpoint.full:
            return -1
        return connection.slots

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        watch(connection)
        refusal = self._pool.admit(connection)
        if refusal is not None:
            self.failure = refusal
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)
        if self._channel is not None:
            self._write(self._channel.start())

    def ready(self) -> None:
        self.connection.send_preface()
        self.touch()

    def process(self, data: bytes, now: float) -> None:
        super().process(data, now)
        connection = self.connection
        if self.closing:
            return
        if self._pinged is None:
            self._early = 0  # it speaks of itself: the silence is over
        if not self.announced:
            if connection.settled and not self.settled.done():
                self.announced = True
                self.settled.set_result(None)
        elif not connection.usable:
            self.endpoint.retire(self)
        elif self._pool.waits:
            self._pool.serve()  # the model server may allow more streams now

    def flush(self) -> None:
        super().flush()
        connection = self.connection
        if connection.streams and not connection.pending:
            last = next(reversed(connection.streams))
            if last > self._flushed:
                self._flushed = last

    def tls_failed(self, error: TlsError) -> None:
        self.failure = str(error)

    def faulted(self, fault: ConnectionFault) -> None:
        self.failure = str(fault)
        _log.warning("upstream_fault", address=self.endpoint.address, code=fault.code.name, reason=fault.reason)

    def release(self, stream: Stream, status: int = UNJUDGED) -> None:
        """A call is done with its stream: another may have the slot.

        status: the gRPC status that the model server ended the call with, or that its failing means.
        """
        self.connection.release(stream)
        stream.owner = None  # no cycle is left for the collector
        if not self.dirty:
            self.touch()
        if status == _UNAVAILABLE:
            self.record.fail()
            self.endpoint.blame()
        elif status >= 0:
            self.record.calls += 1
            if self.record.running:
                self.record.running = 0
        if self.retired or self._pool.waits:
            self.endpoint.freed(self)

    def watch(self, now: float, quiet_s: float, answer_s: float) -> bool:
        """PING in a silence; False when an earlier PING was not answered in time. Not without calls: that is abuse."""
        if not self.connection.slots:
            return True
        before = self._pinged
        alive = self.keepalive(now, quiet_s if self._early < _EARLY else _PATIENT_S, answer_s)
        if before is None and self._pinged is not None:
            self._early += 1
        return alive

    def overdue(self, now: float, try_s: float) -> None:
        """Break off calls whose request has been whole for `try_s` seconds and that have no head of an answer yet."""
        before, self._asked = self._asked, {}
        for number, stream in list(self.connection.streams.items()):
            if stream.receive != AWAIT or stream.send < ENDED or stream.queue is not None:
                continue
            since = self._asked[number] = before.get(number, now)
            if now - since >= try_s and stream.owner is not None:
                owner = stream.owner
                self.connection.reset(stream, ErrorCode.CANCEL)
                self.record.fail()
                owner.on_reset(ErrorCode.CANCEL, f"no answer within {try_s:g} s")
                self.touch()
                self.endpoint.blame()

    def give_up(self, reason: str) -> None:
        """Drop the connection at once, its calls with it."""
        self.closing = True
        self.failure = reason
        self.refuse_unsent()
        self.connection.lost(reason)
        self.abort()
        self.gone(reason)

    def refuse_unsent(self) -> None:
        """Of calls whose head has not left the model server knows nothing: they may be tried again."""
        connection = self.connection
        for number in [number for number in connection.streams if number > self._flushed]:
            stream = connection.streams.get(number)
            if stream is not None and stream.owner is not None:
                owner = stream.owner
                connection.reset(stream, ErrorCode.CANCEL)
                owner.on_refused()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.refuse_unsent()
        super().connection_lost(exc)

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
        self.endpoint.lost(self, self.failure or reason)


def watch(connection: socket.socket | None) -> None:
    """Have the kernel find out whether the other host is still there."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)  # seconds of silence
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)  # seconds
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)  # milliseconds unacknowledged
