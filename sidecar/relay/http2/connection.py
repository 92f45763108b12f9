"""One HTTP/2 connection, either side, sans-I/O: `receive` bytes, act on owners, `take` bytes to send.

Time comes in as an argument and sockets, TLS and timers are the caller's. What a connection is made of, each on top of
the one before: `outbound`, `credit`, `inbound`, `signals`, and here the two sides.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.relay.http2 import frames, streams
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode, Http2Error, StreamFault
from sidecar.relay.http2.fields import RequestHead, ResponseHead
from sidecar.relay.http2.limits import Budget, Limits
from sidecar.relay.http2.signals import Signals
from sidecar.relay.http2.streams import AWAIT, BODY, ENDED, RECEIVE, RESET, Stream, StreamOwner


class Connection(Signals):
    """What both sides share; `ServerConnection` and `ClientConnection` say what a stream's first block is."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.slots = 0  # streams not yet released by their owners

    @property
    def finished(self) -> bool:
        """Whether a drain is over: our last GOAWAY has named the last stream taken, and no stream is left."""
        named = self.is_client or self._last_accepted != frames.MAX_STREAM_ID
        return self.draining and named and not self.streams and not self.slots

    def reset(self, stream: Stream, code: int, blame: bool = False) -> None:
        """End a stream by RST_STREAM; what waits to be sent is dropped. blame: the peer led us to it."""
        if self.streams.get(stream.id) is not stream:
            return
        self._put(frames.rst_stream(stream.id, code))
        self._forget(stream)
        if blame and not self._resets.spend(self._now):
            self.abort(ErrorCode.ENHANCE_YOUR_CALM, "too many resets")

    def release(self, stream: Stream) -> None:
        """The owner is done with a stream: its slot is free and window it still holds is given back."""
        if stream.released:
            return
        stream.released = True
        self.slots -= 1
        self._lent -= stream.span - self._first
        if stream.held:
            self._return_connection(stream.held)
            stream.held = 0

    def abort(self, code: ErrorCode, reason: str) -> None:
        """End the connection at once with GOAWAY; the caller flushes, closes and calls `lost`."""
        if self.fault is None:
            self._fail(ConnectionFault(code, reason))

    def lost(self, reason: str) -> None:
        """The transport is gone: every stream ends."""
        left = list(self.streams.values())
        self.streams.clear()
        self._blocked.clear()
        for stream in left:
            stream.receive = stream.send = RESET
            stream.queue = stream.tail = None
            if stream.owner is not None:
                stream.owner.on_reset(ErrorCode.CANCEL, reason)


class ServerConnection(Connection):
    """The side that clients connect to."""

    is_client = False
    resets_remembered = 1024

    def __init__(
        self,
        limits: Limits,
        accept: Callable[[Stream, RequestHead, bool], None],
        malformed: Callable[[Http2Error], None],
    ) -> None:
        """accept: given each new stream, its head and whether it has ended; it sets the stream's owner.

        malformed: told of what a client sent that nobody came to own: a StreamFault was reset, for a ConnectionFault
        the connection drains.
        """
        super().__init__(limits)
        self._accept = accept
        self._malformed = malformed
        self._refusals = Budget(limits.refusals)

    def forget_requests(self) -> None:
        """What was noted with request heads is out of date."""
        self._blocks.forget_requests()

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._on_trailers(stream, block, end)
            return
        if number % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream of even number")
        if number <= self._highest:
            self._on_late_block(number, block)
            return
        head = self._blocks.request(block)
        self._highest = number
        beyond = self.slots >= self.limits.concurrent_streams or number > self._last_accepted
        if beyond or number in self._reset_set:  # reset before it was opened
            self._refuse(number)
            return
        stream = Stream(number, self._peer_initial, self._first)
        stream.receive = ENDED if end else BODY
        self.streams[number] = stream
        fault = head.fault
        if fault is None and end and head.length > 0:
            fault = StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match")
        if fault is not None:
            self._stream_fault(stream, fault)
            self._malformed(fault)
            return
        stream.expected = head.length
        self.slots += 1
        self._accept(stream, head, end)

    def _on_idle_reset(self, number: int) -> None:
        """RFC 9113 §6.4: a connection error. GOAWAY says so, and calls that are open still come to their end.

        gRPC's C core resets streams that it has not opened yet when their calls are cancelled at once
        (grpc/grpc#19655, #38758): the other calls of that client, and those it is just opening, have done nothing.
        """
        self._spend_reset()
        self._remember_reset(number)
        if not self.draining:
            self._malformed(ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream"))
            self.drain(ErrorCode.PROTOCOL_ERROR)

    def _on_late_block(self, number: int, block: bytes) -> None:
        """HEADERS on a closed stream."""
        self._blocks.trailers(block)  # the table must follow even blocks nobody reads
        if number not in self._reset_set:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        self._spend_reset()

    def _refuse(self, number: int) -> None:
        """One stream too many: a peer that has not seen our SETTINGS or GOAWAY yet may well open some."""
        if not self._refusals.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams beyond the limit")
        self._put(frames.rst_stream(number, ErrorCode.REFUSED_STREAM))
        self._remember_reset(number)


class ClientConnection(Connection):
    """The side that opens streams: towards the model server."""

    is_client = True
    # Cancelling a burst of calls must not make faults of the answers in flight: a server has few such connections.
    resets_remembered = 16_384

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._next = 1

    @property
    def can_open(self) -> bool:
        """Whether `open` may be called now."""
        return self.slots < self.peer_streams and self.usable

    def open(self, owner: StreamOwner, block: bytes, end: bool) -> Stream:
        """Open a stream with its head. Only while `can_open`."""
        stream = Stream(self._next, self._peer_initial, self._first)
        stream.owner = owner
        self._highest = self._next
        self._next += 2
        if self._next > frames.MAX_STREAM_ID:
            self.usable = False
        self.streams[stream.id] = stream
        self.slots += 1
        self.send_head(stream, block, end)
        return stream

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None:
            if self._idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on an idle stream")
            self._blocks.trailers(block)
            if number not in self._reset_set:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
            return
        if stream.receive != AWAIT:
            self._on_trailers(stream, block, end)
            return
        head = self._blocks.response(block)
        fault = head.fault
        if fault is None and head.oversize:
            fault = StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "response headers too large")
        if fault is None and end and head.length > 0:
            fault = StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match")
        if fault is None and end and head.status < 200:
            fault = StreamFault(ErrorCode.PROTOCOL_ERROR, "informational response ends the stream")
        if fault is not None:
            self._stream_fault(stream, fault)
            return
        self._on_response(stream, head, end)

    def _on_response(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        kind = streams.INFORMATIONAL if head.status < 200 else streams.HEADERS_END if end else streams.HEADERS
        stream.receive = RECEIVE[AWAIT][kind]
        if kind == streams.INFORMATIONAL:
            self._spend_update()  # a server may send several, but not without end
        else:
            stream.expected = head.length
            stream.since = self._now
            self._retire(stream)
        stream.owner.on_head(head, end)  # type: ignore[union-attr]
