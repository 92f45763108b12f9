"""The two ends of the relay in tests, spoken by the `h2` library: a client, and a model server that is a tap.

The tap keeps, for each stream, everything that the model server sees of it, in order.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
CANCEL: Final = 8
REFUSED_STREAM: Final = 7
OK: Final = ((b"grpc-status", b"0"),)


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + len(raw).to_bytes(4, "big") + raw for raw in messages)


def unframed(data: bytes) -> list[bytes]:
    """The messages in a whole body; their flags must be 0. Raises AssertionError where it is cut."""
    found, at = [], 0
    while at < len(data):
        assert data[at] == 0, f"flag {data[at]}"
        size = int.from_bytes(data[at + 1 : at + 5], "big")
        assert at + 5 + size <= len(data), "cut within a message"
        found.append(data[at + 5 : at + 5 + size])
        at += 5 + size
    return found


def pick(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in fields if key == name), None)


class Half:
    """One stream of an end: what came on it, in order, and what is to be sent."""

    def __init__(self, end: End, number: int) -> None:
        self.end = end
        self.id = number
        self.seen: list[tuple[Any, ...]] = []  # ("HEADERS", fields), ("DATA", bytes), ("END",), ("RST", code), …
        self._queue: list[tuple[bytes, bool]] = []
        self._last: list[tuple[bytes, bytes]] | None = None  # trailers behind that
        self.headed = False  # we have sent a head
        self.done = False  # we have ended our side, or all of it
        self.cancelled = False  # by us

    @property
    def speaks(self) -> bool:
        """Whether we may still send."""
        return not self.done and self.reset is None and not self.end.gone

    @property
    def alive(self) -> bool:
        """Whether either side may still send."""
        return self.speaks or (not self.cancelled and self.reset is None and not self.ended and not self.end.gone)

    @property
    def kinds(self) -> list[str]:
        """What came, without what it said; DATA in a row counts once."""
        kinds: list[str] = []
        for item in self.seen:
            if item[0] != "DATA" or kinds[-1:] != ["DATA"]:
                kinds.append(item[0])
        return kinds

    @property
    def data(self) -> bytes:
        return b"".join(item[1] for item in self.seen if item[0] == "DATA")

    @property
    def messages(self) -> list[bytes]:
        return unframed(self.data)

    def all(self, kind: str) -> list[tuple[Any, ...]]:
        return [item for item in self.seen if item[0] == kind]

    @property
    def ended(self) -> bool:
        return bool(self.all("END"))

    @property
    def reset(self) -> int | None:
        """The code of the RST_STREAM that came."""
        found = self.all("RST")
        return found[0][1] if found else None

    def send(self, data: bytes, end: bool = False) -> None:
        """DATA, as windows allow; the rest leaves when they do."""
        self._queue.append((data, end))
        self.done = self.done or end
        self.pump()

    def pump(self) -> None:
        connection = self.end.connection
        while self._queue:
            data, end = self._queue[0]
            room = min(connection.local_flow_control_window(self.id), self.end.frame)
            if len(data) > room:
                if room <= 0:
                    return
                connection.send_data(self.id, data[:room])
                self._queue[0] = (data[room:], end)
            else:
                connection.send_data(self.id, data, end_stream=end)
                self._queue.pop(0)
        if self._last is not None:
            last, self._last = self._last, None
            connection.send_headers(self.id, last, end_stream=True)

    @property
    def unsent(self) -> int:
        """Bytes that no window has allowed yet."""
        return sum(len(data) for data, _ in self._queue)

    def message(self, *raws: bytes, end: bool = False) -> None:
        self.send(framed(*raws), end)

    def cancel(self, code: int = CANCEL) -> None:
        self._queue.clear()
        self._last = None
        self.done = self.cancelled = True
        self.end.connection.reset_stream(self.id, code)


class End:
    """A connection's end.

    reads: whether window is given back as bytes come (else by `read`).  frame: bytes of its largest DATA frame.
    """

    def __init__(self, client: bool, settings: Mapping[Any, int] | None = None) -> None:
        config = h2.config.H2Configuration(
            client_side=client, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.connection = h2.connection.H2Connection(config)
        self.reads = True
        self.frame = 16_384
        self.streams: dict[int, Half] = {}
        self.goaways: list[tuple[int, int]] = []  # (last stream, code)
        self.pings: list[float] = []  # when PINGs came
        self.clock: Callable[[], float] = lambda: 0.0
        self.unread: dict[int, int] = {}
        self.gone = False
        self.mute = False  # says nothing more
        self._raw = b""
        self._cut = b""  # a frame that is not whole yet
        self.connection.local_settings = h2.settings.Settings(
            client=client, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000, **(settings or {})}
        )
        self.connection.initiate_connection()

    def receive(self, data: bytes) -> None:
        """Raises h2's ProtocolError where the relay breaks the protocol."""
        for event in self.connection.receive_data(self._without_goaway(data)):
            self._on(event)
        for half in list(self.streams.values()):
            if half._queue and half.reset is None:
                half.pump()

    def _without_goaway(self, data: bytes) -> bytes:
        """The frames that are whole; h2 takes any GOAWAY for the end of the connection, open streams included."""
        data, kept, at = self._cut + data, [], 0
        while at + 9 <= len(data):
            preface = data[at : at + 3] == b"PRI"
            end = at + (24 if preface else 9 + int.from_bytes(data[at : at + 3], "big"))
            if end > len(data):
                break
            if data[at + 3] == 7 and not preface:
                self.goaways.append((int.from_bytes(data[at + 9 : at + 13], "big"), data[at + 16]))
            else:
                kept.append(data[at:end])
            at = end
        self._cut = data[at:]
        return b"".join(kept)

    def take(self) -> bytes:
        if self.mute:
            return b""
        raw, self._raw = self._raw, b""
        return raw + self.connection.data_to_send()

    def raw(self, octets: bytes) -> None:
        """Send octets that h2 knows nothing of, after what it has put out."""
        self._raw += self.connection.data_to_send() + octets

    def goaway(self, last: int, code: int = 0) -> None:
        """A graceful one: h2's own would end the connection."""
        self.raw(b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def read(self, stream: Half, count: int) -> None:
        """Give window for `count` bytes back."""
        self.unread[stream.id] -= count
        self.connection.acknowledge_received_data(count, stream.id)

    def make(self, number: int) -> Half:
        return Half(self, number)

    def _on(self, event: h2.events.Event) -> None:
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number) if number else None
        match event:
            case h2.events.RequestReceived():
                stream = self.streams[event.stream_id] = self.make(event.stream_id)
                stream.seen.append(("HEADERS", tuple(map(tuple, event.headers))))
            case h2.events.ResponseReceived():
                assert stream is not None
                stream.seen.append(("HEADERS", tuple(map(tuple, event.headers))))
            case h2.events.InformationalResponseReceived():
                assert stream is not None
                stream.seen.append(("INFORM", tuple(map(tuple, event.headers))))
            case h2.events.TrailersReceived():
                assert stream is not None
                stream.seen.append(("TRAILERS", tuple(map(tuple, event.headers))))
            case h2.events.DataReceived():
                assert stream is not None
                stream.seen.append(("DATA", event.data))
                self.unread[stream.id] = self.unread.get(stream.id, 0) + event.flow_controlled_length
                if self.reads and event.flow_controlled_length:
                    self.read(stream, event.flow_controlled_length)
            case h2.events.StreamEnded():
                assert stream is not None
                stream.seen.append(("END",))
                self.on_end(stream)
            case h2.events.StreamReset():
                assert stream is not None
                stream._queue.clear()
                stream._last = None
                if event.remote_reset:
                    stream.seen.append(("RST", int(event.error_code or 0)))
            case h2.events.PingReceived():
                self.pings.append(self.clock())

    def on_end(self, stream: Half) -> None:
        """The stream's other half is complete."""


