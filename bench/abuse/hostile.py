"""The attacks of a model server: how it greets a connection, and how it answers a call that is whole."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.abuse.peer import GZIP_BOMB, body, data, frame
from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode

if TYPE_CHECKING:
    from bench.abuse.tap import Tap

HEAD: Final = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
PACKED: Final = encode((
    (b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip"),
))  # fmt: skip
INFORMATIONAL: Final = encode(((b":status", b"103"),))
OK: Final = encode(((b"grpc-status", b"0"),))
MESSAGE: Final = b"\0\0\0\0\x02ok"
END_HEADERS, END_STREAM = frames.END_HEADERS, frames.END_STREAM
_ROOM: Final = 1 << 20  # bytes that may wait to be written
_BATCH: Final = 100  # frames
_PAUSE_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Hostile:
    greet: Callable[[Tap], None]
    answer: Callable[[Tap, int], None]


def greet(tap: Tap) -> None:
    tap.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)]))
    tap.send(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))


def silent(tap: Tap, number: int | None = None) -> None:
    """Nothing at all."""


def says(*make: Callable[[int], bytes]) -> Callable[[Tap, int], None]:
    """Answers with these, made of the stream's number."""
    return lambda tap, number: tap.send(*(each(number) for each in make))


def goes_on(make: Callable[[int], Iterator[bytes]]) -> Callable[[Tap, int], None]:
    """Answers with these, as fast as they are taken, while the connection lasts."""

    def answer(tap: Tap, number: int) -> None:
        octets = make(number)

        def more() -> None:
            if tap.transport.is_closing():
                return
            if tap.transport.get_write_buffer_size() < _ROOM:
                tap.send(*itertools.islice(octets, _BATCH))
            asyncio.get_running_loop().call_later(_PAUSE_S, more)

        more()

    return answer


def head(number: int, block: bytes = HEAD, flags: int = END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags, number, block)


def trailers(number: int) -> bytes:
    return head(number, OK, END_HEADERS | END_STREAM)


def whole(number: int) -> bytes:
    return head(number) + data(number, MESSAGE) + trailers(number)


def garbage(number: int) -> bytes:
    return bytes((number * 7 + at * at) & 0xFF for at in range(4096))


def fields(count: int, size: int) -> bytes:
    return encode((*((b"x-%04d" % at, b"v" * size) for at in range(count)), (b"grpc-status", b"0")))


def huge_trailers(number: int) -> bytes:
    """Beyond what is taken, and below what ends the connection."""
    return frames.header_frames(number, fields(30, 1000), True, frames.DEFAULT_FRAME)


def endless(first: Callable[[int], bytes], then: Callable[[int], bytes]) -> Callable[[int], Iterator[bytes]]:
    return lambda number: itertools.chain((first(number),), itertools.repeat(then(number)))


def dribble(tap: Tap, number: int) -> None:
    """A head and a message that never ends, a byte at a time."""
    tap.send(head(number), data(number, b"\0\0\1\0\0"))

    def more() -> None:
        if not tap.transport.is_closing():
            tap.send(data(number, b"x"))
            asyncio.get_running_loop().call_later(0.05, more)

    more()


def gone_at_once(tap: Tap) -> None:
    """Sent away before the first call."""
    greet(tap)
    tap.send(frames.goaway(0, 0))


ANSWERS: Final[dict[str, Callable[[Tap, int], None]]] = {
    "bad frames": says(garbage),
    "endless headers": goes_on(
        endless(lambda number: head(number, HEAD, 0), lambda number: frame(frames.CONTINUATION, 0, number, bytes(100)))
    ),
    "informational heads without end": goes_on(endless(lambda number: b"", lambda number: head(number, INFORMATIONAL))),
    "no END_STREAM": says(head, lambda number: data(number, MESSAGE)),
    "silence": silent,
    "idle stream ids": says(lambda number: whole(number + 1000)),
    "even stream ids": says(lambda number: whole(number + 1)),
    "DATA before the head": says(lambda number: data(number, MESSAGE), whole),
    "two answers": says(whole, whole),
    "huge trailers": says(head, lambda number: data(number, MESSAGE), huge_trailers),
    "a block beyond all limits": says(
        lambda number: frames.header_frames(number, fields(100, 1000), True, frames.DEFAULT_FRAME)
    ),
    "HPACK bomb": says(lambda number: head(number, HEAD + b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 8000)),
    "GOAWAY for every call": says(lambda number: frames.goaway(0, 0)),
    "pushes": says(lambda number: frame(frames.PUSH_PROMISE, END_HEADERS, number, struct.pack(">L", 2) + HEAD)),
    "PING flood": goes_on(endless(lambda number: b"", lambda number: frames.ping(bytes(8), False))),
    "SETTINGS flood": goes_on(endless(lambda number: b"", lambda number: frames.settings([(4, 65_535)]))),
    "empty DATA flood": goes_on(endless(head, lambda number: data(number, b""))),
    "resets": says(lambda number: frames.rst_stream(number, 2)),
    "windows overrun": goes_on(endless(head, lambda number: data(number, bytes(16_384)))),
    "a message of 4 GiB": goes_on(
        endless(lambda number: head(number) + data(number, b"\0\xff\xff\xff\xff"), lambda number: data(number, b"x"))
    ),
    "gzip bomb": says(lambda number: head(number, PACKED) + body(number, GZIP_BOMB)),
    "a byte at a time": dribble,
}

MODES: Final[dict[str, Hostile]] = {
    **{f"upstream: {name}": Hostile(greet, answer) for name, answer in ANSWERS.items()},
    "upstream: rapid GOAWAY": Hostile(gone_at_once, silent),
    "upstream: no SETTINGS": Hostile(silent, silent),
}
