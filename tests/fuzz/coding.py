"""HPACK (RFC 7541) as an encoder would write it that is free to choose, and one that gets it wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Final

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from sidecar.relay.http2.fields import Field

_STATIC: Final = tuple(HeaderTable.STATIC_TABLE)
_WHOLE: Final = {field: number for number, field in reversed(list(enumerate(_STATIC, 1)))}
_NAMES: Final = {field[0]: number for number, field in reversed(list(enumerate(_STATIC, 1)))}
_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
TABLE: Final = 4_096  # bytes, of every subject's dynamic table at most
_ENTRY: Final = 32  # bytes an entry costs besides its octets (RFC 7541 §4.1)


def integer(value: int, prefix: int, first: int) -> bytes:
    """RFC 7541 §5.1, behind the bits `first`."""
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


def string(text: bytes, huffman: bool) -> bytes:
    """RFC 7541 §5.2."""
    coded = _HUFFMAN.encode(text) if huffman else text
    return integer(len(coded), 7, 0x80 if huffman else 0) + coded


class Coder:
    """One direction's encoder: it knows what the other end's table holds, as long as all it wrote was read."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._table: deque[Field] = deque()
        self._size = 0  # bytes
        self._most = TABLE

    def block(self, fields: Iterable[Field]) -> bytes:
        """The fields, each in one of the forms that may say it, perhaps behind a size update."""
        parts = [self._resized()] if self._rng.random() < 0.05 else []
        parts += [self._field(field) for field in fields]
        return b"".join(parts)

    def broken(self, fields: Iterable[Field]) -> bytes:
        """A block that does not decode, as a rule."""
        rng = self._rng
        block = self.block(fields)
        return rng.choice((
            lambda: block + integer(62 + len(self._table) + rng.choice((0, 0, 1, 70)), 7, 0x80),  # RFC 7541 §2.3.3
            lambda: block + b"\x80",  # §6.1: index 0
            lambda: block + integer(rng.choice((0, 100, TABLE)), 5, 0x20),  # §4.2: behind a field
            lambda: integer(rng.choice((TABLE + 1, 65_536)), 5, 0x20) + block,  # §6.3: beyond the limit
            lambda: block[: rng.randrange(len(block))] if block else b"\x40",
            lambda: block + b"\x00\x01a\x82" + rng.choice((b"\x1f\x00", b"\x1f\xfe", b"\xff\xff")),  # §5.2: padding
            lambda: block + b"\x00\x01a\x84\xff\xff\xff\xff",  # §5.2: EOS
            lambda: block + b"\x00\x01a\x7f" + b"\xff" * rng.choice((4, 5, 9, 12)) + b"\x01",  # §5.1: too long
            lambda: block + integer(62 + len(self._table), 6, 0x40) + b"\x01v",
            lambda: rng.randbytes(rng.randrange(1, 24)),
        ))()  # fmt: skip

    def _resized(self) -> bytes:
        parts = []
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            self._most = self._rng.choice((0, 60, 200, TABLE - 1, TABLE, TABLE))
            self._evict(0)
            parts.append(integer(self._most, 5, 0x20))
        return b"".join(parts)

    def _evict(self, coming: int) -> None:
        while self._table and self._size + coming > self._most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY

    def _field(self, field: Field) -> bytes:
        rng = self._rng
        name, value = field
        known = _WHOLE.get(field)
        dynamic = list(self._table)
        if known is None and field in dynamic:
            known = 62 + dynamic.index(field)
        if known is not None and rng.random() < 0.8:
            return integer(known, 7, 0x80)
        named = _NAMES.get(name, 0)
        if not named and rng.random() < 0.7:
            named = next((62 + at for at, entry in enumerate(dynamic) if entry[0] == name), 0)
        form = rng.random()
        if form < 0.3:
            self._add(field)
            head = integer(named, 6, 0x40)
        else:
            head = integer(named, 4, 0x10 if form < 0.6 else 0)
        if not named:
            head += string(name, rng.random() < 0.3)
        return head + string(value, rng.random() < 0.3)

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + _ENTRY
        self._evict(size)
        if size <= self._most:
            self._table.appendleft(field)
            self._size += size
