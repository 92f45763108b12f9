"""Header blocks: decoded once while a connection's table stands still, and encoded without any table.

Upstream connections are shared between tenants, so nothing a caller sent enters their HPACK table: every field goes
out as an entry of the static table, or as a literal that is never indexed, here or further on (RFC 7541 §6.2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from sidecar.relay.http2.fields import (
    Field,
    Line,
    RequestHead,
    RequestTrailers,
    ResponseHead,
    TrailerBlock,
    is_secret,
    list_size,
)
from sidecar.relay.http2.hpack import Decoder
from sidecar.relay.http2.limits import Limits

# RFC 7541 §4.2: said once at the start of a connection, it keeps our encoder within any table size the peer chooses.
TABLE_SIZE_ZERO = b"\x20"
_NEVER = 0x10
_HARD_FACTOR = 4
_CACHE_MOST = 64  # blocks
_CACHE_LONGEST = 4096  # bytes, decoded: a block of table references is far shorter than what it says
_CACHE_BYTES = 64 << 10  # decoded, of all blocks together: what is kept with each takes about ten times as many
_WHOLE = {  # RFC 7541 Appendix A
    (b":method", b"POST"): b"\x83",
    (b":scheme", b"http"): b"\x86",
    (b":scheme", b"https"): b"\x87",
    (b":status", b"200"): b"\x88",
}
_NAMES = {
    b":authority": 1, b":path": 4, b":status": 8, b"accept-encoding": 16, b"content-encoding": 26,
    b"content-length": 28, b"content-type": 31, b"date": 33, b"server": 54, b"user-agent": 58,
}  # fmt: skip
_MEMO_MOST = 4096
_MEMO_LONGEST = 256

_memo: dict[Field, bytes] = {}


def _integer(value: int, prefix: int, first: int) -> bytes:
    mask = (1 << prefix) - 1
    if value < mask:
        return bytes((first | value,))
    octets = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def encode_field(field: Field) -> bytes:
    """One field as a literal without indexing, or as a static entry."""
    known = _memo.get(field)
    if known is not None:
        return known
    name, value = field
    encoded = _encoded(name, value)
    if len(encoded) <= _MEMO_LONGEST and not is_secret(name):
        if len(_memo) >= _MEMO_MOST:
            _memo.clear()
        _memo[field] = encoded
    return encoded


def encode_line(line: Line) -> bytes:
    """As `encode_field`, of a line that came; kept with the line from the second time on, for most come once."""
    known = line.literal
    if known:
        return known
    encoded = _encoded(line.name, line.value)
    line.literal = b"" if known is None else encoded
    return encoded


def _encoded(name: bytes, value: bytes) -> bytes:
    whole = _WHOLE.get((name, value))
    if whole is not None:
        return whole
    index = _NAMES.get(name)
    if index is None:
        return _literal(name, value)
    return _integer(index, 4, _NEVER) + _integer(len(value), 7, 0) + value


def encode(fields: Iterable[Field]) -> bytes:
    """A whole header block."""
    return b"".join(map(encode_field, fields))


def encode_fresh(fields: Iterable[Field]) -> bytes:
    """As `encode`, for fields that differ from call to call and would only fill the memo."""
    return b"".join([_literal(name, value) for name, value in fields])


def _literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541 §6.2.3, the name spelt out."""
    if len(name) < 0x7F and len(value) < 0x7F:
        return b"\x10%c%b%c%b" % (len(name), name, len(value), value)
    return b"\x10" + _integer(len(name), 7, 0) + name + _integer(len(value), 7, 0) + value


class _Head(Protocol):
    oversize: bool


H = TypeVar("H", bound=_Head)


class HeaderBlocks:
    """One connection's decoding, with a cache that holds only while the dynamic table is unchanged."""

    __slots__ = (
        "_cached",
        "_decoder",
        "_generation",
        "_limits",
        "_make_trailers",
        "_requests",
        "_responses",
        "_trailers",
    )

    def __init__(self, limits: Limits, of_answers: bool) -> None:
        """of_answers: whether what comes are answers, not requests."""
        self._make_trailers: type[TrailerBlock] = TrailerBlock if of_answers else RequestTrailers
        self._decoder = Decoder(hard_limit(limits), _HARD_FACTOR * limits.header_count)
        self._generation = 0
        self._cached = 0  # bytes that the blocks say which the caches hold, or a few more
        self._limits = limits
        self._requests: dict[bytes, RequestHead] = {}
        self._responses: dict[bytes, ResponseHead] = {}
        self._trailers: dict[bytes, TrailerBlock] = {}

    def request(self, block: bytes) -> RequestHead:
        return self._requests.get(block) or self._decode(block, RequestHead, self._requests)

    def forget_requests(self) -> None:
        """Decode anew what comes next: what was noted with the heads is out of date."""
        self._requests.clear()

    def response(self, block: bytes) -> ResponseHead:
        return self._responses.get(block) or self._decode(block, ResponseHead, self._responses)

    def trailers(self, block: bytes) -> TrailerBlock:
        return self._trailers.get(block) or self._decode(block, self._make_trailers, self._trailers)

    def _decode(self, block: bytes, make: Callable[[list[Line]], H], cache: dict[bytes, H]) -> H:
        lines = self._decoder.decode(block)
        head = make(lines)
        limits, size = self._limits, list_size(lines)
        head.oversize = len(lines) > limits.header_count or size > limits.header_list
        if self._generation != self._decoder.generation:
            self._generation = self._decoder.generation
            self._forget()
        elif size <= _CACHE_LONGEST:
            if len(cache) >= _CACHE_MOST or self._cached + size > _CACHE_BYTES:
                self._forget()
            cache[block] = head
            self._cached += size
        return head

    def _forget(self) -> None:
        self._requests.clear()
        self._responses.clear()
        self._trailers.clear()
        self._cached = 0


def hard_limit(limits: Limits) -> int:
    """Bytes of header block, compressed or not, beyond which the connection ends."""
    return _HARD_FACTOR * limits.header_list
