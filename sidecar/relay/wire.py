"""A transport, its TLS and its HTTP/2 connection, and the flush that all connections of a loop share."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from sidecar.logs import Log
from sidecar.relay.http2.connection import Connection
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode
from sidecar.relay.http2.streams import Piece
from sidecar.relay.tls_channel import SLICE, TlsChannel
from sidecar.relay.tls_errors import TlsError

C = TypeVar("C", bound=Connection | None)
_log = Log("relay")
_HIGH_WATER: Final = 512 << 10  # bytes in the transport beyond which nothing more is taken from a connection
_IOV_MAX: Final = 1024  # pieces in one writev(2)
_TURN_S: Final = 0.002  # in a turn of the loop, for what one connection has sent, and for all that is behind


class Flusher:
    """Writes what connections have to send once an event loop turn, so that many frames share one write.

    turn: changes with the turns of the loop in which anything is sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timer: Callable[[], float]) -> None:
        """timer: seconds, within a turn of the loop too."""
        self._loop = loop
        self._timer = timer
        self._dirty: list[Wire[Any]] = []
        self._hasty: list[Wire[Any]] = []
        self._behind: deque[Callable[[], None]] = deque()
        self.turn = 0

    def soon(self, work: Callable[[], None]) -> None:
        """In the next turn of the loop, after what others have sent meanwhile."""
        self._loop.call_soon(work)

    def in_turn(self, work: Callable[[], None]) -> None:
        """In a turn of the loop to come, one after the other: however many are behind, whoever is not waits for few.

        work: raises nothing.
        """
        if not self._behind:
            self._loop.call_soon(self._go_on)
        self._behind.append(work)

    def _go_on(self) -> None:
        behind = self._behind
        until = self._timer() + _TURN_S
        for _ in range(len(behind)):  # what is put off again waits for the next turn
            behind[0]()  # it stays there meanwhile, so that `in_turn` leaves the next turn to us
            behind.popleft()
            if self._timer() > until:
                break
        if behind:
            self._loop.call_soon(self._go_on)

    def mark(self, wire: Wire[Any]) -> None:
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(wire)

    def hasten(self, wire: Wire[Any]) -> None:
        self._hasty.append(wire)

    def catch_up(self) -> None:
        """Write what connections have to send that holds what was read in memory."""
        if self._hasty:
            hasty, self._hasty = self._hasty, []
            for wire in hasty:
                wire.hasty = False
                self._write(wire)

    def _flush(self) -> None:
        self.turn += 1
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            wire.dirty = False
            self._write(wire)

    def _write(self, wire: Wire[Any]) -> None:
        try:
            wire.flush()
        except Exception as error:
            # A defect of ours: it ends this connection and keeps no other waiting.
            _log.error("relay_defect", error)
            wire.abort()


