"""Messages that no honest encoder writes: fields in any order and number, repeated, of any wire type, cut or padded."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.sampled_from(["", "a", "b", "digits", "fraud-1", "é", "\x00"]).map(str.encode)
integers = st.one_of(st.integers(0, 3), st.sampled_from([127, 128, 1 << 31, 1 << 63, (1 << 64) - 1]))


def spell(value: int, padding: int = 0) -> bytes:
    """A varint, by `padding` bytes longer than it need be."""
    spelt = bytearray()
    while value > 0x7F or padding:
        if value <= 0x7F:
            padding -= 1
        spelt.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*spelt, value))


@st.composite
def fields(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> bytes:
    number = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 7, 16, 0]))
    kind = draw(st.sampled_from([2, 2, 2, 2, 2, 2, 0, 1, 5, 3, 4, 6, 7]))
    padding = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 9]))
    tag = spell(number << 3 | kind, padding)
    if kind == 2:
        payload = draw(payloads)
        return tag + spell(len(payload), draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1]))) + payload
    if kind == 0:
        return tag + spell(draw(integers), draw(st.sampled_from([0, 0, 0, 1])))
    return tag + draw(st.binary(min_size=4, max_size=8))


def messages(depth: int) -> st.SearchStrategy[bytes]:
    payloads: st.SearchStrategy[bytes] = st.one_of(names, st.binary(max_size=3))
    if depth:
        payloads = st.one_of(names, messages(depth - 1))
    return st.lists(fields(payloads), max_size=5).map(b"".join)


def cut(message: bytes, at: int) -> bytes:
    return message[: at % (len(message) + 1)]


soups = st.one_of(messages(3), st.builds(cut, messages(2), st.integers(0, 99)), st.binary(max_size=40))


def shuffled(schema: Any) -> st.SearchStrategy[bytes]:
    """Well-formed messages of a schema whose fields, known and unknown, come in any order and any number of times.

    schema: a protobuf Descriptor.
    """
    unknown = st.sampled_from([b"\x58\x05", b"\x5a\x01x", b"\x5d1234", b"\x5912345678"])  # field 11
    known = [occurrence(field) for field in schema.fields]
    return st.lists(st.one_of(*known, *known, unknown), max_size=6).map(b"".join)


def occurrence(field: Any) -> st.SearchStrategy[bytes]:
    if field.type == field.TYPE_INT64:
        tag = spell(field.number << 3)
        return st.builds(lambda value, padding: tag + spell(value, padding), integers, st.sampled_from([0, 0, 0, 1]))
    tag = spell(field.number << 3 | 2)
    payloads = names if field.message_type is None else shuffled(field.message_type)
    return payloads.map(lambda payload: tag + spell(len(payload)) + payload)
