"""What an implementation makes of what it is given, in words that mean the same for all of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sidecar.relay.http2 import frames
from sidecar.relay.http2.fields import Field

STREAM_WINDOW = frames.DEFAULT_WINDOW  # bytes: every subject keeps the windows that HTTP/2 begins with
_GOAWAY = struct.Struct(">LL")

REQUEST: tuple[Field, ...] = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc"),
)  # fmt: skip
RESPONSE: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS: tuple[Field, ...] = ((b"grpc-status", b"0"),)


class Act(NamedTuple):
    """What the application above a subject does, on a stream it has.

    deed: open (a client's next stream, ended where `size`), head, say (`size` bytes of DATA), end (trailers) or reset.
    """

    deed: str
    stream: int
    size: int = 0


Item = bytes | Act  # what a sequence is made of; bytes: one frame, or a header block's frames


@dataclass(slots=True)
class Verdict:
    """What came of one item.

    events: what the application is told, in order: (kind, stream, ...), kinds head, informational, trailers, data,
    end, reset, refused.  resets: RST_STREAM sent, with code.  fault: the error code that ends the connection.
    answers: acknowledgements sent, of PING with its payload and of SETTINGS.
    """

    events: list[tuple[Any, ...]] = field(default_factory=list)
    resets: dict[int, int] = field(default_factory=dict)
    fault: int | None = None
    answers: list[bytes] = field(default_factory=list)


class Subject(Protocol):
    """One side of one implementation.

    credit: what it has announced that its peer may send, in all, by stream.  over: it takes nothing after this GOAWAY.
    """

    credit: dict[int, int]

    @property
    def over(self) -> bool: ...

    def __init__(self, client: bool) -> None: ...

    def receive(self, octets: bytes) -> Verdict: ...

    def act(self, act: Act) -> bool:
        """Do it; False where the subject says that it cannot be done now."""

    def window(self, stream: int) -> int:
        """Bytes that may be sent on a stream, or on the connection (0); 0 where it is less."""

    def close(self) -> None: ...


class Frame(NamedTuple):
    """A frame on the wire; size may be more than there is of a payload that was cut."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    size: int


def cut(octets: bytes) -> list[Frame]:
    """The frames in some bytes, a client's preface left away; the last may be incomplete."""
    octets = octets.removeprefix(frames.PREFACE)
    found, at = [], 0
    while at + frames.HEADER_LENGTH <= len(octets):
        word, flags, stream = frames.HEADER.unpack_from(octets, at)
        at += frames.HEADER_LENGTH
        payload = octets[at : at + (word >> 8)]
        found.append(Frame(word & 0xFF, flags, stream & frames.MAX_STREAM_ID, payload, word >> 8))
        at += len(payload)
    return found


def read_output(octets: bytes, verdict: Verdict, credit: dict[int, int]) -> None:
    """Add to a verdict and to a subject's credit what it sent."""
    for kind, flags, stream, payload, size in cut(octets):
        assert size == len(payload), "the output ends within a frame"
        if kind == frames.RST_STREAM:
            verdict.resets[stream] = int.from_bytes(payload, "big")
        elif kind == frames.GOAWAY:
            code = _GOAWAY.unpack_from(payload)[1]
            verdict.fault = code or verdict.fault
        elif kind == frames.WINDOW_UPDATE:
            credit[stream] = credit.get(stream, STREAM_WINDOW) + int.from_bytes(payload, "big")
        elif kind in (frames.PING, frames.SETTINGS) and flags & frames.ACK:
            verdict.answers.append(payload)


def told(events: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Events as they are compared: a stream's DATA joined, empty DATA left away, pseudo-headers and refusals sorted."""
    found: list[tuple[Any, ...]] = []
    for event in events:
        if event[0] == "data":
            if not event[2]:
                continue
            if found and found[-1][:2] == event[:2]:
                event = (*event[:2], found.pop()[2] + event[2])
        elif event[0] in ("head", "informational", "trailers"):
            event = (*event[:2], in_order(event[2]))
        found.append(event)
    if all(event[0] == "refused" for event in found):
        found.sort()
    return found


def in_order(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Fields with the pseudo-headers first, sorted: their order means nothing."""
    listed = list(fields)
    pseudo = sorted(each for each in listed if each[0][:1] == b":")
    return (*pseudo, *(each for each in listed if each[0][:1] != b":"))
