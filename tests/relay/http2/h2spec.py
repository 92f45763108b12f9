"""h2spec's cases for a server, told to our connection without a socket, and the page that lists what it makes of each.

Source: github.com/summerwind/h2spec 2.6, which tests RFC 7540 and 7541; sections are theirs. Sockets, timeouts and the
strict mode's wording are not expressed here; what a case sends and wants is.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import Field, RequestHead
from sidecar.relay.http2.streams import Stream
from tests.relay.http2.ends import (
    GENEROUS,
    PREFACE,
    RESPONSE,
    Frame,
    Owner,
    ServerEnd,
    code_of,
    continuation,
    data,
    frame,
    headers,
    priority,
    rst,
)

_ANSWER: Final = b"hello"
_PING: Final = frames.ping(b"h2spec\0\0", False)
_METHOD, _SCHEME, _PATH, _AUTHORITY = _COMMON = (
    (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"localhost"),
)  # fmt: skip
_TEST: Final = (b"x-test", b"ok")
_WINDOW: Final = frames.INITIAL_WINDOW_SIZE


class AnsweringEnd(ServerEnd):
    """Our server, above it an application that answers each whole request with five bytes."""

    def _accept(self, stream: Stream, head: RequestHead, end: bool) -> None:
        super()._accept(stream, head, end)
        owner = self.owners[stream.id]
        owner.then = self._answer
        if end:
            self._answer(owner, ("trailers",))

    def _answer(self, owner: Owner, event: tuple[object, ...]) -> None:
        assert owner.stream is not None
        if event[0] == "trailers" or (event[0] == "data" and event[2]):
            self.connection.send_head(owner.stream, encode(RESPONSE), False)
            self.connection.send_data(owner.stream, _ANSWER, True)
            self.connection.release(owner.stream)


@dataclass(frozen=True)
class Case:
    """One of h2spec's. sent: after the handshake, or in its place where it begins with the preface.

    wanted: the verdict, in the words of `verdict`; an error of a stream may also end the connection.
    ours, why: another verdict of ours, where RFC 9113 allows it, and the text that does.
    """

    section: str
    name: str
    sent: bytes
    wanted: tuple[str, ...]
    ours: str = ""
    why: str = ""

    def holds(self, verdict: str) -> bool:
        if self.ours:
            return verdict == self.ours
        return verdict in self.wanted or verdict.replace("connection", "stream") in self.wanted


def verdict(sent: bytes) -> str:
    """What our server makes of it: an error with its code, or the last thing that it sends of its own accord."""
    whole = sent.startswith((frames.PREFACE[:8], b"INVALID"))
    end = AnsweringEnd(GENEROUS, greedy=True, settled=not whole)
    end.sent()
    return _worded(end, end.feed(sent))


def _worded(end: AnsweringEnd, sent: list[Frame]) -> str:
    if end.connection.fault is not None:
        assert sent[-1].kind == "GOAWAY"
        return f"connection error {code_of(sent[-1]).name}"
    for found in sent:
        if found.kind == "GOAWAY" and code_of(found) != ErrorCode.NO_ERROR:
            return f"connection error {code_of(found).name}, once open calls have ended"
        if found.kind == "RST_STREAM":
            return f"stream error {code_of(found).name}"
    return " ".join(_word(found) for found in sent) or "ignored"


def _word(found: Frame) -> str:
    if found.kind == "DATA":
        return f"DATA of {len(found.payload)}"
    return f"{found.kind} ACK" if found.kind in ("PING", "SETTINGS") and found.flags & frames.ACK else found.kind


# --- what is sent ---------------------------------------------------------------------------------------------------


def _request(fields: Iterable[Field] = _COMMON, end: bool = True, stream: int = 1, more: bytes = b"") -> bytes:
    return headers(stream, end=end, block=encode(fields) + more)


def _begun(fields: Iterable[Field] = _COMMON, end: bool = True) -> bytes:
    """A request whose block goes on in CONTINUATION."""
    return headers(1, fields, end=end, flags=0)


def _dummy(last: bool = True, stream: int = 1) -> bytes:
    return continuation(stream, encode(((b"x-dummy0", b"h2spec"),)), last)


def _post(*more: bytes, fields: tuple[Field, ...] = ()) -> bytes:
    return _request(((b":method", b"POST"), *_COMMON[1:], *fields), end=False) + b"".join(more)


def _settings(*values: tuple[int, int]) -> bytes:
    return frames.settings(values)


def _depends(exclusive: bool, on: int, weight: int) -> bytes:
    return struct.pack(">LB", on | exclusive << 31, weight)


def _without(field: Field) -> tuple[Field, ...]:
    return tuple(each for each in _COMMON if each != field)


_CONNECTION: Final = {
    name: (f"connection error {name}",)
    for name in ("PROTOCOL_ERROR", "FLOW_CONTROL_ERROR", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "COMPRESSION_ERROR")
}
_PROTOCOL, _FLOW = _CONNECTION["PROTOCOL_ERROR"], _CONNECTION["FLOW_CONTROL_ERROR"]
_SIZE, _COMPRESSION = _CONNECTION["FRAME_SIZE_ERROR"], _CONNECTION["COMPRESSION_ERROR"]
_STREAM: Final = ("stream error PROTOCOL_ERROR",)
_CLOSED: Final = ("stream error STREAM_CLOSED",)
_ANSWERED: Final = ("HEADERS DATA of 5",)
_PONG: Final = ("PING ACK",)
_IGNORED: Final = "RFC 9113 §5.1: frames on a closed stream may be discarded, whoever reset it"
_LINGERS: Final = "connection error PROTOCOL_ERROR, once open calls have ended"
_OPEN_CALLS: Final = (
    "RFC 9113 §5.4.1 has the connection closed after GOAWAY; gRPC's C core resets streams that it has not opened, and "
    "its other calls come to their end first"
)
_DEPRECATED: Final = "RFC 9113 §5.3.2: priorities are deprecated; what they say is not looked at"
_HPACK: Final = (
    ("indexed header field", b"\xba"),
    ("literal with incremental indexing, indexed name", b"\x7a\x06h2spec"),
    (
        "literal with incremental indexing, indexed name, Huffman",
        b"\x7a\x84\x9c\x48\xac\xa4",
    ),
    ("literal with incremental indexing, new name", b"\x40\x06x-test\x06h2spec"),
    ("literal with incremental indexing, new name, Huffman", b"\x40\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"),
    ("literal without indexing, indexed name", b"\x0f\x2b\x06h2spec"),
    ("literal without indexing, indexed name, Huffman", b"\x0f\x2b\x84\x9c\x48\xac\xa4"),
    ("literal without indexing, new name", b"\x00\x06x-test\x06h2spec"),
    ("literal without indexing, new name, Huffman", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"),
    ("literal never indexed, indexed name", b"\x1f\x2b\x06h2spec"),
    ("literal never indexed, indexed name, Huffman", b"\x1f\x2b\x84\x9c\x48\xac\xa4"),
    ("literal never indexed, new name", b"\x10\x06x-test\x06h2spec"),
    ("literal never indexed, new name, Huffman", b"\x10\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"),
)

CASES: Final[tuple[Case, ...]] = (
    Case("generic/1", "a client connection preface", PREFACE, ("SETTINGS ACK",)),
    Case("generic/2", "PRIORITY on an idle stream", priority(1) + _PING, _PONG),
    Case("generic/2", "WINDOW_UPDATE on a half-closed (remote) stream",
         _settings((_WINDOW, 0)) + _request() + frames.window_update(1, 1), ("SETTINGS ACK HEADERS DATA of 1",)),
    Case("generic/2", "PRIORITY on a half-closed (remote) stream",
         _settings((_WINDOW, 0)) + _request() + priority(1) + frames.window_update(1, 1),
         ("SETTINGS ACK HEADERS DATA of 1",)),
    Case("generic/2", "RST_STREAM on a half-closed (remote) stream",
         _settings((_WINDOW, 0)) + _request() + rst(1) + _PING, ("SETTINGS ACK HEADERS PING ACK",)),
    Case("generic/2", "PRIORITY on a closed stream", _request() + priority(1) + _PING, ("HEADERS DATA of 5 PING ACK",)),
    Case("generic/3.1", "DATA", _post(data(1, b"test", end=True)), _ANSWERED),
    Case("generic/3.1", "several DATA", _post(data(1, b"test"), data(1, b"test", end=True)), _ANSWERED),
    Case("generic/3.1", "DATA with padding", _post(data(1, b"test", end=True, pad=9)), _ANSWERED),
    Case("generic/3.2", "HEADERS", _request(), _ANSWERED),
    Case("generic/3.2", "HEADERS with padding",
         frame(frames.HEADERS, 0xD, 1, b"\x05" + encode(_COMMON) + bytes(5)), _ANSWERED),
    Case("generic/3.2", "HEADERS with priority",
         frame(frames.HEADERS, 0x25, 1, _depends(False, 0, 255) + encode(_COMMON)), _ANSWERED),
    Case("generic/3.3", "PRIORITY with priority 1", frame(2, 0, 1, _depends(False, 0, 0)) + _request(), _ANSWERED),
    Case("generic/3.3", "PRIORITY with priority 256", frame(2, 0, 1, _depends(False, 0, 255)) + _request(), _ANSWERED),
    Case("generic/3.3", "PRIORITY with a dependency", frame(2, 0, 3, _depends(False, 1, 0)) + _request(), _ANSWERED),
    Case("generic/3.3", "PRIORITY, exclusive", frame(2, 0, 1, _depends(True, 0, 0)) + _request(), _ANSWERED),
    Case("generic/3.3", "PRIORITY for an idle stream, then HEADERS on a lower one",
         frame(2, 0, 3, _depends(False, 0, 255)) + _request(), _ANSWERED),
    Case("generic/3.4", "RST_STREAM", _post(rst(1), _PING), _PONG),
    Case("generic/3.5", "SETTINGS", _settings((_WINDOW, 100)), ("SETTINGS ACK",)),
    Case("generic/3.7", "PING", _PING, _PONG),
    Case("generic/3.8", "GOAWAY", frames.goaway(0, 0) + _PING, _PONG),
    Case("generic/3.9", "WINDOW_UPDATE on stream 0",
         _settings((_WINDOW, 5)) + frames.window_update(0, 1) + _request(), ("SETTINGS ACK HEADERS DATA of 5",)),
    Case("generic/3.9", "WINDOW_UPDATE on stream 1",
         _settings((_WINDOW, 0)) + _request() + frames.window_update(1, 1), ("SETTINGS ACK HEADERS DATA of 1",)),
    Case("generic/3.10", "CONTINUATION", _begun() + _dummy(), _ANSWERED),
    Case("generic/3.10", "several CONTINUATION", _begun() + _dummy(last=False) + _dummy(), _ANSWERED),
    Case("generic/4", "a GET request", _request(), _ANSWERED),
    Case("generic/4", "a HEAD request", _request(((b":method", b"HEAD"), *_COMMON[1:])), _ANSWERED),
    Case("generic/4", "a POST request", _post(data(1, b"test", end=True)), _ANSWERED),
    Case("generic/4", "a POST request with trailers",
         _post(data(1, b"test"), headers(1, (_TEST,), end=True), fields=((b"trailer", b"x-test"),)), _ANSWERED),
    *(Case("generic/5", name, _request(more=octets), _ANSWERED) for name, octets in _HPACK),
    Case("generic/5", "dynamic table size update", headers(1, end=True, block=b"\x20" + encode(_COMMON)), _ANSWERED),
    Case("generic/5", "several dynamic table size updates",
         headers(1, end=True, block=b"\x20\x3f\xe1\x1f" + encode(_COMMON)), _ANSWERED),

    Case("http2/3.5", "client connection preface",
         frames.PREFACE + _settings((_WINDOW, 1_024)), ("SETTINGS ACK",)),
    Case("http2/3.5", "invalid connection preface", b"INVALID CONNECTION PREFACE\r\n\r\n", _PROTOCOL),
    Case("http2/4.1", "a frame of unknown type", frame(0x16, 0, 0, bytes(8)) + _PING, _PONG),
    Case("http2/4.1", "a frame with undefined flags", frame(frames.PING, 0x16, 0, bytes(8)), _PONG),
    Case("http2/4.1", "a frame with the reserved bit", frame(frames.PING, 0x16, 0x80000000, bytes(8)), _PONG),
    Case("http2/4.2", "DATA of 2^14 bytes", _post(data(1, bytes(16_384), end=True)), _ANSWERED),
    Case("http2/4.2", "DATA beyond SETTINGS_MAX_FRAME_SIZE", _post(data(1, bytes(16_385), end=True)),
         ("stream error FRAME_SIZE_ERROR",)),
    Case("http2/4.2", "HEADERS beyond SETTINGS_MAX_FRAME_SIZE", _request(more=bytes(16_384)), _SIZE),
    Case("http2/4.3", "an invalid header block fragment", headers(1, end=True, block=b"\x40"), _COMPRESSION),
    Case("http2/4.3", "PRIORITY within a header block", _begun() + priority(1) + _dummy(), _PROTOCOL),
    Case("http2/4.3", "HEADERS of another stream within a header block",
         _begun() + _request(stream=3) + _dummy(), _PROTOCOL),
    Case("http2/5.1", "idle: DATA", data(1, b"test", end=True), _PROTOCOL),
    Case("http2/5.1", "idle: RST_STREAM", rst(1), _PROTOCOL, _LINGERS, _OPEN_CALLS),
    Case("http2/5.1", "idle: WINDOW_UPDATE", frames.window_update(1, 100), _PROTOCOL),
    Case("http2/5.1", "idle: CONTINUATION", continuation(1, encode(_COMMON)), _PROTOCOL),
    Case("http2/5.1", "half-closed (remote): DATA",
         _settings((_WINDOW, 0)) + _request() + data(1, b"test", end=True), _CLOSED),
    Case("http2/5.1", "half-closed (remote): HEADERS", _settings((_WINDOW, 0)) + _request() + _request(), _CLOSED),
    Case("http2/5.1", "half-closed (remote): CONTINUATION",
         _settings((_WINDOW, 0)) + _request() + continuation(1, encode(_COMMON)), (*_CLOSED, *_STREAM)),
    Case("http2/5.1", "closed: DATA after RST_STREAM", _post(rst(1), data(1, b"test", end=True)), _CLOSED,
         "ignored", _IGNORED),
    Case("http2/5.1", "closed: HEADERS after RST_STREAM", _post(rst(1), _request()), _CLOSED, "ignored", _IGNORED),
    Case("http2/5.1", "closed: CONTINUATION after RST_STREAM", _post(rst(1), _dummy()), (*_CLOSED, *_STREAM)),
    Case("http2/5.1", "closed: DATA", _request() + data(1, b"test", end=True), _CONNECTION["STREAM_CLOSED"],
         "stream error STREAM_CLOSED", "RFC 9113 §6.1 asks for an error of the stream, §5.1 allows either"),
    Case("http2/5.1", "closed: HEADERS", _request() + _request(), _CONNECTION["STREAM_CLOSED"]),
    Case("http2/5.1", "closed: CONTINUATION", _request() + _dummy(), (*_CONNECTION["STREAM_CLOSED"], *_PROTOCOL)),
    Case("http2/5.1.1", "a stream of even number", _request(stream=2), _PROTOCOL),
    Case("http2/5.1.1", "a stream of lower number than the last", _request(stream=5) + _request(stream=3), _PROTOCOL,
         "connection error STREAM_CLOSED", "RFC 9113 §5.1.1 has streams passed over closed, §5.4 any applicable code"),
    Case("http2/5.1.2", "HEADERS beyond SETTINGS_MAX_CONCURRENT_STREAMS",
         b"".join(_request(end=False, stream=number) for number in range(1, 203, 2)),
         (*_STREAM, "stream error REFUSED_STREAM")),
    Case("http2/5.3.1", "HEADERS that depend on their own stream",
         frame(frames.HEADERS, 0x25, 1, _depends(False, 1, 255) + encode(_COMMON)), _STREAM,
         "HEADERS DATA of 5", _DEPRECATED),
    Case("http2/5.3.1", "PRIORITY that depends on its own stream", frame(2, 0, 1, _depends(False, 1, 255)), _STREAM,
         "ignored", _DEPRECATED),
    Case("http2/5.4.1", "an invalid PING closes the connection", frame(frames.PING, 0, 3, bytes(8)), _PROTOCOL),
    Case("http2/5.4.1", "an invalid PING is answered by GOAWAY", frame(frames.PING, 0, 3, bytes(8)), _PROTOCOL),
    Case("http2/5.5", "an unknown extension frame", frame(0x16, 0, 0, bytes(8)) + _PING, _PONG),
    Case("http2/5.5", "an unknown extension frame within a header block",
         _begun() + frame(0x16, 0, 0, bytes(8)), _PROTOCOL),
    Case("http2/6.1", "DATA on stream 0", data(0, b"test", end=True), _PROTOCOL),
    Case("http2/6.1", "DATA on a stream that is neither open nor half-closed (local)",
         _request() + data(1, b"test", end=True), _CLOSED),
    Case("http2/6.1", "DATA with an invalid pad length",
         _post(frame(frames.DATA, 9, 1, b"\x06Test"), fields=((b"content-length", b"4"),)), _PROTOCOL),
    Case("http2/6.2", "HEADERS without END_HEADERS, then PRIORITY",
         _begun(end=False) + priority(1) + _dummy(), _PROTOCOL),
    Case("http2/6.2", "HEADERS without END_HEADERS, then HEADERS of another stream",
         _begun(end=False) + _request(stream=3) + _dummy(), _PROTOCOL),
    Case("http2/6.2", "HEADERS on stream 0", _request(stream=0), _PROTOCOL),
    Case("http2/6.2", "HEADERS with an invalid pad length",
         frame(frames.HEADERS, 0xD, 1, bytes((len(encode(_COMMON)) + 2,)) + encode(_COMMON)), _STREAM),
    Case("http2/6.3", "PRIORITY on stream 0", priority(0), _PROTOCOL),
    Case("http2/6.3", "PRIORITY of other than 5 bytes", _post(frame(2, 0, 1, bytes(4))),
         ("stream error FRAME_SIZE_ERROR",)),
    Case("http2/6.4", "RST_STREAM on stream 0", rst(0), _PROTOCOL),
    Case("http2/6.4", "RST_STREAM on an idle stream", rst(1), _PROTOCOL, _LINGERS, _OPEN_CALLS),
    Case("http2/6.4", "RST_STREAM of other than 4 bytes",
         _request() + frame(frames.RST_STREAM, 0, 1, bytes(3)), ("stream error FRAME_SIZE_ERROR",)),
    Case("http2/6.5", "SETTINGS with ACK and payload", frame(frames.SETTINGS, 1, 0, b"\x00"), _SIZE),
    Case("http2/6.5", "SETTINGS on a stream", frame(frames.SETTINGS, 0, 1, struct.pack(">HL", 3, 100)), _PROTOCOL),
    Case("http2/6.5", "SETTINGS of other than a multiple of 6 bytes", frame(frames.SETTINGS, 0, 0, bytes(3)), _SIZE),
    Case("http2/6.5.2", "SETTINGS_ENABLE_PUSH of 2", _settings((frames.ENABLE_PUSH, 2)), _PROTOCOL),
    Case("http2/6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE beyond 2^31-1", _settings((_WINDOW, 1 << 31)), _FLOW),
    Case("http2/6.5.2", "SETTINGS_MAX_FRAME_SIZE below 2^14", _settings((frames.MAX_FRAME_SIZE, 16_383)), _PROTOCOL),
    Case("http2/6.5.2", "SETTINGS_MAX_FRAME_SIZE beyond 2^24-1",
         _settings((frames.MAX_FRAME_SIZE, 1 << 24)), _PROTOCOL),
    Case("http2/6.5.2", "an unknown setting", _settings((0xFF, 1)) + _PING, ("SETTINGS ACK PING ACK",)),
    Case("http2/6.5.3", "SETTINGS_INITIAL_WINDOW_SIZE twice in one frame",
         _settings((_WINDOW, 100), (_WINDOW, 1)) + _request(), ("SETTINGS ACK HEADERS DATA of 1",)),
    Case("http2/6.5.3", "SETTINGS without ACK", _settings((frames.ENABLE_PUSH, 0)), ("SETTINGS ACK",)),
    Case("http2/6.7", "PING", _PING, _PONG),
    Case("http2/6.7", "PING with ACK", frames.ping(b"invalid\0", True) + _PING, _PONG),
    Case("http2/6.7", "PING on a stream", frame(frames.PING, 0, 1, bytes(8)), _PROTOCOL),
    Case("http2/6.7", "PING of other than 8 bytes", frame(frames.PING, 0, 0, bytes(6)), _SIZE),
    Case("http2/6.8", "GOAWAY on a stream", frame(frames.GOAWAY, 0, 1, bytes(8)), _PROTOCOL),
    Case("http2/6.9", "WINDOW_UPDATE of 0", frames.window_update(0, 0), _PROTOCOL),
    Case("http2/6.9", "WINDOW_UPDATE of 0 on a stream", _post(frames.window_update(1, 0)), _STREAM),
    Case("http2/6.9", "WINDOW_UPDATE of other than 4 bytes", frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1"), _SIZE),
    Case("http2/6.9.1", "an initial window of 1, then HEADERS",
         _settings((_WINDOW, 1)) + _request(), ("SETTINGS ACK HEADERS DATA of 1",)),
    Case("http2/6.9.1", "WINDOW_UPDATE beyond 2^31-1", frames.window_update(0, frames.MAX_WINDOW) * 2, _FLOW),
    Case("http2/6.9.1", "WINDOW_UPDATE beyond 2^31-1 on a stream",
         _post(frames.window_update(1, frames.MAX_WINDOW) * 2), ("stream error FLOW_CONTROL_ERROR",)),
    Case("http2/6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE changes after HEADERS",
         _settings((_WINDOW, 0)) + _request() + _settings((_WINDOW, 1)),
         ("SETTINGS ACK HEADERS DATA of 1 SETTINGS ACK", "SETTINGS ACK HEADERS SETTINGS ACK DATA of 1")),
    Case("http2/6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE makes a window negative",
         _settings((_WINDOW, 3)) + _request() + _settings((_WINDOW, 2)) + frames.window_update(1, 2),
         ("SETTINGS ACK HEADERS DATA of 3 SETTINGS ACK DATA of 1",)),
    Case("http2/6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE beyond 2^31-1", _settings((_WINDOW, 1 << 31)), _FLOW),
    Case("http2/6.10", "several CONTINUATION after HEADERS", _begun() + _dummy(last=False) + _dummy(), _ANSWERED),
    Case("http2/6.10", "CONTINUATION followed by another frame",
         _begun(end=False) + _dummy(last=False) + data(1, b"test", end=True), _PROTOCOL),
    Case("http2/6.10", "CONTINUATION on stream 0", _begun() + _dummy(stream=0), _PROTOCOL),
    Case("http2/6.10", "CONTINUATION after HEADERS with END_HEADERS", _request() + _dummy(), _PROTOCOL),
    Case("http2/6.10", "CONTINUATION after CONTINUATION with END_HEADERS", _begun() + _dummy() + _dummy(), _PROTOCOL),
    Case("http2/6.10", "CONTINUATION after DATA",
         _begun(end=False) + data(1, b"test", end=True) + _dummy(last=False), _PROTOCOL),
    Case("http2/7", "GOAWAY with an unknown error code", frames.goaway(0, 0xFF) + _PING, _PONG),
    Case("http2/7", "RST_STREAM with an unknown error code", _post(rst(1, 0xFF), _PING), _PONG),
    Case("http2/8.1", "a second HEADERS without END_STREAM", _post(data(1, b"test"), headers(1, (_TEST,))), _STREAM),
    Case("http2/8.1.2", "a field name in capitals", _request((*_COMMON, (b"X-TEST", b"ok"))), _STREAM),
    Case("http2/8.1.2.1", "an unknown pseudo-header", _request((*_COMMON, (b":test", b"ok"))), _STREAM),
    Case("http2/8.1.2.1", "a response's pseudo-header", _request((*_COMMON, (b":status", b"200"))), _STREAM),
    Case("http2/8.1.2.1", "a pseudo-header in trailers",
         _post(data(1, b"test"), headers(1, ((b":method", b"POST"),), end=True)), _STREAM),
    Case("http2/8.1.2.1", "a pseudo-header after a regular field", _request((_TEST, *_COMMON)), _STREAM),
    Case("http2/8.1.2.2", "a connection-specific field", _request((*_COMMON, (b"connection", b"keep-alive"))), _STREAM),
    Case("http2/8.1.2.2", "TE of other than trailers", _request((*_COMMON, (b"te", b"trailers, deflate"))), _STREAM),
    Case("http2/8.1.2.3", "an empty :path", _request((_METHOD, _SCHEME, (b":path", b""), _AUTHORITY)), _STREAM),
    *(Case("http2/8.1.2.3", f"no {field[0].decode()}", _request(_without(field)), _STREAM)
      for field in (_METHOD, _SCHEME, _PATH)),
    *(Case("http2/8.1.2.3", f"{field[0].decode()} twice", _request((*_COMMON, field)), _STREAM)
      for field in (_METHOD, _SCHEME, _PATH)),
    Case("http2/8.1.2.6", "a content-length that is not that of the DATA",
         _post(data(1, b"test", end=True), fields=((b"content-length", b"1"),)), _STREAM),
    Case("http2/8.1.2.6", "a content-length that is not that of several DATA",
         _post(data(1, b"test"), data(1, b"test", end=True), fields=((b"content-length", b"1"),)), _STREAM),
    Case("http2/8.2", "PUSH_PROMISE",
         frame(frames.PUSH_PROMISE, 4, 1, struct.pack(">L", 3) + encode(_COMMON)), _PROTOCOL),

    Case("hpack/2.3.3", "an indexed field beyond the tables", _request(more=b"\xc6"), _COMPRESSION),
    Case("hpack/2.3.3", "a literal whose name's index is beyond the tables",
         _request(more=b"\x7f\x07\x01v"), _COMPRESSION),
    Case("hpack/4.2", "a dynamic table size update at the end of a block", _request(more=b"\x21"), _COMPRESSION),
    Case("hpack/5.2", "Huffman padding longer than 7 bits",
         _request(more=b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), _COMPRESSION),
    Case("hpack/5.2", "Huffman padding of zeros", _request(more=b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
         _COMPRESSION),
    Case("hpack/5.2", "the EOS symbol in a Huffman string",
         _request(more=b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfd\x25\x42\x7f"), _COMPRESSION),
    Case("hpack/6.1", "an indexed field with index 0", _request(more=b"\x80"), _COMPRESSION),
    Case("hpack/6.3", "a dynamic table size update beyond SETTINGS_HEADER_TABLE_SIZE",
         headers(1, end=True, block=b"\x3f\xe2\x1f" + encode(_COMMON)), _COMPRESSION),
)  # fmt: skip


# --- the page -------------------------------------------------------------------------------------------------------

_OPENING: Final = """\
# HTTP/2 conformance