class Call(Half):
    """A call as its client has it."""

    @property
    def head(self) -> Fields | None:
        found = self.all("HEADERS")
        return found[0][1] if found else None

    @property
    def trailers(self) -> Fields:
        """What ended the call: trailers, or the head of a trailers-only answer."""
        found = self.all("TRAILERS") or self.all("HEADERS")
        fields: Fields = found[-1][1]
        return fields

    @property
    def status(self) -> int | None:
        """The gRPC status; None where there is none. Raises AssertionError unless it stands once, at the end."""
        blocks = [item for item in self.seen if item[0] in ("HEADERS", "TRAILERS")]
        found = [value for block in blocks for name, value in block[1] if name == b"grpc-status"]
        assert len(found) <= 1, self.seen
        assert not found or self.ended, self.seen
        return int(found[0]) if found else None

    @property
    def message_text(self) -> bytes:
        return pick(self.trailers, b"grpc-message") or b""

    def half_close(self) -> None:
        self.send(b"", True)


class Client(End):
    """An h2 client."""

    streams: dict[int, Call]  # type: ignore[assignment]

    def __init__(self, settings: Mapping[Any, int] | None = None) -> None:
        super().__init__(True, settings)

    def make(self, number: int) -> Call:
        return Call(self, number)

    def call(self, path: bytes, *metadata: tuple[bytes, bytes], end: bool = False) -> Call:
        number = self.connection.get_next_available_stream_id()
        call = self.streams[number] = self.make(number)
        call.headed, call.done = True, end
        fields = [
            (b":method", b"POST"), (b":scheme", b"https"), (b":path", path), (b":authority", b"model:1"),
            (b"te", b"trailers"), (b"content-type", b"application/grpc"), *metadata,
        ]  # fmt: skip
        self.connection.send_headers(number, fields, end_stream=end)
        return call


class Tapped(Half):
    """A call as the model server has it."""

    @property
    def headers(self) -> Fields:
        fields: Fields = self.seen[0][1]
        return fields

    def head(self, *fields: tuple[bytes, bytes], status: bytes = b"200", end: bool = False) -> None:
        base = [(b":status", status)]
        if status == b"200":
            base.append((b"content-type", b"application/grpc"))
        self.headed, self.done = True, end
        self.end.connection.send_headers(self.id, [*base, *fields], end_stream=end)

    def trailers(self, *fields: tuple[bytes, bytes]) -> None:
        """Once all DATA has left."""
        self.done = True
        self._last = list(fields or OK)
        self.pump()

    def answer(self, *raws: bytes, fields: Iterable[tuple[bytes, bytes]] = OK) -> None:
        """A whole answer."""
        self.head()
        if raws:
            self.message(*raws)
        self.trailers(*fields)


class Server(End):
    """An h2 server: one connection of the model server's.  answers: run on each call that has half-closed."""

    address = ""  # where it was reached

    streams: dict[int, Tapped]  # type: ignore[assignment]

    def __init__(self, settings: Mapping[Any, int] | None = None) -> None:
        super().__init__(False, settings)
        self.answers: Callable[[Tapped], None] | None = None

    def make(self, number: int) -> Tapped:
        return Tapped(self, number)

    def on_end(self, stream: Half) -> None:
        if self.answers is not None:
            assert isinstance(stream, Tapped)
            self.answers(stream)

    @property
    def calls(self) -> list[Tapped]:
        return list(self.streams.values())


def binary(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")
