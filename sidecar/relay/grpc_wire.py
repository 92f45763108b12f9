"""gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): length-prefixed messages, compression, status, deadlines.

Bytes in, bytes out; streams and the chain are the driver's.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from typing import Final

from interceptors.contract import Code, Deny, RawField
from sidecar.relay.http2.blocks import encode

PREFIX: Final = 5  # bytes: compressed flag, length
HOLD: Final = 16 << 10  # bytes; a shorter message travels whole or not at all
_SHORT: Final = 1 << 10  # bytes
_STEP: Final = 256 << 10  # bytes inflated at a time
_WBITS: Final = {b"gzip": 31, b"deflate": 15}
ENCODINGS: Final = b"identity,deflate,gzip"
KNOWN_ENCODINGS: Final = frozenset(ENCODINGS.split(b","))
_MOST_DIGITS: Final = 8
_UNITS: Final = {72: 3600.0, 77: 60.0, 83: 1.0, 109: 1e-3, 117: 1e-6, 110: 1e-9}
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_AROUND = re.compile(rb"\A +| +\Z")
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {0x25}
_BASE64: Final = rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{3}=?|[A-Za-z0-9+/]{2}(?:==)?)?"
_BINARY = re.compile(_BASE64 + rb"(?: ?, ?" + _BASE64 + rb")*+")
_GRPC_HEAD: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))


class WireFault(Exception):
    """A side's bytes are not what gRPC allows. `deny` says how the call ends."""

    def __init__(self, code: Code, reason: str, public: str) -> None:
        super().__init__(public)
        self.deny = Deny(code, reason, public)


def _too_large(size: int, limit: int) -> WireFault:
    return WireFault(Code.RESOURCE_EXHAUSTED, "message.too_large", f"message of {size} bytes, the limit is {limit}")


def _check_prefix(flag: int, size: int, limit: int) -> None:
    if flag > 1:
        raise WireFault(Code.INTERNAL, "message.flag", f"message flag is {flag}, expected 0 or 1")
    if size > limit:
        raise _too_large(size, limit)


def _truncated() -> WireFault:
    return WireFault(Code.INTERNAL, "message.truncated", "the stream ended within a message")


def cardinality(count: int, ended: bool) -> None:
    """Raise WireFault unless `count` messages may stand on a unary side. grpc/doc/statuscodes.md: UNIMPLEMENTED."""
    if count > 1:
        raise WireFault(Code.UNIMPLEMENTED, "message.cardinality", "a second message on a unary side")
    if ended and not count:
        raise WireFault(Code.UNIMPLEMENTED, "message.cardinality", "no message on a unary side")


class Passage:
    """Lets a side's bytes through, message by message: short ones whole, long ones as they come.

    count: messages begun and let through.  held: bytes kept until their message is complete.
    """

    __slots__ = ("_held", "_left", "_limit", "count")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = b""
        self._left = 0  # bytes still to come of a long message already on its way
        self.count = 0

    @property
    def partial(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._held or self._left)

    def feed(self, payload: bytes) -> bytes:
        """What may go on now. Raises WireFault."""
        size = len(payload)
        if not self._left and not self._held and size >= PREFIX and payload[0] < 2:
            if int.from_bytes(payload[1:5], "big") + PREFIX == size and size <= self._limit:
                self.count += 1
                return payload
        return self._feed_parts(payload)

    def amid(self, size: int) -> bool:
        """Whether the next `size` bytes are of a long message already on its way, and all of them may go on."""
        return size <= self._left

    def skip(self, size: int) -> None:
        """Count bytes that have gone on, as `amid` allows."""
        self._left -= size

    def _feed_parts(self, payload: bytes) -> bytes:
        data = self._held + payload if self._held else payload
        length = len(data)
        at = min(self._left, length)
        self._left -= at
        while length - at >= PREFIX:
            size = int.from_bytes(data[at + 1 : at + PREFIX], "big")
            _check_prefix(data[at], size, self._limit)
            end = at + PREFIX + size
            if end > length:
                if end - at <= HOLD:
                    break
                self._left = end - length
                end = length
            self.count += 1
            at = end
        self._held = data[at:]
        return data[:at] if at < length else data

    def finish(self) -> None:
        """The side has ended. Raises WireFault within a message."""
        if self._held or self._left:
            raise _truncated()


class Deframer:
    """Cuts a side's bytes into whole messages, prefix included. have: bytes of the unfinished one."""

    __slots__ = ("_limit", "_need", "_parts", "count", "have")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes | bytearray] = []
        self._need = PREFIX  # bytes with which something is complete: the prefix, or the message
        self.have = 0
        self.count = 0

    def feed(self, payload: bytes) -> list[bytes]:
        """The messages that are complete now. Raises WireFault."""
        have = self.have + len(payload)
        if self.have:
            if len(payload) < _SHORT:
                self._keep(payload)
            else:
                self._parts.append(payload)
            self.have = have
            if have < self._need:
                return []
            data = b"".join(self._parts)
        else:
            data = payload
        at, whole = 0, []
        self._need = PREFIX
        while have - at >= PREFIX:
            size = int.from_bytes(data[at + 1 : at + PREFIX], "big")
            _check_prefix(data[at], size, self._limit)
            end = at + PREFIX + size
            if end > have:
                self._need = PREFIX + size
                break
            whole.append(data[at:end])
            at = end
        self.count += len(whole)
        self._parts = [data[at:]] if at < have else []
        self.have = have - at
        return whole

    def _keep(self, payload: bytes) -> None:
        """Add a short payload to what waits: in one piece with others, for a piece each would cost far more."""
        parts = self._parts
        if type(parts[-1]) is bytearray:
            parts[-1] += payload
        else:
            parts.append(bytearray(payload))

    def finish(self) -> None:
        """The side has ended. Raises WireFault within a message."""
        if self.have:
            raise _truncated()