class Wire(asyncio.Protocol, Generic[C]):
    """One TCP or Unix connection. connection: its HTTP/2 side, None while it is not known who the peer is.

    of_one: whether it is one caller's, who may wait; what a model server says is for all of them.
    """

    of_one: ClassVar[bool]

    def __init__(self, flusher: Flusher, channel: TlsChannel | None, connection: C, now: float) -> None:
        self._flusher = flusher
        self._channel = channel
        self.transport: asyncio.Transport | None = None
        self.connection = connection
        self.dirty = False
        self.hasty = False
        self._socket = -1  # its descriptor
        self.opened = now
        self.heard = now  # when bytes last came
        self.closing = False
        self.closing_since = 0.0
        self._paused = False
        self._turn = -1  # of the flusher's, in which it last had one
        self._began = 0.0  # when that began, on the timer's clock
        self._later: deque[Callable[[], None]] = deque()  # what waits for a turn, beside what came
        self._behind = False  # what came waits for its turn, and nothing more is read
        self._pinged: float | None = None
        self._pongs = 0

    def clock(self) -> float:
        raise NotImplementedError

    def timer(self) -> float:
        """Seconds, within a turn of the loop too."""
        raise NotImplementedError

    def ready(self) -> None:
        """TLS is up, or was not asked for: begin HTTP/2, or call `close`."""
        raise NotImplementedError

    def tls_failed(self, error: TlsError) -> None:
        """The handshake failed, or what came after it is not TLS; the connection is closed next."""

    def faulted(self, fault: ConnectionFault) -> None:
        """The peer broke the connection's rules; it is closed next."""

    def gone(self, reason: str) -> None:
        """The transport is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self.transport.set_write_buffer_limits(_HIGH_WATER)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            self._socket = connection.fileno()
        if self._channel is None:
            self.ready()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        now = self.heard = self.clock()
        channel = self._channel
        if channel is not None:
            fresh = not channel.handshaken
            try:
                data = channel.receive(data)
            except TlsError as error:
                self._write(channel.pending())
                self.tls_failed(error)
                self.close()
                return
            if fresh:
                self._write(channel.pending())
                if not channel.handshaken:
                    return
                self.ready()
            if not data and not channel.closed:
                return
        self.process(data, now)

    def process(self, data: bytes, now: float) -> None:
        """Have the connection look at what came, and at what has waited for its turn."""
        connection = self.connection
        if connection is None or self.closing:
            return  # `ready` has refused the peer
        turn = self._flusher.turn
        if turn != self._turn or not self.of_one:  # a socket may be read many times in one turn of the loop
            self._turn = turn
            self._began = self.timer()
        try:
            connection.receive(data, now, self.late)
        except Exception as error:
            # A defect of ours: nothing more of this connection can be trusted to be in order.
            _log.error("relay_defect", error)
            connection.abort(ErrorCode.INTERNAL_ERROR, "internal error")
        self._flusher.catch_up()
        if connection.fault is not None:
            self.faulted(connection.fault)
            self.flush()
            self.close()
            return
        self.touch()
        if connection.behind:
            if not self._behind and self.transport is not None:
                self._behind = True
                self.transport.pause_reading()
            self._soon(self._catch_up)
        elif self._channel is not None and self._channel.closed:
            # The peer has said goodbye at the TLS level, and waits for ours: the same as the end of its bytes.
            self.flush()
            self.close()

    def late(self) -> bool:
        """Whether this connection's turn is over; outside of its turns it is."""
        return self.timer() - self._began > _TURN_S

    def _soon(self, work: Callable[[], None]) -> None:
        if self.of_one:
            self._flusher.in_turn(work)
        else:
            self._flusher.soon(work)

    def later(self, work: Callable[[], None]) -> None:
        """Do `work` in a turn to come, which all that is put off shares: what is `late` then puts itself off again."""
        if not self._later:
            self._soon(self._go_on)
        self._later.append(work)

    def _go_on(self) -> None:
        later = self._later
        self._began = self.timer()
        while later:
            try:
                later[0]()  # it stays there meanwhile, so that `later` leaves the next turn to us
            except Exception as error:
                self._defect(error)
            later.popleft()
            if self.late():
                break
        if later:
            self._soon(self._go_on)

    def _defect(self, error: Exception) -> None:
        """A defect of ours, outside of what the transport asks for: what waited for this turn would wait for ever."""
        _log.error("relay_defect", error)
        self.abort()

    def _catch_up(self) -> None:
        try:
            self.process(b"", self.clock())
        except Exception as error:
            self._defect(error)
            return
        connection, transport = self.connection, self.transport
        # Of whoever is parted with the end is still to be heard.
        if self.closing or (connection is not None and not connection.behind):
            self._behind = False
            if transport is not None and not transport.is_closing():
                transport.resume_reading()

    def touch(self) -> None:
        """The connection has something to send, perhaps: flush it in this turn of the loop."""
        if not self.dirty:
            self.dirty = True
            self._flusher.mark(self)

    def hasten(self) -> None:
        """The connection has something to send that keeps what was read in memory: flush it before more is read."""
        if not self.hasty:
            self.hasty = True
            self._flusher.hasten(self)
        if not self.dirty:
            self.touch()

    def flush(self) -> None:
        connection = self.connection
        if connection is None or self._paused or self.closing or self.transport is None:
            return
        bulky = connection.bulky
        pieces = connection.take()
        if pieces:
            if self._channel is not None:
                try:
                    self._seal(self._channel, b"".join(pieces))
                except TlsError:
                    self.abort()
                    return
            elif bulky:
                self._write_all(pieces)
            else:
                self._write(b"".join(pieces))
        if connection.stalled and not self._paused:
            connection.pump()
            if connection.pending:
                self.touch()
        if connection.draining and connection.finished and not connection.pending:
            self.drained()

    def _write_all(self, pieces: list[Piece]) -> None:
        """Write long pieces without joining them. What the socket does not take now is copied: views hold far more."""
        transport, sent = self.transport, 0
        if transport is None or transport.is_closing():
            return
        if self._socket >= 0 and not transport.get_write_buffer_size():
            try:
                sent = os.writev(self._socket, pieces[:_IOV_MAX])
            except OSError:
                sent = 0  # it is full, or the transport finds the same fault
        for number, piece in enumerate(pieces):
            size = len(piece)
            if sent < size:
                transport.write(b"".join((memoryview(piece)[sent:], *pieces[number + 1 :])))
                break
            sent -= size

    def _seal(self, channel: TlsChannel, data: bytes) -> None:
        """Write `data` in records. Raises TlsError."""
        if len(data) <= SLICE:
            self._write(channel.send(data))
            return
        view = memoryview(data)
        for at in range(0, len(data), SLICE):
            self._write(channel.send(view[at : at + SLICE]))

    def drained(self) -> None:
        """A draining connection has no stream left."""

    def _write(self, data: Piece) -> None:
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """Say goodbye at the TLS level and close once what is written has left; streams still open are lost."""
        if not self.closing:
            self._say_goodbye()
            if self.transport is not None:
                self.transport.close()

    def part(self) -> None:
        """The same, without loss of what is written: the peer closes first, and what it still says is dropped.

        A socket that is closed while something in it is unheard is reset (RFC 1122 4.2.2.13), by which the peer may
        lose what it has not read: a WINDOW_UPDATE or PING of its own would cost it the end of an answer.
        """
        if not self.closing:
            self._say_goodbye()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write_eof()

    def _say_goodbye(self) -> None:
        self.closing = True
        self.closing_since = self.clock()
        if self.connection is not None:
            self.connection.lost("connection closed")
        if self._channel is not None and self._channel.handshaken:
            self._write(self._channel.close())

    def abort(self) -> None:
        """Drop the connection at once, with what has not left yet."""
        self.closing = True
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()

    def pause_writing(self) -> None:
        self._paused = True
        if self.connection is not None:
            self.connection.room = 0

    def resume_writing(self) -> None:
        self._paused = False
        self.touch()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.transport = None
        reason = "connection lost" if exc is None else f"connection lost: {type(exc).__name__}"
        if self.connection is not None:
            self.connection.lost(reason)
        self.gone(reason)

    def keepalive(self, now: float, quiet_s: float, answer_s: float) -> bool:
        """PING a quiet peer; False when an earlier PING was not answered in time."""
        connection = self.connection
        if connection is None or self.closing:
            return True
        if self._pinged is not None:
            if connection.pongs > self._pongs or self.heard > self._pinged:
                self._pinged = None
            elif now - self._pinged > answer_s:
                return False
        elif now - self.heard > quiet_s:
            self._pinged, self._pongs = now, connection.pongs
            connection.send_ping(b"keepaliv")
            self.touch()
        return True
