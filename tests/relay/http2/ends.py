"""Both ends of an HTTP/2 connection for tests: frames by hand, and a connection whose events and output can be read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.connection import ClientConnection, Connection, ServerConnection
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import Field, Line, RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.http2.streams import Stream

NAMES = {
    0: "DATA", 1: "HEADERS", 2: "PRIORITY", 3: "RST_STREAM", 4: "SETTINGS", 5: "PUSH_PROMISE", 6: "PING", 7: "GOAWAY",
    8: "WINDOW_UPDATE", 9: "CONTINUATION",
}  # fmt: skip
REQUEST: tuple[Field, ...] = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc"),
)  # fmt: skip
RESPONSE: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS: tuple[Field, ...] = ((b"grpc-status", b"0"),)
ENDLESS = Rate(1e12, 10**12)
# What a test of something else may send without meeting a budget.
GENEROUS = Limits(
    resets=ENDLESS, refusals=ENDLESS, pings=ENDLESS, settings=ENDLESS, priorities=ENDLESS, empty_data=ENDLESS,
    unknown=ENDLESS, window_updates=ENDLESS,
)  # fmt: skip
PREFACE = frames.PREFACE + frames.settings(())


class Frame(NamedTuple):
    """One frame as it stands on the wire."""

    kind: str
    flags: int
    stream: int
    payload: bytes


def fields_of(lines: Iterable[Line]) -> list[Field]:
    return [(line.name, line.value) for line in lines]


def parse(octets: bytes) -> list[Frame]:
    """Cut what an end sent into frames; it must be whole frames, after a client's preface perhaps."""
    octets = octets.removeprefix(frames.PREFACE)
    found, at = [], 0
    while at < len(octets):
        word, flags, stream = frames.HEADER.unpack_from(octets, at)
        size, kind = word >> 8, word & 0xFF
        payload = octets[at + 9 : at + 9 + size]
        assert len(payload) == size, "the output ends within a frame"
        found.append(Frame(NAMES[kind], flags, stream, payload))
        at += 9 + size
    return found


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(
    stream: int, fields: Iterable[Field] = REQUEST, end: bool = False, flags: int = 4, block: bytes | None = None
) -> bytes:
    return frame(frames.HEADERS, flags | end, stream, encode(fields) if block is None else block)


def continuation(stream: int, block: bytes = b"", last: bool = True) -> bytes:
    return frame(frames.CONTINUATION, 4 if last else 0, stream, block)


def data(stream: int, payload: bytes = b"", end: bool = False, pad: int | None = None) -> bytes:
    if pad is None:
        return frame(frames.DATA, int(end), stream, payload)
    return frame(frames.DATA, 8 | end, stream, bytes((pad,)) + payload + bytes(pad))


def rst(stream: int, code: int = ErrorCode.CANCEL) -> bytes:
    return frames.rst_stream(stream, code)


def priority(stream: int, on: int = 0) -> bytes:
    return frame(frames.PRIORITY, 0, stream, struct.pack(">LB", on, 16))


def code_of(found: Frame) -> ErrorCode:
    """The error code of an RST_STREAM or GOAWAY."""
    at = 4 if found.kind == "GOAWAY" else 0
    return ErrorCode(frames.U32.unpack_from(found.payload, at)[0])


class Owner:
    """Writes down what a stream's owner is told; consumes DATA at once if `greedy`."""

    def __init__(self, end: End, stream: Stream | None = None, greedy: bool = False) -> None:
        self.end = end
        self.stream = stream
        self.greedy = greedy
        self.events: list[tuple[Any, ...]] = []
        self.received = b""
        self.sent = 0
        self.answered = False  # set by who answers it
        self.done = False
        self.then: Callable[[Owner, tuple[Any, ...]], None] | None = None

    def _tell(self, *event: Any) -> None:
        self.events.append(event)
        assert self.stream is not None
        self.end.events.append((self.stream.id, *event))
        if self.then is not None:
            self.then(self, event)

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        assert isinstance(head, ResponseHead)
        self._tell("head", head.status, head.fields, end)

    def on_data(self, payload: bytes, end: bool) -> None:
        self.received += payload
        if self.greedy and payload:
            assert self.stream is not None
            self.end.connection.consume(self.stream, len(payload))
        self._tell("data", payload, end)

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self._tell("trailers", trailers.fields)

    def on_reset(self, code: int, reason: str) -> None:
        self._gone("reset", code, reason)

    def on_refused(self) -> None:
        self._gone("refused")

    def _gone(self, *event: Any) -> None:
        assert not self.done, "told twice that the stream is gone"
        self.done = True
        self._tell(*event)
        assert self.stream is not None
        self.end.connection.release(self.stream)

    def on_sent(self, count: int) -> None:
        self.sent += count
        self._tell("sent", count)


