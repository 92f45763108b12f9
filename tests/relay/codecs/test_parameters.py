"""Parameters in every spelling: what demands a permission is found, and an id is changed wherever a server reads it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.contract import CodecError, ModelName, Parameter
from sidecar.relay.codecs.parameters import SHORT
from sidecar.relay.codecs.registry import registry
from tests.relay.codecs.inference import KINDS, ORACLE, entry, field
from tests.relay.codecs.soups import soups

OIP = "/inference.GRPCInferenceService/"
INFER = registry("open-inference").codec(OIP + "ModelInfer")
STREAM = registry("open-inference").codec(OIP + "ModelStreamInfer")
LOAD = registry("open-inference").codec(OIP + "RepositoryModelLoad")
INDEX = registry("open-inference").codec(OIP + "RepositoryIndex")
SHARED = ("models.shared_memory",)
VALUES: dict[str, Any] = {
    "bool_param": True, "int64_param": 7, "string_param": "region", "double_param": 1.5, "uint64_param": 7,
}  # fmt: skip
NAME = "sequence_id"


def infer(**said: Any) -> bytes:
    raw: bytes = ORACLE["Request"](model_name="m", **said).SerializeToString()
    return raw


@pytest.mark.parametrize("padding", [0, 2 * SHORT], ids=["short", "long"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"])
def test_a_tensor_that_is_elsewhere_is_found(key: str, kind: str, padding: int) -> None:
    parameters = {"other": {"bool_param": True}, key: {kind: VALUES[kind]}}
    beside = {"raw_input_contents": [bytes(padding)]}
    plain = {"name": "x", "shape": [1]}
    for raw in (
        infer(inputs=[{"name": "i", "parameters": parameters}], **beside),
        infer(inputs=[plain, {"name": "i", "parameters": parameters}], **beside),
        infer(inputs=[plain], outputs=[{"name": "o", "parameters": parameters}], **beside),
        infer(parameters=parameters, **beside),
    ):
        assert INFER.special(raw) == STREAM.special(raw) == SHARED
    assert INFER.special(infer(inputs=[plain], parameters={"other": {kind: VALUES[kind]}}, **beside)) == ()


@pytest.mark.parametrize("size", [1, 2 * SHORT])
def test_data_that_look_like_it_are_data(size: int) -> None:
    """What a text model is asked about may be these words."""
    text = b"shared_memory_region " * size
    raw = infer(id="shared_memory_region"[: min(20, size)], inputs=[{"name": "i", "contents": text}])
    assert INFER.special(raw) == ()
    assert INFER.special(infer(raw_input_contents=[text])) == ()


KEY = b"shared_memory_region"
REGION = b"\x1a\x01r"
INSIDE: dict[str, bytes] = {
    "the key twice, last another": field(1, KEY) + field(1, b"x") + field(2, REGION),
    "the key twice, first another": field(1, b"x") + field(1, KEY) + field(2, REGION),
    "the value twice": entry(KEY, REGION) + field(2, b""),
    "a field that is not known": entry(KEY, REGION) + b"\x18\x01",
    "a field that is not known, of another entry": field(1, b"x") + field(3, KEY),
    "the key as a number": b"\x08\x01" + field(2, KEY),
    "the value as a number": field(1, KEY) + b"\x10\x01",
    "a key that is not UTF-8": field(1, b"\xff" + KEY) + field(2, REGION),
    "a padded length": b"\x0a\x94\x00" + KEY,
    "a group": b"\x0b" + field(1, KEY) + b"\x0c",
}


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE.keys())
@pytest.mark.parametrize("padding", [0, 2 * SHORT], ids=["short", "long"])
def test_what_cannot_be_told_is_refused(inside: bytes, padding: int) -> None:
    data = field(7, bytes(padding))
    for raw in (field(4, inside), field(5, field(4, inside)), field(6, field(2, inside))):
        with pytest.raises(CodecError):
            INFER.special(data + raw)


def test_the_key_alone_and_the_value_first_are_the_key() -> None:
    for inside in (field(1, KEY), field(2, REGION) + field(1, KEY)):
        assert INFER.special(field(5, field(4, inside))) == SHARED


def test_a_tensor_of_another_wire_type_is_refused() -> None:
    with pytest.raises(CodecError):
        INFER.special(b"\x28\x01" + field(7, KEY))


def test_messages_that_are_none_demand_nothing_unless_they_have_the_words() -> None:
    for raw in (b"\xff", bytes(100), bytes(2 * SHORT)):
        assert INFER.special(raw) == ()
    for raw in (b"\xff" + KEY, bytes(2 * SHORT) + KEY):
        with pytest.raises(CodecError):
            INFER.special(raw)


def test_fields_beyond_count_are_refused_only_with_the_words() -> None:
    many = field(6, b"") * 3000
    assert INFER.special(many) == ()
    with pytest.raises(CodecError, match="more than 2048 fields"):
        INFER.special(many + field(5, field(4, entry(KEY, REGION))))


keys = st.sampled_from([b"shared_memory_region", b"shared_memory_offset", b"sequence_id", b"x", b""])
values = st.one_of(
    st.sampled_from([b"", b"\x08\x01", b"\x10\x07", b"\x1a\x01s", b"\x28\x09", b"\x10\x07\x1a\x01s", b"\x1a\x00"]),
    st.binary(max_size=4),
)
pieces = st.one_of(keys.map(lambda key: field(1, key)), values.map(lambda value: field(2, value)), st.just(b"\x18\x01"))
entries = st.one_of(st.builds(entry, keys, values), st.lists(pieces, max_size=4).map(b"".join))
requests = st.lists(
    st.one_of(
        entries.map(lambda inside: field(4, inside)),
        entries.map(lambda inside: field(5, field(4, inside))),
        entries.map(lambda inside: field(6, field(2, inside))),
        st.sampled_from([field(1, b"m"), field(7, b"shared_memory_region"), b"\x58\x05"]),
    ),
    max_size=4,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(requests, soups))
def test_no_server_sees_a_tensor_elsewhere_that_is_not_found(raw: bytes) -> None:
    try:
        found = INFER.special(raw)
        request = ORACLE["Request"].FromString(raw)
    except (CodecError, DecodeError):
        return
    maps = [request.parameters, *(each.parameters for each in (*request.inputs, *request.outputs))]
    seen = any(key.startswith("shared_memory_") for each in maps for key in each)
    assert (found == SHARED) is seen


@pytest.mark.parametrize(
    ("parameters", "demanded"),
    [
        ({}, ()),
        ({"config": {"string_param": "{}"}}, ("models.load_config",)),
        ({"config": {"bool_param": True}}, ("models.load_config",)),
        ({"file:1/model.py": {"string_param": "x"}}, ("models.load_files",)),
        ({"file:": {"int64_param": 1}}, ("models.load_files",)),
        ({"File:x": {"int64_param": 1}}, ("models.load_config",)),  # whatever that is to a server
        ({"anything": {"int64_param": 1}}, ("models.load_config",)),
        ({"": {}}, ("models.load_config",)),
        ({"config": {}, "file:1/model.py": {}}, ("models.load_files", "models.load_config")),
    ],
)
def test_what_loading_a_model_demands(parameters: dict[str, Any], demanded: tuple[str, ...]) -> None:
    raw = ORACLE["Load"](model_name="m", parameters=parameters).SerializeToString()
    assert set(LOAD.special(raw)) == set(demanded)


@pytest.mark.parametrize("inside", [field(1, b"x") + field(1, b"config"), entry(b"config", b"") + b"\x18\x01", b"\xff"])
def test_what_loading_a_model_demands_must_be_read(inside: bytes) -> None:
    with pytest.raises(CodecError):
        LOAD.special(field(2, b"m") + field(3, inside))


def twice(value: Parameter) -> Parameter:
    return value * 2


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param", "string_param"])
@pytest.mark.parametrize("padding", [0, 2 * SHORT], ids=["short", "long"])
def test_a_parameter_is_changed_and_nothing_else(kind: str, padding: int) -> None:
    value: Any = "ab" if kind == "string_param" else 21
    others = {"sequence_start": {"bool_param": True}, "my_sequence_id": {"int64_param": 5}}
    beside = {"inputs": [{"name": "i", "shape": [1]}], "raw_input_contents": [b"sequence_id" + bytes(padding)]}
    before = ORACLE["Request"](model_name="m", parameters={**others, NAME: {kind: value}}, **beside)
    after = ORACLE["Request"].FromString(INFER.with_parameter(before.SerializeToString(), False, NAME, twice))
    assert getattr(after.parameters[NAME], kind) == value * 2
    before.parameters[NAME].CopyFrom(after.parameters[NAME])
    assert after == before


def test_a_parameter_goes_where_nothing_takes_its_place() -> None:
    raw = ORACLE["Response"](parameters={NAME: {"int64_param": 5}}).SerializeToString()
    assert INFER.with_parameter(raw, True, NAME, lambda value: None) == b""
    assert INFER.with_parameter(raw, True, NAME, lambda value: value) is raw


@pytest.mark.parametrize("raw", [b"", infer(parameters={"x": {"bool_param": True}}), bytes(100), bytes(2 * SHORT)])
def test_without_it_a_message_is_itself(raw: bytes) -> None:
    for codec in (INFER, STREAM):
        for response in (False, True):
            assert codec.with_parameter(raw, response, NAME, twice) is raw


ID = NAME.encode()
UNTOLD: dict[str, bytes] = {
    "no value": field(4, field(1, ID)),
    "an empty value": field(4, entry(ID, b"")),
    "a truth": field(4, entry(ID, b"\x08\x01")),
    "a real number": field(4, entry(ID, b"\x21" + bytes(8))),
    "two types": field(4, entry(ID, b"\x10\x07\x1a\x01s")),
    "a number twice": field(4, entry(ID, b"\x10\x07\x10\x08")),
    "a kind that is not known": field(4, entry(ID, b"\x32\x01s")),
    "a number with another wire type": field(4, entry(ID, b"\x15\x00\x00\x00\x00")),
    "a packed number": field(4, entry(ID, b"\x12\x01\x07")),
    "a text that is none": field(4, entry(ID, b"\x1a\x01\xff")),
    "two entries": field(4, entry(ID, b"\x10\x07")) * 2,
    "two entries of two types": field(4, entry(ID, b"\x10\x07")) + field(4, entry(ID, b"\x1a\x01s")),
    "the key twice": field(4, field(1, b"x") + field(1, ID) + field(2, b"\x10\x07")),
    "another key after it": field(4, field(1, ID) + field(1, b"x") + field(2, b"\x10\x07")),
    "the value twice": field(4, entry(ID, b"\x10\x07") + field(2, b"\x10\x08")),
    "a field that is not known": field(4, entry(ID, b"\x10\x07") + b"\x18\x01"),
    "the key as a number": field(4, b"\x08\x01" + field(2, b"\x10\x07")) + field(7, ID),
    "parameters as a number": b"\x20\x01" + field(7, ID),
    "a group": b"\x23" + field(1, ID) + b"\x24",
    "cut": field(4, entry(ID, b"\x10\x07"))[:-1],
}


@pytest.mark.parametrize("raw", UNTOLD.values(), ids=UNTOLD.keys())
def test_a_parameter_that_cannot_be_told_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        INFER.with_parameter(raw, False, NAME, twice)


@settings(max_examples=300, deadline=None)
@given(st.one_of(requests, soups))
def test_whatever_a_server_reads_has_been_changed(raw: bytes) -> None:
    seen: list[Parameter] = []

    def change(value: Parameter) -> Parameter:
        seen.append(value)
        return 1 if isinstance(value, int) else "one"

    try:
        edited = INFER.with_parameter(raw, False, NAME, change)
        before, after = (ORACLE["Request"].FromString(each) for each in (raw, edited))
    except (CodecError, DecodeError):
        return
    assert (NAME in before.parameters) is bool(seen)
    if seen:
        choice = after.parameters[NAME].WhichOneof("parameter_choice")
        assert choice == before.parameters[NAME].WhichOneof("parameter_choice")
        assert getattr(after.parameters[NAME], choice) in (1, "one")
        before.parameters[NAME].CopyFrom(after.parameters[NAME])
    assert after == before


def test_answers_of_a_stream_wrapped_or_bare() -> None:
    """Triton wraps them, MLServer does not."""
    answer = {"model_name": "m", "parameters": {NAME: {"string_param": "ab"}}, "raw_output_contents": [bytes(200)]}
    bare, wrapped = ORACLE["Response"](**answer), ORACLE["StreamResponse"](infer_response=answer)
    edited = STREAM.with_parameter(bare.SerializeToString(), True, NAME, twice)
    assert ORACLE["Response"].FromString(edited).parameters[NAME].string_param == "abab"
    again = STREAM.with_parameter(wrapped.SerializeToString(), True, NAME, twice)
    assert ORACLE["StreamResponse"].FromString(again).infer_response == ORACLE["Response"].FromString(edited)
    failed = ORACLE["StreamResponse"](error_message="sequence_id 5 has not begun").SerializeToString()
    assert STREAM.with_parameter(failed, True, NAME, twice) == failed


def test_an_answer_less_some_models() -> None:
    models = [{"name": name, "version": "1", "state": "READY"} for name in ("a", "b", "c", "a")]
    raw = ORACLE["Index"](models=models).SerializeToString()
    shown = INDEX.without_models(raw, lambda model: model == ModelName("a", "1"))
    assert [each.name for each in ORACLE["Index"].FromString(shown).models] == ["b", "c"]
    assert INDEX.without_models(raw, lambda model: False) == raw
    assert INDEX.without_models(raw, lambda model: True) == INDEX.without_models(b"", lambda model: True) == b""


@pytest.mark.parametrize("raw", [b"\xff", field(2, b"x"), b"\x08\x01", field(1, field(1, b"a") + field(1, b"b"))])
def test_a_list_that_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        INDEX.without_models(raw, lambda model: False)


def test_a_method_whose_answers_list_nothing() -> None:
    with pytest.raises(CodecError):
        INFER.without_models(b"", lambda model: False)
    assert INDEX.with_parameter(field(4, entry(ID, b"\x10\x07")), False, NAME, twice) == field(
        4, entry(ID, b"\x10\x07")
    )
