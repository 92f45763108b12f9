"""What a fuzzer feeds: each target takes any bytes, asserts what holds, and lets through nothing but its own failures.

The first bytes of an input choose settings; the rest is what a peer, a caller or an operator may send.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import hpack

from sidecar.config.faults import ConfigError
from sidecar.config.load import build, parse
from sidecar.relay.grpc_wire import (
    HOLD,
    PREFIX,
    Deframer,
    Passage,
    WireFault,
    is_binary_value,
    parse_timeout,
    percent_decode,
    percent_encode,
    timeout_field,
    unframe,
)
from sidecar.relay.http2.blocks import HeaderBlocks, encode
from sidecar.relay.http2.errors import ConnectionFault
from sidecar.relay.http2.fields import Field, RequestHead, lines_of
from sidecar.relay.http2.hpack import Decoder
from sidecar.relay.http2.limits import Limits
from sidecar.relay.requests import Request, refuse
from tests.relay.http2.ends import GENEROUS
from tests.relay.http2.lively import assert_alike, in_order, lively

Target = Callable[[bytes], None]

_LIMIT: Final = 1 << 10  # bytes of a message
_HARD, _MOST = 65_536, 512
_TIMEOUT = re.compile(rb"\A[0-9]{1,8}[HMSmun]\Z")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_DIRECTORY = Path("/nowhere")


def server_frames(octets: bytes) -> None:
    _frames(octets, client=False)


def client_frames(octets: bytes) -> None:
    _frames(octets, client=True)


def _frames(octets: bytes, client: bool) -> None:
    """Frames behind the handshake: in order afterwards, and the same however they were cut."""
    step, limits = (octets[0] & 0x3F) + 1 if octets else 1, Limits() if octets[:1] >= b"\x80" else GENEROUS
    whole, pieces = lively(client, limits), lively(client, limits)
    whole.sent()
    pieces.sent()
    whole.connection.receive(octets[1:], 0.0)
    for at in range(1, len(octets), step):
        pieces.connection.receive(octets[at : at + step], 0.0)
    assert_alike(whole, pieces)
    in_order(whole)


def header_blocks(octets: bytes) -> None:
    """Blocks, each behind its length, to our decoder and to the `hpack` library: the same fields, or both refuse."""
    ours, theirs = Decoder(_HARD, _MOST), hpack.Decoder(_HARD)
    at = 0
    while at < len(octets):
        block = octets[at + 1 : at + 1 + octets[at]]
        at += 1 + len(block)
        expected = _reference(theirs, block)
        try:
            found: list[Field] | None = [(line.name, line.value) for line in ours.decode(block)]
        except ConnectionFault:
            found = None
        assert found == expected
        if found is None:
            return


def _reference(decoder: hpack.Decoder, block: bytes) -> list[Field] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except (hpack.HPACKError, IndexError):
        return None


def messages(octets: bytes) -> None:
    """A side's bytes: cut into messages, and passed on, as the specification has them, in one piece and in many."""
    step = octets[0] + 1 if octets else 1
    said = octets[1:]
    expected, fault = _said(said)
    for pieces in ([said], [said[at : at + step] for at in range(0, len(said), step)]):
        _cut(pieces, expected, fault)
        _passed(pieces, expected, fault)
    for frame in expected:
        for encoding in (b"", b"gzip", b"deflate", b"other"):
            with contextlib.suppress(WireFault):
                raw = unframe(frame, encoding, _LIMIT)
                assert raw is None or len(raw) <= _LIMIT


def _said(said: bytes) -> tuple[list[bytes], str]:
    """The messages in front of some bytes, and the reason of the fault behind them, "" where there is none."""
    at = 0
    found: list[bytes] = []
    while len(said) - at >= PREFIX:
        size = int.from_bytes(said[at + 1 : at + PREFIX], "big")
        if said[at] > 1:
            return found, "message.flag"
        if size > _LIMIT:
            return found, "message.too_large"
        if at + PREFIX + size > len(said):
            break
        found.append(said[at : at + PREFIX + size])
        at += PREFIX + size
    return found, "message.truncated" if at < len(said) else ""


def _cut(pieces: list[bytes], expected: list[bytes], fault: str) -> None:
    deframer, reason = Deframer(_LIMIT), ""
    found: list[bytes] = []
    try:
        for piece in pieces:
            found += deframer.feed(piece)
        deframer.finish()
    except WireFault as error:
        reason = error.deny.reason
    assert reason == fault
    # What came in one piece with a fault is not told of.
    assert found == expected[: len(found)]
    assert len(found) == len(expected) or fault in ("message.flag", "message.too_large")


def _passed(pieces: list[bytes], expected: list[bytes], fault: str) -> None:
    passage, passed, given, reason = Passage(_LIMIT), bytearray(), 0, ""
    try:
        for piece in pieces:
            given += len(piece)
            passed += passage.feed(piece)
            assert given - len(passed) < PREFIX + HOLD
        passage.finish()
    except WireFault as error:
        reason = error.deny.reason
    assert reason == fault
    if not fault:
        assert bytes(passed) == b"".join(expected)
        assert passage.count == len(expected)


def timeout(octets: bytes) -> None:
    """A `grpc-timeout`: read as the specification has it, and what is left of it is said within it."""
    seconds = parse_timeout(octets)
    if not _TIMEOUT.match(octets):
        assert seconds is None
        return
    assert seconds is not None
    assert math.isclose(seconds, int(octets[:-1]) * _UNIT_S[octets[-1:]], abs_tol=1e-12)
    left = parse_timeout(timeout_field(seconds)[1])
    assert left is not None
    assert left <= max(seconds, 1e-6) * (1 + 1e-9)


def metadata(octets: bytes) -> None:
    """A name and a value, parted by NUL: whatever they are, a request with them is taken or refused, and so is -bin."""
    name, _, value = octets.partition(b"\0")
    fields: tuple[Field, ...] = (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), (name, value),
    )  # fmt: skip
    head = RequestHead(lines_of(fields))
    if len(octets) < 4_000:
        again = HeaderBlocks(Limits(), of_answers=False).request(encode(fields))
        assert (again.fault is None, again.fields) == (head.fault is None, head.fields)
    if head.fault is None and refuse(head) is None:
        assert Request(head, b"http").path == "/a.B/C"
        assert value.isascii()
    _binary(value)
    message = percent_decode(value)
    assert percent_decode(percent_encode(message)) == message


def _binary(value: bytes) -> None:
    if b"," in value or b" " in value:
        is_binary_value(value)
        return
    whole = value if value.endswith(b"=") else value + b"=" * (-len(value) % 4)
    try:
        base64.b64decode(whole, validate=True)
        expected = len(whole) % 4 == 0 and not value.endswith(b"===")
    except binascii.Error:
        expected = False
    assert is_binary_value(value) == expected


def config(octets: bytes) -> None:
    """A config file: a config, which its effective form says again, or a ConfigError that can be shown."""
    text = octets.decode("utf-8", "replace")
    shown = ""
    try:
        found = parse(text, _DIRECTORY, {})
    except ConfigError as error:
        shown = str(error)
    else:
        shown = "taken"
        assert build(found.effective(), _DIRECTORY, {}) == found
    assert shown


TARGETS: Final[dict[str, Target]] = {
    each.__name__: each for each in (server_frames, client_frames, header_blocks, messages, timeout, metadata, config)
}
