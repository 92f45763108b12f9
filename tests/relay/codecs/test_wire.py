"""The wire format, strictly: what two parsers might read differently is refused, and nothing takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import CodecError
from sidecar.relay.codecs.wire import MOST_FIELDS, Slot, Walk, varint
from tests.relay.codecs.soups import soups, spell


def slots(raw: bytes) -> list[Slot]:
    return Walk(raw).slots(0, len(raw))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x0a", "message ends within a field"),
        (b"\x0a\x02a", "field 1 runs beyond its message"),
        (b"\x0a\x80", "message ends within a field"),
        (b"\x08", "message ends within a field"),
        (b"\x08\x80", "message ends within a field"),
        (b"\x0d\x00\x00\x00", "field 1 runs beyond its message"),
        (b"\x09" + bytes(7), "field 1 runs beyond its message"),
        (b"\x80", "message ends within a field"),
        (b"\x02\x00", "message has a field 0"),
        (b"\x00\x00", "message has a field 0"),
        (b"\x80\x00\x00", "a tag is padded"),
        (b"\x8a\x00\x01a", "a tag is padded"),
        (b"\x0a\x81\x00a", "a length is padded"),
        (b"\x82\x80\x80\x80\x10\x00", "a tag is 4294967298, the largest is 4294967295"),
        (b"\x0a\x80\x80\x80\x80\x08", "a length is 2147483648, the largest is 2147483647"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "a length is 18446744073709551615, the largest is 2147483647"),
        (b"\x0a" + b"\xff" * 9 + b"\x02", "a varint is beyond 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a varint is beyond 64 bits"),
        (b"\x08" + b"\x80" * 10 + b"\x00", "a varint is beyond 64 bits"),
        (b"\x08" + b"\xff" * 1000, "a varint is beyond 64 bits"),
        (b"\x0b\x0c", "field 1 has wire type 3: groups are not known here"),
        (b"\x0c", "field 1 has wire type 4: groups are not known here"),
        (b"\x0e", "field 1 has wire type 6: groups are not known here"),
        (b"\x0f", "field 1 has wire type 7: groups are not known here"),
    ],
)
def test_what_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(CodecError) as refused:
        slots(raw)
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, (1 << 32) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("padding", [0, 1])
def test_values_may_be_padded_up_to_ten_bytes(value: int, padding: int) -> None:
    raw = spell(value, padding)
    if len(raw) > 10:
        with pytest.raises(CodecError):
            varint(raw, 0)
    else:
        assert varint(raw, 0) == (value, len(raw))
        assert slots(b"\x08" + raw) == [Slot(1, 0, 1, 1 + len(raw))]


def test_every_wire_type_and_the_last_field_number() -> None:
    raw = b"\x08\x05" + b"\x11" + bytes(8) + b"\x1a\x02ab" + b"\x25" + bytes(4) + b"\xfa\xff\xff\xff\x0f\x00"
    assert slots(raw) == [
        Slot(1, 0, 1, 2), Slot(2, 1, 3, 11), Slot(3, 2, 13, 15), Slot(4, 5, 16, 20), Slot((1 << 29) - 1, 2, 26, 26)
    ]  # fmt: skip


def test_a_field_of_a_nested_message_ends_with_it() -> None:
    raw = b"\x0a\x02\x0a\x05" + b"abcde"
    with pytest.raises(CodecError, match="field 1 runs beyond its message"):
        Walk(raw).slots(2, 4)


def test_the_fields_of_one_message_are_counted_over_all_it_nests() -> None:
    assert len(slots(b"\x0a\x00" * MOST_FIELDS)) == MOST_FIELDS
    with pytest.raises(CodecError, match=f"more than {MOST_FIELDS} fields"):
        slots(b"\x0a\x00" * (MOST_FIELDS + 1))
    walk = Walk(b"\x0a\x00" * MOST_FIELDS)
    walk.slots(0, 1000)
    walk.slots(0, 1000)
    with pytest.raises(CodecError, match="fields"):
        walk.slots(0, 2 * MOST_FIELDS)


@pytest.mark.parametrize("raw", [b"\x08\x01", b"\x0d" + bytes(4), b"\x09" + bytes(8)])
def test_a_text_of_another_wire_type_is_refused(raw: bytes) -> None:
    walk = Walk(raw)
    [slot] = walk.slots(0, len(raw))
    with pytest.raises(CodecError, match="expected length-delimited"):
        walk.text(slot)


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_a_text_that_is_not_utf_8_is_refused(text: bytes) -> None:
    raw = b"\x0a" + bytes([len(text)]) + text
    walk = Walk(raw)
    with pytest.raises(CodecError, match="field 1 is not UTF-8"):
        walk.text(walk.slots(0, len(raw))[0])


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_int64(value: int) -> None:
    raw = b"\x08" + spell(value & (1 << 64) - 1)
    walk = Walk(raw)
    assert walk.int64(walk.slots(0, len(raw))[0]) == value


@given(soups)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for data in (raw, memoryview(raw)):
        try:
            found = Walk(data).slots(0, len(raw))
        except CodecError:
            continue
        assert [slot.end for slot in found][-1:] == [len(raw)][: bool(raw)]
        assert all(slot.begin <= slot.end for slot in found)