Each case of [h2spec](https://github.com/summerwind/h2spec) for a server, told to the relay's HTTP/2 connection
(`sidecar/relay/http2`), and what comes of it. An error of a stream may also end the connection (RFC 9113 §5.4.1).
h2spec tests RFC 7540; where RFC 9113 took its place and we follow that, the text is named. Written by `make docs`
from `tests/relay/http2/h2spec.py`, which `make test` runs.

{count} cases: {passed} end as h2spec has it, {other} as RFC 9113 has it instead.

How our connections compare with those of two other implementations, in generated sequences of frames, is counted in
`bench/results/differential.json` (`make bench-differential`); `tests/fuzz/rules.py` names each difference allowed.

| section | sent | h2spec wants | verdict |
|---|---|---|---|
"""


def page() -> Iterator[str]:
    """The page, in lines."""
    passed = sum(not case.ours for case in CASES)
    yield _OPENING.format(count=len(CASES), passed=passed, other=len(CASES) - passed)
    for case in CASES:
        found = verdict(case.sent)
        assert case.holds(found), (case.section, case.name, found)
        outcome = f"{found}: {case.why}" if case.ours else found if found not in case.wanted else "the same"
        yield f"| {case.section} | {case.name} | {' or '.join(case.wanted)} | {outcome} |\n"


if __name__ == "__main__":
    sys.stdout.writelines(page())
