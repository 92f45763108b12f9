"""An HTTP/2 client of the tests' own that sends what no library would: HPACK literals and frames as they are given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PIECE: Final = 16_384  # bytes of a frame

Field = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _string(value: bytes) -> bytes:
    """RFC 7541 §5.2, without Huffman."""
    size, octets = len(value), bytearray()
    if size < 127:
        return bytes((size,)) + value
    octets.append(127)
    size -= 127
    while size >= 128:
        octets.append(size & 127 | 128)
        size >>= 7
    return bytes(octets) + bytes((size,)) + value


def literals(fields: Iterable[Field]) -> bytes:
    """A header block of literals without indexing (RFC 7541 §6.2.2), with new names throughout."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


class RawClient:
    """Sans-I/O: `take` bytes for the other side, `receive` its bytes. seen: what came on each stream, in order."""

    def __init__(self) -> None:
        self.seen: dict[int, list[tuple[Any, ...]]] = {}
        self.goaway: int | None = None  # the code
        self.gone = self.mute = False
        self.frame = PIECE
        self._out = PREFACE + frame(SETTINGS, 0, 0, b"")
        self._tail = b""
        self._block = b""
        self._hpack = hpack.Decoder()
        self._next = 1

    def request(self, fields: Iterable[Field], *pieces: bytes, trailers: Iterable[Field] = ()) -> int:
        """Open a stream. pieces: DATA frames, the last of which ends it, unless trailers do."""
        number, self._next = self._next, self._next + 2
        block, trailing = literals(fields), literals(trailers)
        end = END_STREAM if not pieces and not trailing else 0
        parts = [block[at : at + PIECE] for at in range(0, len(block), PIECE)] or [b""]
        for at, part in enumerate(parts):
            flags = END_HEADERS if at == len(parts) - 1 else 0
            self._out += frame(CONTINUATION if at else HEADERS, flags | (0 if at else end), number, part)
        for at, piece in enumerate(pieces):
            last = at == len(pieces) - 1 and not trailing
            self._out += frame(DATA, END_STREAM if last else 0, number, piece)
        if trailing:
            self._out += frame(HEADERS, END_STREAM | END_HEADERS, number, trailing)
        self.seen[number] = []
        return number

    def take(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> None:
        data = self._tail + data
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            end = 9 + int.from_bytes(data[:3], "big")
            self._on(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end])
            data = data[end:]
        self._tail = data

    def _on(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._out += frame(kind, ACK, 0, payload if kind == PING else b"")
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == RST_STREAM:
            self.seen[number].append(("RST", int.from_bytes(payload, "big")))
        elif kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & END_HEADERS:
                self.seen[number].append(("HEADERS", tuple(map(tuple, self._hpack.decode(self._block, raw=True)))))
                self._block = b""
        elif kind == DATA:
            self.seen[number].append(("DATA", payload))
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.seen[number].append(("END",))

    def field(self, number: int, name: bytes) -> bytes | None:
        """A field of the last header block that came on a stream."""
        blocks = [item[1] for item in self.seen[number] if item[0] == "HEADERS"]
        return next((value for key, value in blocks[-1] if key == name), None) if blocks else None

    def outcome(self, number: int) -> tuple[Any, ...] | None:
        """("grpc", status), ("http", status, grpc status) or ("reset", code); None while the stream is open."""
        kinds = [item[0] for item in self.seen[number]]
        if "END" in kinds:
            http, grpc = self.field(number, b":status") or b"200", int(self.field(number, b"grpc-status") or -1)
            return ("grpc", grpc) if http == b"200" else ("http", int(http), grpc)
        resets = [item[1] for item in self.seen[number] if item[0] == "RST"]
        if resets:
            return ("reset", resets[0])
        return ("goaway", self.goaway) if self.goaway is not None else None