def unframe(frame: bytes, encoding: bytes, limit: int) -> bytes | None:
    """The uncompressed message in a frame, or None where it inflates beyond `limit` bytes. Raises WireFault."""
    if not frame[0]:
        return frame[PREFIX:]
    wbits = _WBITS.get(encoding)
    if wbits is None:
        if encoding in (b"", b"identity"):
            raise WireFault(Code.INTERNAL, "message.flag", "a message is flagged compressed, grpc-encoding is not set")
        raise WireFault(Code.UNIMPLEMENTED, "message.encoding", "grpc-encoding is not one of identity, deflate, gzip")
    inflater = zlib.decompressobj(wbits)
    parts: list[bytes] = []
    size = 0
    packed: bytes | memoryview[int] = memoryview(frame)[PREFIX:]
    try:
        # In steps: what one step gives is put together by zlib while no other thread may run.
        while (part := inflater.decompress(packed, min(_STEP, limit + 1 - size))) or inflater.unconsumed_tail:
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
            packed = inflater.unconsumed_tail
    except zlib.error:
        raise WireFault(Code.INTERNAL, "message.compression", "a message does not decompress") from None
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    if not inflater.eof or inflater.unused_data:
        raise WireFault(Code.INTERNAL, "message.compression", "a message's compressed form is cut or followed by more")
    return raw


def frame(raw: bytes, encoding: bytes = b"") -> bytes:
    """A message with its prefix, compressed where `encoding` is one we know."""
    wbits = _WBITS.get(encoding)
    if wbits is None:
        return b"\x00" + len(raw).to_bytes(4, "big") + raw
    deflater = zlib.compressobj(wbits=wbits)
    packed = deflater.compress(raw) + deflater.flush()
    return b"\x01" + len(packed).to_bytes(4, "big") + packed


def parse_timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout`, or None when it is malformed."""
    last = len(value) - 1
    unit = _UNITS.get(value[last]) if 0 < last <= _MOST_DIGITS else None
    if unit is None:
        return None
    number = 0
    for at in range(last):
        digit = value[at] - 0x30
        if not 0 <= digit <= 9:
            return None
        number = number * 10 + digit
    return number * unit


def timeout_field(seconds: float) -> RawField:
    """`grpc-timeout` for what is left, rounded down, at least one unit."""
    if seconds < 90:
        return b"grpc-timeout", b"%du" % max(1, int(seconds * 1e6))
    if seconds < 90_000:
        return b"grpc-timeout", b"%dm" % int(seconds * 1e3)
    return b"grpc-timeout", b"%dS" % min(99_999_999, int(seconds))


def percent_encode(message: str) -> bytes:
    """`grpc-message` on the wire: everything outside 0x20-0x7E, %, and spaces around it, as %XX of UTF-8."""
    raw = message.encode("utf-8", "replace")
    if not _PLAIN.issuperset(raw):
        raw = b"".join(bytes((octet,)) if octet in _PLAIN else b"%%%02X" % octet for octet in raw)
    # RFC 9113 §8.2.1: no field value begins or ends with a space.
    return _AROUND.sub(lambda found: found[0].replace(b" ", b"%20"), raw)


def percent_decode(value: bytes) -> str:
    """`grpc-message` as text; what is not well formed stays as it came, as the specification asks."""
    return _PERCENT.sub(lambda found: bytes((int(found[1], 16),)), value).decode("utf-8", "replace")


def is_binary_value(value: bytes) -> bool:
    """Whether a `-bin` value is base64, padded or not, or several joined by commas."""
    return _BINARY.fullmatch(value) is not None


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def status_details(deny: Deny) -> bytes:
    """A serialized google.rpc.Status (google/rpc/status.proto) with the denial's details."""
    parts = [b"\x08" + _varint(int(deny.code)), _field(2, deny.public.encode("utf-8", "replace"))]
    for detail in deny.details:
        parts.append(_field(3, _field(1, detail.type_url.encode()) + _field(2, detail.value)))
    return b"".join(parts)


def denial_block(deny: Deny, head_sent: bool) -> bytes:
    """The header block that ends a call: trailers after a head, else a trailers-only answer."""
    fields: list[RawField] = [] if head_sent else list(_GRPC_HEAD)
    fields += ((b"grpc-status", b"%d" % int(deny.code)), (b"grpc-message", percent_encode(deny.public)))
    if deny.details:
        fields.append((b"grpc-status-details-bin", base64.b64encode(status_details(deny)).rstrip(b"=")))
    fields += deny.trailers
    return encode(fields)


def http_refusal_block(status: int, deny: Deny) -> bytes:
    """An answer to what is not gRPC: an HTTP status, and a gRPC one for clients that look."""
    return encode((
        (b":status", b"%d" % status), (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % int(deny.code)), (b"grpc-message", percent_encode(deny.public)),
    ))  # fmt: skip


def status_of(fields: Sequence[RawField]) -> int:
    """The gRPC status in trailers, -1 where there is none or it is not a number."""
    for name, value in fields:
        if name == b"grpc-status":
            return int(value) if value.isdigit() and len(value) < 4 else -1
    return -1
