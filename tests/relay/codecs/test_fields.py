"""Messages as fields: nothing is lost in reading and writing, what is changed is what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given

from interceptors.contract import CodecError
from sidecar.relay.codecs.fields import Field, Fields
from tests.relay.codecs.schemas import SCHEMAS
from tests.relay.codecs.soups import soups

INFER = SCHEMAS["ModelInferRequest"]
REQUEST = INFER(
    model_name="digits",
    model_version="1",
    inputs=[{"name": "x", "datatype": "FP32", "shape": [1, -1]}, {"name": "y"}],
    raw_input_contents=[b"\x00\xff", b""],
)


@given(soups)
def test_what_is_read_is_written_byte_for_byte(raw: bytes) -> None:
    try:
        fields = Fields.decode(raw)
    except CodecError:
        return
    assert fields.encode() == raw
    assert Fields.decode(fields.encode()) == fields


def test_nothing_large_is_copied() -> None:
    raw = INFER(raw_input_contents=[bytes(1 << 20)]).SerializeToString()
    [field] = Fields.decode(raw).items
    assert isinstance(field.payload, memoryview)
    assert field.payload.obj is raw


def test_reading() -> None:
    fields = Fields.decode(REQUEST.SerializeToString())
    assert (fields.text(1), fields.text(2), fields.text(3)) == ("digits", "1", "")
    assert [tensor.text(1) for tensor in fields.messages(5)] == ["x", "y"]
    assert fields.message(6) == Fields()
    assert [bytes(field.payload) for field in fields.all(7)] == [b"\x00\xff", b""]
    assert repr(fields) == "Fields(6 fields)"


def test_the_last_text_counts_and_messages_merge() -> None:
    both = INFER(model_name="a", id="1").SerializeToString() + INFER(model_name="b").SerializeToString()
    assert Fields.decode(both).text(1) == "b"
    assert Fields.decode(both).texts(1) == ("a", "b")
    wrapped = Fields([Field(2, 2, INFER(model_name="a", id="1").SerializeToString()), Field(2, 2, b"\x0a\x01b")])
    assert (wrapped.message(2).text(1), wrapped.message(2).text(3)) == ("b", "1")


def test_writing_is_what_protobuf_reads() -> None:
    fields = Fields.decode(REQUEST.SerializeToString())
    tensors = [Field.message(5, tensor.with_fields(2, Field.text(2, "INT64"))) for tensor in fields.messages(5)]
    changed = fields.with_fields(1, Field.text(1, "prière")).with_fields(5, *tensors).with_fields(7)
    message = INFER.FromString(changed.with_fields(99, Field.integer(99, 5)).encode())
    assert message.model_name == "prière"
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in message.inputs] == [
        ("x", "INT64", [1, -1]),
        ("y", "INT64", []),
    ]
    assert list(message.raw_input_contents) == []
    assert fields.text(1) == "digits"


@pytest.mark.parametrize("value", [0, 1, 300, -1, (1 << 63) - 1, -(1 << 63)])
def test_integers(value: int) -> None:
    wrapped = SCHEMAS["Int64Value"].FromString(Fields([Field.integer(1, value)]).encode())
    assert wrapped.value == value


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Field(0, 2, b""), "field number is 0, expected 1 to 536870911"),
        (Field(1 << 29, 2, b""), "field number is 536870912, expected 1 to 536870911"),
        (Field(1, 5, b"123"), "payload of field 1 does not fit its wire type 5"),
        (Field(1, 1, b"123"), "payload of field 1 does not fit its wire type 1"),
        (Field(1, 3, b""), "payload of field 1 does not fit its wire type 3"),
        (Field(1, 0, b""), "payload of field 1 does not fit its wire type 0"),
        (Field(1, 0, b"\x01\x0a"), "payload of field 1 does not fit its wire type 0"),
        (Field(1, 0, b"\xff" * 11), "payload of field 1 does not fit its wire type 0"),
    ],
)
def test_a_field_that_cannot_travel_is_refused(field: Field, message: str) -> None:
    with pytest.raises(CodecError) as refused:
        Fields([field]).encode()
    assert str(refused.value) == message


@pytest.mark.parametrize("read", [Fields.text, Fields.texts, Fields.message, Fields.messages])
def test_a_field_of_another_wire_type_is_refused(read: object) -> None:
    fields = Fields([Field.integer(1, 5)])
    with pytest.raises(CodecError, match="field 1 is varint, expected length-delimited"):
        read(fields, 1)  # type: ignore[operator]


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(CodecError, match="field 1 is not UTF-8"):
        Fields([Field(1, 2, b"\xff")]).text(1)
