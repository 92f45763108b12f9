"""The models we see are the models the server sees, for whatever bytes a caller sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import CodecError, ModelName
from sidecar.relay.codecs import names
from sidecar.relay.codecs.names import Find
from tests.relay.codecs.schemas import SCHEMAS
from tests.relay.codecs.soups import shuffled, soups

Truth = Callable[[Any], tuple[ModelName, ...]]


def of_spec(spec: Any) -> ModelName:
    if spec.WhichOneof("version_choice") == "version":
        return ModelName(spec.name, str(spec.version.value))
    return ModelName(spec.name, spec.version_label)


def of_tasks(request: Any) -> tuple[ModelName, ...]:
    return tuple(dict.fromkeys(of_spec(task.model_spec) for task in request.tasks)) or (ModelName(""),)


def of_stream(response: Any) -> tuple[ModelName, ...]:
    inner = response.infer_response
    return (ModelName(inner.model_name, inner.model_version),) if response.HasField("infer_response") else ()


# how we read it, the schema it has, and what protobuf's parser makes of it
READERS: dict[str, tuple[Find, str, Truth]] = {
    "infer": (names.pair(1, 2), "ModelInferRequest", lambda m: (ModelName(m.model_name, m.model_version),)),
    "name alone": (names.pair(1), "ModelInferRequest", lambda m: (ModelName(m.model_name),)),
    "predict": (names.spec(1), "PredictRequest", lambda m: (of_spec(m.model_spec),)),
    "session": (names.spec(3), "SessionRunResponse", lambda m: (of_spec(m.model_spec),)),
    "tasks": (names.each_spec(1, 1), "MultiInferenceRequest", of_tasks),
}


@pytest.mark.parametrize("reader", READERS)
@given(raw=soups)
def test_what_we_read_is_what_protobuf_reads(reader: str, raw: bytes) -> None:
    agree(reader, raw)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_fields_in_any_order_and_number_are_read_as_protobuf_reads_them(reader: str, data: st.DataObject) -> None:
    agree(reader, data.draw(shuffled(SCHEMAS[READERS[reader][1]].DESCRIPTOR)))


def agree(reader: str, raw: bytes) -> None:
    find, schema, truth = READERS[reader]
    try:
        found = find(raw)
    except CodecError:
        return  # refused before the server sees it
    try:
        message = SCHEMAS[schema].FromString(raw)
    except DecodeError:
        return  # refused by the server
    assert found == truth(message)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_what_protobuf_writes_is_read(reader: str, data: st.DataObject) -> None:
    find, schema, truth = READERS[reader]
    message = data.draw(filled(schema))
    assert find(message.SerializeToString()) == truth(message)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_what_protobuf_would_merge_is_refused_or_read_as_protobuf_reads_it(reader: str, data: st.DataObject) -> None:
    """Of a field that may stand once and stands twice, another parser may see the first."""
    find, schema, truth = READERS[reader]
    first, second = data.draw(filled(schema)), data.draw(filled(schema))
    raw = first.SerializeToString() + second.SerializeToString()
    try:
        found = find(raw)
    except CodecError:
        return
    assert found == truth(SCHEMAS[schema].FromString(raw))


@pytest.mark.parametrize(
    ("find", "raw"),
    [
        (names.pair(1, 2), b"\x0a\x01a\x0a\x01a"),
        (names.pair(1, 2), b"\x0a\x01a\x12\x011\x0a\x01b"),
        (names.pair(1, 2), b"\x12\x011\x12\x012"),
        (names.pair(1, 2), b"\x0a\x00\x0a\x01a"),
        (names.pair(1), b"\x0a\x01a\x12\x011\x0a\x01a"),
        (names.either(2, 1), b"\x12\x01a\x12\x01b"),
        (names.either(2, 1), b"\x12\x01a\x0a\x01b\x12\x01a"),
        (names.spec(1), b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a"),
        (names.spec(1), b"\x0a\x03\x0a\x01a\x0a\x00"),
        (names.spec(1), b"\x0a\x06\x0a\x01a\x0a\x01a"),
        (names.spec(1), b"\x0a\x08\x12\x02\x08\x07\x12\x02\x08\x07"),
        (names.spec(1), b"\x0a\x06\x12\x04\x08\x07\x08\x07"),
        (names.spec(1), b"\x0a\x07\x12\x02\x08\x07\x22\x01s"),
        (names.spec(1), b"\x0a\x07\x22\x01s\x12\x02\x08\x07"),
        (names.each_spec(1, 1), b"\x0a\x0a\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a"),
    ],
)
def test_what_may_stand_once_and_stands_twice_is_refused(find: Find, raw: bytes) -> None:
    with pytest.raises(CodecError, match=r"occurs twice|stand together"):
        find(raw)


texts = st.text("ab-é\x00\u2028\U0001f600", max_size=5)


def filled(schema: str) -> st.SearchStrategy[Any]:
    """Messages of `schema`, each field there or not."""
    made = SCHEMAS[schema]

    def of(field: Any) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            one = filled(field.message_type.name)
        else:
            one = {
                field.TYPE_STRING: texts,
                field.TYPE_BYTES: st.binary(max_size=9),
                field.TYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
            }[field.type]
        return st.lists(one, max_size=3) if field.is_repeated else one

    optional = {field.name: of(field) for field in made.DESCRIPTOR.fields}
    # Of a oneof only one is drawn: a message cannot be made with both.
    kept = st.sets(st.sampled_from(sorted(optional))).map(
        lambda chosen: chosen - {"version_label"} if "version" in chosen else chosen
    )
    return kept.flatmap(lambda chosen: st.fixed_dictionaries({name: optional[name] for name in chosen})).map(
        lambda values: made(**values)
    )


def spec(*parts: bytes) -> bytes:
    return b"".join(b"\x0a" + bytes([len(part)]) + part for part in parts)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ModelName("")),
        (spec(b"\x0a\x01a"), ModelName("a")),
        (spec(b"\x0a\x01a\x12\x02\x08\x07"), ModelName("a", "7")),
        (spec(b"\x12\x02\x08\x07\x0a\x01a"), ModelName("a", "7")),
        (spec(b"\x22\x01s"), ModelName("", "s")),
        (spec(b"\x12\x00"), ModelName("", "0")),
        (spec(b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01"), ModelName("", "-1")),
    ],
)
def test_a_model_spec_is_read_as_parsers_do(raw: bytes, expected: ModelName) -> None:
    assert names.spec(1)(raw) == (expected,) == (of_spec(SCHEMAS["PredictRequest"].FromString(raw).model_spec),)


def test_a_name_is_authorised_wherever_a_server_may_look_for_it() -> None:
    """Triton and MLServer name the model to load in field 2, KServe in field 1."""
    find = names.either(2, 1)
    triton, kserve = SCHEMAS["TritonModelLoad"], SCHEMAS["KserveModelLoad"]
    assert find(triton(model_name="a").SerializeToString()) == (ModelName("a"),)
    assert find(kserve(model_name="a").SerializeToString()) == (ModelName("a"),)
    assert find(triton(repository_name="secret", model_name="a").SerializeToString()) == (
        ModelName("secret"),
        ModelName("a"),
    )
    assert find(triton(repository_name="a", model_name="a").SerializeToString()) == (ModelName("a"),)
    assert find(b"") == (ModelName(""),)


@given(st.one_of(soups, shuffled(SCHEMAS["TritonModelLoad"].DESCRIPTOR)))
def test_either_holds_what_each_server_reads(raw: bytes) -> None:
    try:
        found = {model.name for model in names.either(2, 1)(raw)}
        triton = SCHEMAS["TritonModelLoad"].FromString(raw).model_name
        kserve = SCHEMAS["KserveModelLoad"].FromString(raw).model_name
    except (CodecError, DecodeError):
        return
    assert found == {triton, kserve} - {""} or found == {""} == {triton, kserve}


@given(st.one_of(soups, *(shuffled(SCHEMAS[schema].DESCRIPTOR) for schema in ("Scored", "ScoredMany", "ScoredAny"))))
def test_everywhere_holds_what_any_schema_reads(raw: bytes) -> None:
    try:
        found = {model.name for model in names.everywhere((2, 1))(raw)}
        singular = SCHEMAS["Scored"].FromString(raw).header.model
        repeated = [header.model for header in SCHEMAS["ScoredMany"].FromString(raw).headers]
        nested = [model for one in SCHEMAS["ScoredAny"].FromString(raw).headers for model in one.models]
    except (CodecError, DecodeError):
        return
    assert found >= {singular, *repeated, *nested}
    assert found <= {singular, *repeated, *nested, ""}


def test_answers_of_a_stream_wrapped_or_bare() -> None:
    wrapped = SCHEMAS["ModelStreamInferResponse"]
    bare = SCHEMAS["ModelInferRequest"]
    assert names.streamed(wrapped(infer_response=bare(model_name="a", model_version="1")).SerializeToString()) == (
        ModelName("a", "1"),
    )
    assert names.streamed(wrapped(error_message="no such model").SerializeToString()) == ()
    assert names.streamed(bare(model_name="a", model_version="1", id="x").SerializeToString()) == (ModelName("a", "1"),)


@given(st.one_of(soups, shuffled(SCHEMAS["ModelStreamInferResponse"].DESCRIPTOR)))
def test_a_wrapped_answer_is_read_as_protobuf_reads_it(raw: bytes) -> None:
    try:
        found = names.streamed(raw)
        response = SCHEMAS["ModelStreamInferResponse"].FromString(raw)
    except (CodecError, DecodeError):
        return
    bare = bool(set(of_stream(response)) ^ set(found))
    assert not bare or found == names.pair(1, 2)(raw)
