"""HPACK (RFC 7541) decoding by jh2's Rust codec, and the checks that codec lacks.

The codec is private to jh2, so it is used here only, with its version pinned. It panics (a BaseException, with a
trace on stderr) on truncated input, takes a table size update after a field, counts a list's octets but not its
fields, and takes Huffman padding of other bits than ones. So `survey` reads every block first: what it passes never
makes the codec panic. Encoding needs no table and is `blocks.encode`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias, cast

from jh2._hazmat import Decoder as RustDecoder
from jh2._hazmat import HPACKError, OversizedHeaderListError

from sidecar.relay.http2.errors import ConnectionFault, ErrorCode

_LONGEST_INTEGER: Final = 5  # octets after the prefix: beyond any size we take
# RFC 7541 Appendix B: the length in bits of each octet's code.
_BITS: Final = bytes((
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
))  # fmt: skip


# A Huffman-coded string of a block: the field's number, its part (0 name, 1 value), octets on the wire, the last of
# them. No class: a block has several, and making one costs more than reading the string.
Coded: TypeAlias = tuple[int, int, int, int]


class Survey(NamedTuple):
    """What a block is made of. changes: whether it changes the dynamic table."""

    changes: bool
    fields: int
    coded: list[Coded]


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """RFC 7541 §5.1: (value, next position). Raises IndexError past the end, ValueError when too long."""
    mask = (1 << prefix) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, at
    raise ValueError("integer too long")


def survey(block: bytes) -> Survey:
    """Read a block's structure. Raises ConnectionFault unless it is well formed.

    Checked: integers, string bounds, and that size updates stand first (RFC 7541 §4.2).
    """
    at, length, changes, fields = 0, len(block), False, 0
    coded: list[Coded] = []
    try:
        while at < length:
            first = block[at]
            if first & 0x80:
                if first < 0xFF:
                    at += 1
                else:
                    _, at = _integer(block, at, 7)
                fields += 1
                continue
            if first & 0xE0 == 0x20:
                if fields:
                    raise ValueError("table size update after a field")
                _, at = _integer(block, at, 5)
                changes = True
                continue
            if first & 0x40:
                changes = True
                index, at = _integer(block, at, 6)
            else:
                index, at = _integer(block, at, 4)
            for part in (1,) if index else (0, 1):
                octet = block[at]
                size = octet & 0x7F
                if size < 0x7F:
                    at += 1 + size
                else:
                    size, at = _integer(block, at, 7)
                    at += size
                if at > length:
                    raise ValueError("string beyond the block")
                if octet & 0x80 and size:
                    coded.append((fields, part, size, block[at - 1]))
            fields += 1
    except (IndexError, ValueError) as error:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from None
    return Survey(changes, fields, coded)


def _well_padded(text: bytes, size: int, last: int) -> bool:
    """RFC 7541 §5.2: whether what follows a Huffman-coded text's codes is less than an octet of ones."""
    spare = 8 * size - sum(text.translate(_BITS))
    ones = (1 << spare) - 1 if 0 <= spare < 8 else 0x100
    return last & ones == ones


class Decoder:
    """One connection's decoding context. generation moves with every change of the dynamic table."""

    __slots__ = ("_most", "_rust", "generation")

    def __init__(self, hard_limit: int, most: int) -> None:
        """hard_limit: octets of names and values beyond which the connection ends.  most: the same for fields."""
        self._rust = RustDecoder(hard_limit)
        self._most = most
        self.generation = 0

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block, in order. Raises ConnectionFault: the context is lost."""
        changes, count, coded = survey(block)
        if count > self._most:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list far beyond its limit")
        if changes:
            self.generation += 1
        try:
            found = self._rust.decode(block, True)
        except OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list far beyond its limit") from None
        except HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block does not decode") from None
        fields = cast("list[tuple[bytes, bytes]]", [(field[0], field[1]) for field in found])
        for number, part, size, last in coded:
            if not _well_padded(fields[number][part], size, last):
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block: Huffman padding is not ones")
        return fields
