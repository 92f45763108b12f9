"""Batch sizes of request messages, written by protobuf itself."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import NO_CODEC, CodecError
from sidecar.relay.codecs.registry import registry
from tests.relay.codecs.schemas import SCHEMAS

OIP = "/inference.GRPCInferenceService/"
TF = "/tensorflow.serving."
CODECS = registry("auto")


def infer(*shapes: list[int]) -> bytes:
    inputs = [{"shape": shape} for shape in shapes]
    raw: bytes = SCHEMAS["ModelInferRequest"](model_name="m", inputs=inputs).SerializeToString()
    return raw


def predict(**shapes: list[int]) -> bytes:
    inputs = [
        {"key": key, "value": {"tensor_shape": {"dim": [{"size": size} for size in shape]}}}
        for key, shape in shapes.items()
    ]
    raw: bytes = SCHEMAS["PredictRequest"](model_spec={"name": "m"}, inputs=inputs).SerializeToString()
    return raw


def classify(*, plain: int = 0, context: int = 0) -> bytes:
    said: dict[str, Any] = {}
    if plain:
        said["example_list"] = {"examples": [b"e"] * plain}
    if context:
        said["example_list_with_context"] = {"examples": [b"e"] * context}
    raw: bytes = SCHEMAS["ClassificationRequest"](model_spec={"name": "m"}, input=said).SerializeToString()
    return raw


@pytest.mark.parametrize(
    ("method", "raw", "batch"),
    [
        (OIP + "ModelInfer", infer([8, 3]), 8),
        (OIP + "ModelStreamInfer", infer([8, 3]), 8),
        (OIP + "ModelInfer", infer([1, 9], [64], [2, 100]), 64),
        (OIP + "ModelInfer", infer([]), 1),
        (OIP + "ModelInfer", infer(), 1),
        (OIP + "ModelInfer", infer([0, 5]), 1),
        (OIP + "ModelInfer", infer([-1, 5]), 1),
        (OIP + "ModelInfer", infer([(1 << 63) - 1]), (1 << 63) - 1),
        (OIP + "ModelInfer", b"", 1),
        (OIP + "ModelReady", infer([8, 3]), 1),
        (TF + "PredictionService/Predict", predict(x=[4, 2], y=[16]), 16),
        (TF + "PredictionService/Predict", predict(x=[]), 1),
        (TF + "PredictionService/Predict", predict(), 1),
        (TF + "SessionService/SessionRun", predict(x=[4, 2]), 4),
        (TF + "PredictionService/Classify", classify(plain=5), 5),
        (TF + "PredictionService/Regress", classify(context=6), 6),
        (TF + "PredictionService/MultiInference", classify(plain=7), 7),
        (TF + "PredictionService/Classify", classify(), 1),
        (TF + "PredictionService/GetModelMetadata", predict(x=[4]), 1),
    ],
)
def test_batch_sizes(method: str, raw: bytes, batch: int) -> None:
    assert CODECS.codec(method).batch(raw) == batch


@pytest.mark.parametrize(
    ("raw", "batch"),
    [
        (b"\x2a\x04\x18\x08\x18\x03", 8),  # shape: 8, 3, not packed
        (b"\x2a\x07\x1a\x00\x1a\x01\x08\x18\x03", 8),  # packed ones, the first empty, and one more
        (b"\x2a\x02\x18\x01\x2a\x02\x18\x09", 9),  # two inputs
    ],
)
def test_the_first_dimension_however_it_is_spelt(raw: bytes, batch: int) -> None:
    assert list(SCHEMAS["ModelInferRequest"].FromString(raw).inputs)[-1].shape[0] == batch
    assert CODECS.codec(OIP + "ModelInfer").batch(raw) == batch


@pytest.mark.parametrize(
    "raw",
    [
        b"\x2a\x03\x1a\x01\x80",  # a packed number that does not end
        b"\x2a\x05\x1d\x00\x00\x00\x00",  # shape as 32 bits
        b"\x28\x01",  # inputs as a number
        b"\x2a\x09\x1a\x01",  # cut
        b"\x2a\x0d\x1a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00",  # beyond 64 bits
    ],
)
def test_what_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        CODECS.codec(OIP + "ModelInfer").batch(raw)


@given(st.lists(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4), max_size=4))
def test_nobody_pays_for_less_than_the_largest_input(shapes: list[list[int]]) -> None:
    largest = max([1, *(shape[0] for shape in shapes if shape)])
    assert CODECS.codec(OIP + "ModelInfer").batch(infer(*shapes)) == largest


@given(st.binary(max_size=200))
def test_any_bytes_give_a_size_or_are_refused(raw: bytes) -> None:
    for method in (OIP + "ModelInfer", TF + "PredictionService/Predict", TF + "PredictionService/Classify"):
        with contextlib.suppress(CodecError):
            assert CODECS.codec(method).batch(raw) >= 1


def test_opaque_messages_are_one() -> None:
    assert NO_CODEC.batch(b"anything") == 1
