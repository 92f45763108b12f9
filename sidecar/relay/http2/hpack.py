"""HPACK decoding (RFC 7541). The table holds lines, so that a field that comes again has been looked at already.

Encoding needs no table and is `blocks.encode`.
"""

from __future__ import annotations

from typing import Final

from sidecar.relay.http2.errors import ConnectionFault, ErrorCode
from sidecar.relay.http2.fields import Line, is_secret
from sidecar.relay.http2.huffman import decode as huffman

TABLE: Final = 4096  # octets of the dynamic table, SETTINGS_HEADER_TABLE_SIZE: nobody is told of another
_LONGEST_INTEGER: Final = 5  # octets after the prefix: beyond any size we take
_MEMO_MOST: Final = 4096  # lines
_MEMO_LONGEST: Final = 256  # octets of one
# RFC 7541 Appendix A.
_STATIC: Final = tuple(Line(name, value) for name, value in (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""),
    (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""), (b"authorization", b""),
    (b"cache-control", b""), (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""),
    (b"content-length", b""), (b"content-location", b""), (b"content-range", b""), (b"content-type", b""),
    (b"cookie", b""), (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
    (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
    (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""),
    (b"via", b""), (b"www-authenticate", b""),
))  # fmt: skip
_OWN_LONGEST: Final = 2048  # octets of one literal that a connection remembers by itself
_OWN_OCTETS: Final = 8 << 10  # of all of those
_OWN_ENTRY: Final = 256  # octets of one beside its texts: a line and its place, as measured
# Literals that no table holds, by name and spelling; those with credentials, and long ones, are their connection's.
_memo: dict[tuple[bytes, bytes], Line] = {}


def integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
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


def bounds(block: bytes, at: int) -> tuple[int, int]:
    """Of the string at `at`: where its octets begin and end. Raises IndexError past the end, ValueError."""
    size = block[at] & 0x7F
    if size < 0x7F:
        at += 1
    else:
        size, at = integer(block, at, 7)
    stop = at + size
    if stop > len(block):
        raise ValueError("string beyond the block")
    return at, stop


def string(block: bytes, at: int) -> tuple[bytes, int]:
    """RFC 7541 §5.2: (text, next position). Raises IndexError past the end, ValueError when it is malformed."""
    begin, stop = bounds(block, at)
    text = block[begin:stop]
    return huffman(text) if block[at] & 0x80 and text else text, stop


class Decoder:
    """One connection's decoding context. generation moves with every change of the dynamic table."""

    __slots__ = ("_hard", "_most", "_own", "_own_left", "_size", "_table", "_table_most", "generation")

    def __init__(self, hard_limit: int, most: int) -> None:
        """hard_limit: size of a list (RFC 9113 §6.5.2) beyond which the connection ends.  most: the same for fields."""
        self._hard = hard_limit
        self._most = most
        self._table: list[Line] = []  # the newest last
        self._size = 0
        self._table_most = TABLE
        self._own: dict[tuple[bytes, bytes], Line] = {}  # literals that no table holds and nobody else may see
        self._own_left = _OWN_OCTETS
        self.generation = 0

    def decode(self, block: bytes) -> list[Line]:
        """The lines of a block, in order. Raises ConnectionFault: the context is lost."""
        lines: list[Line] = []
        at, end, room = 0, len(block), self._hard
        try:
            while at < end:
                first = block[at]
                if first & 0x80:
                    index = first & 0x7F
                    if index < 0x7F:
                        at += 1
                    else:
                        index, at = integer(block, at, 7)
                    line = self._line(index)
                elif first & 0x40:
                    name, at = self._name(block, at, 6)
                    value, at = string(block, at)
                    line = Line(name, value)
                    self._insert(line)
                elif first & 0x20:
                    if lines:
                        raise ValueError("table size update after a field")  # §4.2
                    size, at = integer(block, at, 5)
                    self._resize(size)
                    continue
                else:
                    name, at = self._name(block, at, 4)
                    _, stop = bounds(block, at)
                    spelt = name, block[at:stop]
                    line = _memo.get(spelt) or self._own.get(spelt) or self._literal(spelt)
                    at = stop
                room -= line.size
                lines.append(line)
                if room < 0 or len(lines) > self._most:
                    raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list far beyond its limit")
        except (IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from None
        return lines

    def _line(self, index: int) -> Line:
        """§2.3.3. Raises IndexError or ValueError."""
        if index > len(_STATIC):
            return self._table[len(_STATIC) - index]
        if not index:
            raise ValueError("index 0")
        return _STATIC[index - 1]

    def _name(self, block: bytes, at: int, prefix: int) -> tuple[bytes, int]:
        index = block[at] & (1 << prefix) - 1
        if not index:
            return string(block, at + 1)
        index, at = integer(block, at, prefix)
        return self._line(index).name, at

    def _insert(self, line: Line) -> None:
        """§4.4: an entry longer than the table empties it."""
        self.generation += 1
        self._table.append(line)
        self._size += line.size
        if self._size > self._table_most:
            self._evict()

    def _resize(self, most: int) -> None:
        if most > TABLE:
            raise ValueError(f"table of {most} octets, at most {TABLE}")
        self.generation += 1
        self._table_most = most
        self._evict()

    def _evict(self) -> None:
        table, gone = self._table, 0
        while self._size > self._table_most:
            self._size -= table[gone].size
            gone += 1
        del table[:gone]

    def _literal(self, spelt: tuple[bytes, bytes]) -> Line:
        """A line that no table holds, and is not remembered yet. Raises ValueError."""
        name, value = spelt[0], string(spelt[1], 0)[0]
        line = Line(name, value)
        size = len(name) + len(value)
        # Nothing has been looked at yet: a name in capitals will be refused, and its value may be a credential.
        if size <= _MEMO_LONGEST and not is_secret(name.lower()):
            if len(_memo) >= _MEMO_MOST:
                _memo.clear()
            _memo[spelt] = line
        elif size <= _OWN_LONGEST:
            size += len(spelt[1]) + _OWN_ENTRY
            if size > self._own_left:
                self._own.clear()
                self._own_left = _OWN_OCTETS
            self._own_left -= size
            self._own[spelt] = line
        return line