class End:
    """A connection with its events in order (stream, name, what ...) and its output as frames."""

    connection: Connection

    def __init__(self, greedy: bool) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.owners: dict[int, Owner] = {}
        self.greedy = greedy
        self.now = 0.0

    def feed(self, *pieces: bytes) -> list[Frame]:
        """Receive bytes; what is sent in answer."""
        self.connection.receive(b"".join(pieces), self.now)
        return self.sent()

    def sent(self) -> list[Frame]:
        return parse(b"".join(self.connection.take()))

    def kinds(self, *pieces: bytes) -> list[str]:
        return [found.kind for found in self.feed(*pieces)]

    def fault(self, *pieces: bytes) -> str:
        """Receive bytes that end the connection; the fault's code, which GOAWAY repeats."""
        last = self.feed(*pieces)[-1]
        fault = self.connection.fault
        assert fault is not None, "no fault"
        assert last.kind == "GOAWAY"
        assert code_of(last) == fault.code
        return fault.code.name

    def told(self, stream: int) -> list[tuple[Any, ...]]:
        return self.owners[stream].events if stream in self.owners else []

    def stream(self, number: int) -> Stream:
        return self.connection.streams[number]

    def finish(self, number: int) -> None:
        """Answer a stream and be done with it."""
        stream = self.owners[number].stream
        assert stream is not None
        self.connection.send_head(stream, encode(RESPONSE), False)
        self.connection.send_head(stream, encode(TRAILERS), True)
        self.connection.release(stream)


class ServerEnd(End):
    """Our server, to which a test speaks as a client. heads: what each new stream said."""

    connection: ServerConnection

    def __init__(self, limits: Limits = GENEROUS, greedy: bool = False, settled: bool = True) -> None:
        super().__init__(greedy)
        self.heads: dict[int, RequestHead] = {}
        self.malformed: list[str] = []
        self.connection = ServerConnection(limits, self._accept, lambda fault: self.malformed.append(fault.reason))
        self.connection.send_preface()
        if settled:
            self.feed(PREFACE, frames.SETTINGS_ACK)

    def _accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        self.heads[stream.id] = head
        owner = self.owners[stream.id] = Owner(self, stream, self.greedy)
        stream.owner = owner
        self.events.append((stream.id, "request", head.fields, end))


class ClientEnd(End):
    """Our client, to which a test speaks as a server."""

    connection: ClientConnection

    def __init__(self, limits: Limits = GENEROUS, greedy: bool = False, settled: bool = True) -> None:
        super().__init__(greedy)
        self.connection = ClientConnection(limits)
        self.connection.send_preface()
        if settled:
            self.feed(frames.settings(()), frames.SETTINGS_ACK)

    def open(self, end: bool = False, fields: Iterable[Field] = REQUEST) -> Stream:
        owner = Owner(self, None, self.greedy)
        owner.stream = stream = self.connection.open(owner, encode(fields), end)
        self.owners[stream.id] = owner
        return stream


@dataclass
class Pair:
    """Our client and our server, joined."""

    client: ClientEnd
    server: ServerEnd

    @classmethod
    def of(cls, limits: Limits = GENEROUS, greedy: bool = False) -> Pair:
        pair = cls(ClientEnd(limits, greedy, settled=False), ServerEnd(limits, greedy, settled=False))
        pair.run()
        return pair

    def run(self) -> None:
        """Carry bytes both ways until both ends are still."""
        client, server = self.client.connection, self.server.connection
        while True:
            up, down = b"".join(client.take()), b"".join(server.take())
            if not up and not down and not client.stalled and not server.stalled:
                return
            server.receive(up, self.server.now)
            client.receive(down, self.client.now)
            client.pump()
            server.pump()


def limits(**changes: Any) -> Limits:
    """Default limits but for `changes`."""
    return replace(Limits(), **changes)
