"""One message as the list of its fields: what a link whose view is DECODED gets, and may forward changed.

Without a schema, so every field is kept, known or not, and what is not touched is written as it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from interceptors.contract import CodecError
from sidecar.relay.codecs.wire import FIXED32, FIXED64, KINDS, LENGTH, VARINT, Buffer, Walk, varint

SIZES = {FIXED32: 4, FIXED64: 8}
LAST_NUMBER = (1 << 29) - 1


class Field(NamedTuple):
    """number: the field's.  kind: its wire type.  payload: what follows the tag and, in a text, bytes or message
    field, the length; of a received message it is a view, not a copy."""

    number: int
    kind: int
    payload: Buffer

    @classmethod
    def text(cls, number: int, text: str) -> Field:
        return cls(number, LENGTH, text.encode())

    @classmethod
    def message(cls, number: int, fields: Fields) -> Field:
        return cls(number, LENGTH, fields.encode())

    @classmethod
    def integer(cls, number: int, value: int) -> Field:
        """An int64, uint64, bool or enum field."""
        return cls(number, VARINT, spell(value & (1 << 64) - 1))


class Fields:
    """A message. Never changed in place: `with_fields` gives another."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Field] = ()) -> None:
        self.items = tuple(items)

    @classmethod
    def decode(cls, raw: Buffer) -> Fields:
        """Raises CodecError where `raw` is no message. Nested messages stay payloads: without a schema they
        cannot be told from texts."""
        view = memoryview(raw)
        slots = Walk(raw).slots(0, len(raw))
        return cls(Field(slot.number, slot.kind, view[slot.begin : slot.end]) for slot in slots)

    def encode(self) -> bytes:
        """Raises CodecError for a field that cannot travel."""
        parts: list[Buffer] = []
        for number, kind, payload in self.items:
            if not 0 < number <= LAST_NUMBER:
                raise CodecError(f"field number is {number}, expected 1 to {LAST_NUMBER}")
            parts.append(spell(number << 3 | kind))
            if kind == LENGTH:
                parts.append(spell(len(payload)))
            elif not fits(kind, payload):
                raise CodecError(f"payload of field {number} does not fit its wire type {kind}")
            parts.append(payload)
        return b"".join(parts)

    def all(self, number: int) -> tuple[Field, ...]:
        return tuple(field for field in self.items if field.number == number)

    def text(self, number: int) -> str:
        """A singular string field, "" where it is absent. Raises CodecError if it is none."""
        texts = [as_text(field) for field in self.all(number)]
        return texts[-1] if texts else ""

    def texts(self, number: int) -> tuple[str, ...]:
        """A repeated string field. Raises CodecError if one is none."""
        return tuple(as_text(field) for field in self.all(number))

    def message(self, number: int) -> Fields:
        """A singular message field, its occurrences merged. Raises CodecError if it is none."""
        return Fields.decode(b"".join(of_kind(field, LENGTH).payload for field in self.all(number)))

    def messages(self, number: int) -> tuple[Fields, ...]:
        """A repeated message field. Raises CodecError if one is none."""
        return tuple(Fields.decode(of_kind(field, LENGTH).payload) for field in self.all(number))

    def with_fields(self, number: int, *fields: Field) -> Fields:
        """With these in place of every field `number`, where the first stood, or at the end."""
        at = next((n for n, field in enumerate(self.items) if field.number == number), len(self.items))
        rest = (field for field in self.items[at:] if field.number != number)
        return Fields((*self.items[:at], *fields, *rest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Fields({len(self.items)} fields)"  # content stays out of logs and tracebacks


def of_kind(field: Field, kind: int) -> Field:
    if field.kind != kind:
        raise CodecError(f"field {field.number} is {KINDS[field.kind]}, expected {KINDS[kind]}")
    return field


def as_text(field: Field) -> str:
    try:
        return str(of_kind(field, LENGTH).payload, "utf-8")
    except UnicodeDecodeError:
        raise CodecError(f"field {field.number} is not UTF-8") from None


def fits(kind: int, payload: Buffer) -> bool:
    if kind != VARINT:
        return len(payload) == SIZES.get(kind)
    try:
        return varint(payload, 0)[1] == len(payload)
    except (IndexError, CodecError):
        return False


def spell(value: int) -> bytes:
    """A varint. value: from 0."""
    spelt = bytearray()
    while value > 0x7F:
        spelt.append(value & 0x7F | 0x80)
        value >>= 7
    spelt.append(value)
    return bytes(spelt)
