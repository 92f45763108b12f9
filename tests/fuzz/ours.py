"""Our two sides as subjects."""

from __future__ import annotations

from typing import Any

from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.connection import ClientConnection, Connection, ServerConnection
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.http2.streams import ENDED, Stream
from tests.fuzz.verdicts import REQUEST, RESPONSE, STREAM_WINDOW, TRAILERS, Act, Verdict, read_output, told

_ENDLESS = Rate(1e12, 10**12)
# Limits are each implementation's own (RFC 9113 §10.5): none is to be met.
WIDE = Limits(
    concurrent_streams=1_000, stream_window=STREAM_WINDOW, connection_window=STREAM_WINDOW, resets=_ENDLESS,
    refusals=_ENDLESS, pings=_ENDLESS, settings=_ENDLESS, priorities=_ENDLESS, empty_data=_ENDLESS, unknown=_ENDLESS,
    window_updates=_ENDLESS,
)  # fmt: skip


class _Call:
    """Owner of one stream."""

    def __init__(self, subject: Ours, stream: Stream | None = None) -> None:
        self.subject = subject
        self.stream = stream

    def _tell(self, kind: str, *what: Any) -> None:
        assert self.stream is not None
        self.subject.events.append((kind, self.stream.id, *what))

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        assert isinstance(head, ResponseHead)
        kind = "informational" if head.status < 200 else "head"
        self._tell(kind, ((b":status", b"%d" % head.status), *head.fields))
        if end:
            self._tell("end")

    def on_data(self, payload: bytes, end: bool) -> None:
        assert self.stream is not None
        self._tell("data", payload)
        self.subject.connection.consume(self.stream, len(payload))
        if end:
            self._tell("end")

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self._tell("trailers", trailers.fields)
        self._tell("end")

    def on_reset(self, code: int, reason: str) -> None:
        if reason:
            self.subject.reasons.append(reason)  # our own fault of it, which the output tells
        else:
            self._tell("reset", code)
        self._gone()

    def on_refused(self) -> None:
        self._tell("refused")
        self._gone()

    def _gone(self) -> None:
        assert self.stream is not None
        self.subject.connection.release(self.stream)

    def on_sent(self, count: int) -> None: ...


class Ours:
    """reasons: why streams were reset or the connection ended, in our own words."""

    connection: Connection

    def __init__(self, client: bool) -> None:
        self.over = False
        self.events: list[tuple[Any, ...]] = []
        self.reasons: list[str] = []
        self.credit: dict[int, int] = {}
        if client:
            self.connection = ClientConnection(WIDE)
        else:
            self.connection = ServerConnection(WIDE, self._accept, lambda fault: self.reasons.append(fault.reason))
        self.connection.send_preface()
        self._sent(Verdict())

    def _accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        stream.owner = _Call(self, stream)
        named = ((b":method", head.method), (b":scheme", head.scheme), (b":path", head.path),
                 (b":authority", head.authority))  # fmt: skip
        pseudo = [(name, value) for name, value in named if value is not None]
        self.events.append(("head", stream.id, (*pseudo, *head.fields)))
        if end:
            self.events.append(("end", stream.id))

    def receive(self, octets: bytes) -> Verdict:
        return self.receive_pieces([octets])

    def receive_pieces(self, pieces: list[bytes]) -> Verdict:
        """As `receive`, of bytes that come in pieces."""
        self.reasons.clear()
        for piece in pieces:
            self.connection.receive(piece, 0.0)
        verdict = Verdict(told(self.events))
        self.events.clear()
        self._sent(verdict)
        connection = self.connection
        if connection.fault is not None:
            self.reasons.append(connection.fault.reason)
        return verdict

    @property
    def unread(self) -> bytes:
        """What came of a frame that is not whole yet."""
        return self.connection._tail

    def window(self, stream: int) -> int:
        owner = self.connection.streams[stream] if stream else self.connection
        return max(0, owner.send_window)

    def sending(self) -> list[int]:
        """The connection (0) and the streams on which more may be sent."""
        return [0, *(stream.id for stream in self.connection.streams.values() if stream.send < ENDED)]

    def state(self, stream: int) -> str:
        """Of a stream, as RFC 9113 §5.1 has it for who receives: "closed" is told from "reset", by either side."""
        connection = self.connection
        if stream == 0:
            return "connection"
        if stream in connection.streams:
            return "half-closed" if connection.streams[stream].receive >= ENDED else "open"
        if connection._idle(stream):
            return "idle"
        return "reset" if stream in connection._reset_set else "closed"

    def _sent(self, verdict: Verdict) -> None:
        read_output(b"".join(self.connection.take()), verdict, self.credit)

    def act(self, act: Act) -> bool:
        connection = self.connection
        if act.deed == "open":
            return self._open(bool(act.size))
        stream = connection.streams.get(act.stream)
        if stream is None or connection.fault is not None:
            return False
        if act.deed == "reset":
            connection.reset(stream, 8)
            connection.release(stream)
        elif stream.send >= ENDED:
            return False
        elif act.deed == "head":
            if connection.is_client or stream.send:
                return False
            connection.send_head(stream, encode(RESPONSE), False)
        elif not stream.send or (act.deed == "say" and act.size > min(stream.send_window, connection.send_window)):
            return False
        elif act.deed == "say":
            connection.send_data(stream, bytes(act.size), False)
        else:
            connection.send_head(stream, encode(TRAILERS), True)
        self._sent(Verdict())
        return True

    def _open(self, end: bool) -> bool:
        connection = self.connection
        if not isinstance(connection, ClientConnection) or not connection.can_open:
            return False
        call = _Call(self)
        call.stream = connection.open(call, encode(REQUEST), end)
        self._sent(Verdict())
        return True

    def close(self) -> None: ...
