"""Protobuf's wire format without a schema: which fields a message has, and where. Nothing is copied.

Stricter than most parsers, so that no two can read a message differently: tags and lengths are spelt as short as
they go, groups and field 0 are refused, and the fields of one message are counted.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from interceptors.contract import CodecError

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
KINDS: Final = {VARINT: "varint", FIXED64: "64 bits", LENGTH: "length-delimited", FIXED32: "32 bits"}

Buffer: TypeAlias = bytes | memoryview
MOST_FIELDS = 2048  # of one message, nested ones that are looked into included: 0.3 to 2 ms on the event loop
LONGEST_VARINT = 10  # bytes
LAST_TAG = (1 << 32) - 1  # field numbers have 29 bits
LAST_LENGTH = (1 << 31) - 1  # protobuf's own limit of a message


class Slot(NamedTuple):
    """One field of a message: data[begin:end] is its payload, without tag and length."""

    number: int
    kind: int
    begin: int
    end: int


class Walk:
    """Reads one message; its fields are counted over all calls. Raises CodecError, as every method here."""

    __slots__ = ("_left", "_most", "data")

    def __init__(self, data: Buffer, most: int = MOST_FIELDS) -> None:
        """most: fields that are read."""
        self.data = data
        self._left = self._most = most

    def slots(self, begin: int, end: int, wanted: frozenset[int] | None = None) -> list[Slot]:
        """The fields of the message data[begin:end] in order; of all are checked, those `wanted` are given."""
        data, left, found, at = self.data, self._left, [], begin
        try:
            while at < end:
                left -= 1
                if left < 0:
                    raise CodecError(f"message has more than {self._most} fields")
                tag = data[at]
                at += 1
                if tag > 0x7F:
                    tag, at = spelt_short(data, at - 1, LAST_TAG, "tag")
                kind, number = tag & 7, tag >> 3
                if not number:
                    raise CodecError("message has a field 0")
                if kind == LENGTH:
                    size = data[at]
                    at += 1
                    if size > 0x7F:
                        size, at = spelt_short(data, at - 1, LAST_LENGTH, "length")
                    start = at
                    at += size
                elif kind == VARINT:
                    start = at
                    last = start + LONGEST_VARINT - 1
                    while data[at] > 0x7F:
                        at += 1
                        if at == last and data[at] > 1:
                            raise CodecError("a varint is beyond 64 bits")
                    at += 1
                elif kind == FIXED32:
                    start = at
                    at += 4
                elif kind == FIXED64:
                    start = at
                    at += 8
                else:
                    raise CodecError(f"field {number} has wire type {kind}: groups are not known here")
                if at > end:
                    raise CodecError(f"field {number} runs beyond its message")
                if wanted is None or number in wanted:
                    found.append(Slot(number, kind, start, at))
        except IndexError:
            raise CodecError("message ends within a field") from None
        self._left = left
        return found

    def once(self, begin: int, end: int, wanted: frozenset[int]) -> dict[int, Slot]:
        """Singular fields of the message data[begin:end], by number; that one stands there twice is a fault.

        Of two the last counts, says the specification; whoever reads the first sees another message.
        """
        found: dict[int, Slot] = {}
        for slot in self.slots(begin, end, wanted):
            if slot.number in found:
                raise CodecError(f"field {slot.number} occurs twice")
            found[slot.number] = slot
        return found

    def text(self, slot: Slot) -> str:
        """A string field."""
        expect(slot, LENGTH)
        try:
            return str(memoryview(self.data)[slot.begin : slot.end], "utf-8")
        except UnicodeDecodeError:
            raise CodecError(f"field {slot.number} is not UTF-8") from None

    def int64(self, slot: Slot) -> int:
        """An int64 field."""
        expect(slot, VARINT)
        return signed(varint(self.data, slot.begin)[0])

    def packed_int64(self, slot: Slot) -> int:
        """The first number of a packed repeated int64 that is not empty."""
        expect(slot, LENGTH)
        try:
            return signed(varint(memoryview(self.data)[slot.begin : slot.end], 0)[0])
        except IndexError:
            raise CodecError(f"field {slot.number} ends within a number") from None


def expect(slot: Slot, kind: int) -> None:
    """Parsers skip a field of another wire type than its schema's; here it may not be one that is asked for."""
    if slot.kind != kind:
        raise CodecError(f"field {slot.number} is {KINDS[slot.kind]}, expected {KINDS[kind]}")


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """The value at `at`, below 2**64, and where it ends. Raises IndexError where the data ends first."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift == 7 * LONGEST_VARINT and byte > 1:
            raise CodecError("a varint is beyond 64 bits")
        if byte < 0x80:
            return value, at


def signed(value: int) -> int:
    """An int64 from the 64 bits of its varint."""
    return value - (1 << 64) if value >> 63 else value


def spelt_short(data: Buffer, at: int, last: int, what: str) -> tuple[int, int]:
    """As varint, but refused beyond `last` or where it is padded: parsers disagree on long tags and lengths."""
    value, end = varint(data, at)
    if value > last:
        raise CodecError(f"a {what} is {value}, the largest is {last}")
    if not data[end - 1]:
        raise CodecError(f"a {what} is padded")
    return value, end
