"""HPACK (RFC 7541) decoding by jh2's Rust codec, and the checks that codec lacks.

The codec is private to jh2, so it is used here only, with its version pinned. It panics (a BaseException, with a
trace on stderr) on truncated input and takes a table size update after a field, so `survey` reads every block
first: what it passes never makes the codec panic. Encoding needs no table and is `blocks.encode`.
"""

from __future__ import annotations

from typing import cast

from jh2._hazmat import Decoder as RustDecoder
from jh2._hazmat import HPACKError, OversizedHeaderListError

from sidecar.relay.http2.errors import ConnectionFault, ErrorCode

TABLE_SIZE = 4096  # bytes; SETTINGS_HEADER_TABLE_SIZE stays at its default
_LONGEST_INTEGER = 5  # octets after the prefix: beyond any size we take


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


def survey(block: bytes) -> bool:
    """Whether the block changes the dynamic table. Raises ConnectionFault unless it is well formed.

    Checked: integers, string bounds, and that size updates stand first (RFC 7541 §4.2).
    """
    at, length, changes, fields = 0, len(block), False, False
    try:
        while at < length:
            first = block[at]
            if first & 0x80:
                if first < 0xFF:
                    at += 1
                else:
                    _, at = _integer(block, at, 7)
                fields = True
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
            fields = True
            for _ in range(1 if index else 2):
                octet = block[at]
                if octet & 0x7F < 0x7F:
                    at += 1 + (octet & 0x7F)
                else:
                    size, at = _integer(block, at, 7)
                    at += size
                if at > length:
                    raise ValueError("string beyond the block")
    except (IndexError, ValueError) as error:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from None
    return changes


class Decoder:
    """One connection's decoding context. generation moves with every change of the dynamic table."""

    __slots__ = ("_rust", "generation")

    def __init__(self, hard_limit: int) -> None:
        """hard_limit: header list size in bytes beyond which decoding stops and the connection ends."""
        self._rust = RustDecoder(hard_limit)
        self.generation = 0

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block, in order. Raises ConnectionFault: the context is lost."""
        if survey(block):
            self.generation += 1
        try:
            found = self._rust.decode(block, True)
        except OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list far beyond its limit") from None
        except HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "header block does not decode") from None
        return cast("list[tuple[bytes, bytes]]", [(field[0], field[1]) for field in found])
