"""Paths to shapes and codecs, by protocol and by config."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from interceptors.contract import NO_CODEC, Codec, CodecError, Method, ModelName
from sidecar.relay.codecs.fields import Field, Fields
from sidecar.relay.codecs.registry import Codecs, registry
from tests.relay.codecs.schemas import SCHEMAS

OIP = "/inference.GRPCInferenceService/"
TF = "/tensorflow.serving."
RAW = {name: message.SerializeToString() for name, message in {
    "infer": SCHEMAS["ModelInferRequest"](model_name="m", model_version="2", raw_input_contents=[b"x"]),
    "load": SCHEMAS["TritonModelLoad"](model_name="m"),
    "predict": SCHEMAS["PredictRequest"](model_spec={"name": "m", "version": {"value": 2}}),
    "session": SCHEMAS["SessionRunResponse"](model_spec={"name": "m", "version_label": "2"}),
    "tasks": SCHEMAS["MultiInferenceRequest"](tasks=[{"model_spec": {"name": name}} for name in ("m", "n", "m")]),
    "stream": SCHEMAS["ModelStreamInferResponse"](infer_response={"model_name": "m", "model_version": "2"}),
}.items()}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    name: str
    unary_request: bool = False
    unary_response: bool = False
    permission: str | None = None


@dataclass(frozen=True)
class Described:
    service: str
    methods: tuple[Shape, ...] = ()
    model_field: tuple[int, ...] = ()
    permission: str | None = None


SCORER = Described("acme.v1.Scorer", (Shape("Score", True, True), Shape("Watch", True)), (2, 1))


@pytest.mark.parametrize(
    ("path", "request_unary", "response_unary"),
    [
        (OIP + "ModelInfer", True, True),
        (OIP + "ModelStreamInfer", False, False),
        (OIP + "ServerLive", True, True),
        ("/inference.model_repository.ModelRepositoryService/RepositoryModelLoad", True, True),
        (TF + "PredictionService/Predict", True, True),
        (TF + "SessionService/SessionRun", True, True),
        (TF + "ModelService/GetModelStatus", True, True),
        ("/grpc.health.v1.Health/Check", True, True),
        ("/grpc.health.v1.Health/Watch", True, False),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", False, False),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", False, False),
    ],
)
def test_shapes(path: str, request_unary: bool, response_unary: bool) -> None:
    found = registry("auto").method(path)
    assert found is not None
    assert (found.unary_request, found.unary_response) == (request_unary, response_unary)


MR = "inference.model_repository.ModelRepositoryService/"
NEEDS = {
    "models.read": [
        *(f"{OIP}{name}" for name in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata")),
        *(f"{OIP}{name}" for name in ("ModelConfig", "ModelStatistics", "RepositoryIndex")),
        f"/{MR}RepositoryIndex", f"{TF}PredictionService/GetModelMetadata", f"{TF}ModelService/GetModelStatus",
        *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")),
        *(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")),
    ],
    "models.inference": [
        OIP + "ModelInfer", OIP + "ModelStreamInfer", f"{TF}SessionService/SessionRun",
        *(f"{TF}PredictionService/{name}" for name in ("Predict", "Classify", "Regress", "MultiInference")),
    ],
    "models.deploy": [
        *(f"{OIP}{name}" for name in ("RepositoryModelLoad", "RepositoryModelUnload")),
        *(f"/{MR}{name}" for name in ("RepositoryModelLoad", "RepositoryModelUnload")),
    ],
    "models.shared_memory": [
        f"{OIP}{kind}SharedMemory{name}" for kind in ("System", "Cuda") for name in ("Status", "Register", "Unregister")
    ],
    "models.trace_settings": [OIP + "TraceSetting"],
    "models.log_settings": [OIP + "LogSettings"],
    "models.load_config": [f"{TF}ModelService/HandleReloadConfigRequest"],
}  # fmt: skip


def test_what_each_method_needs() -> None:
    codecs = registry("auto")
    assert {path: codecs.method(path).permission for path in codecs.paths} == {  # type: ignore[union-attr]
        path: permission for permission, paths in NEEDS.items() for path in paths
    }


@pytest.mark.parametrize(
    ("path", "permission", "known"),
    [
        (OIP + "Unheard", "upstream.unknown", False),  # a newer server may have it, for whatever purpose
        ("/grpc.health.v1.Health/Unheard", "upstream.unknown", False),
        ("/langtrain.v1.SidecarService/Drain", "sidecar.drain", False),
        ("/acme.v1.Scorer/Score", "models.inference", True),
        ("/acme.v1.Scorer/Reload", "models.deploy", True),
        ("/acme.v1.Scorer/Unheard", "models.inference", True),
        ("/acme.v1.Other/Unheard", "upstream.opaque", True),
    ],
)
def test_what_else_needs(path: str, permission: str, known: bool) -> None:
    methods = (Shape("Score", True, True), Shape("Reload", permission="models.deploy"))
    scorer = Described("acme.v1.Scorer", methods, (2, 1), "models.inference")
    codecs = registry("auto", [scorer, Described("acme.v1.Other")])
    method = codecs.method(path)
    assert method is not None
    assert method.permission == permission
    assert codecs.knows(path) is known  # by what callers call, no metric grows
    assert permission in codecs.permissions


def test_nothing_is_known_of_a_service_that_nobody_described() -> None:
    assert registry("open-inference").method(TF + "PredictionService/Predict") is None
    assert Method("/a.B/C").permission == "upstream.opaque"


def test_which_methods_carry_more() -> None:
    methods = [registry("auto").method(path) for path in sorted(registry("auto").paths)]
    assert {method.path: method.special for method in methods if method and method.special} == {
        OIP + "ModelInfer": ("models.shared_memory",),
        OIP + "ModelStreamInfer": ("models.shared_memory",),
        OIP + "RepositoryModelLoad": ("models.load_files", "models.load_config"),
        f"/{MR}RepositoryModelLoad": ("models.load_files", "models.load_config"),
    }
    assert {method.path for method in methods if method and method.parameters} == {
        OIP + "ModelInfer", OIP + "ModelStreamInfer",
    }  # fmt: skip
    assert {method.path for method in methods if method and method.lists} == {
        OIP + "RepositoryIndex", f"/{MR}RepositoryIndex",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "response", "raw", "models"),
    [
        (OIP + "ModelInfer", False, "infer", ["m:2"]),
        (OIP + "ModelInfer", True, "infer", ["m:2"]),
        (OIP + "ModelStreamInfer", False, "infer", ["m:2"]),
        (OIP + "ModelStreamInfer", True, "stream", ["m:2"]),
        (OIP + "ModelStreamInfer", True, "infer", ["m:2"]),
        (OIP + "ModelReady", False, "infer", ["m:2"]),
        (OIP + "ModelMetadata", False, "infer", ["m:2"]),
        (OIP + "ModelMetadata", True, "infer", ["m:"]),
        (OIP + "ModelConfig", False, "infer", ["m:2"]),
        (OIP + "ModelStatistics", False, "infer", ["m:2"]),
        (OIP + "RepositoryModelLoad", False, "load", ["m:"]),
        (OIP + "RepositoryModelUnload", False, "load", ["m:"]),
        (OIP + "TraceSetting", False, "load", ["m:"]),
        (OIP + "ServerLive", False, "infer", []),
        (OIP + "RepositoryIndex", False, "infer", []),
        (OIP + "Unheard", False, "infer", []),
        (TF + "PredictionService/Predict", False, "predict", ["m:2"]),
        (TF + "PredictionService/Classify", False, "predict", ["m:2"]),
        (TF + "PredictionService/Regress", False, "predict", ["m:2"]),
        (TF + "PredictionService/GetModelMetadata", False, "predict", ["m:2"]),
        (TF + "PredictionService/GetModelMetadata", True, "predict", ["m:2"]),
        (TF + "PredictionService/MultiInference", False, "tasks", ["m:", "n:"]),
        (TF + "ModelService/GetModelStatus", False, "predict", ["m:2"]),
        (TF + "ModelService/HandleReloadConfigRequest", False, "predict", []),
        (TF + "SessionService/SessionRun", False, "predict", ["m:2"]),
        (TF + "SessionService/SessionRun", True, "session", ["m:2"]),
        ("/grpc.health.v1.Health/Check", False, "infer", []),
    ],
)
def test_models(path: str, response: bool, raw: str, models: list[str]) -> None:
    found = registry("auto").codec(path).models(RAW[raw], response)
    assert [f"{model.name}:{model.version}" for model in found] == models


@pytest.mark.parametrize(
    ("protocol", "known"),
    [
        ("auto", {OIP + "ModelInfer", TF + "PredictionService/Predict"}),
        ("open-inference", {OIP + "ModelInfer"}),
        ("tf-serving", {TF + "PredictionService/Predict"}),
        ("opaque", set()),
    ],
)
def test_a_protocol_knows_its_own_services_and_the_common_ones(protocol: str, known: set[str]) -> None:
    codecs = registry(protocol)
    paths = [OIP + "ModelInfer", TF + "PredictionService/Predict", "/grpc.health.v1.Health/Check"]
    assert {path for path in paths if codecs.method(path) is not None} == known | set(paths[2:])


def test_what_nobody_described_is_not_known() -> None:
    codecs = registry("auto")
    for path in ("/acme.v1.Scorer/Score", "/inference.GRPCInferenceService.ModelInfer/ModelInfer"):
        assert codecs.method(path) is None
        assert codecs.codec(path) is NO_CODEC


def test_a_protocol_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        registry("rest")


@pytest.fixture
def described() -> Codecs:
    return registry("opaque", [SCORER])


def test_described_methods_have_their_shape(described: Codecs) -> None:
    scored = "/acme.v1.Scorer/"
    assert described.method(scored + "Score") == Method(scored + "Score", True, True)
    assert described.method(scored + "Watch") == Method(scored + "Watch", True, False)
    assert described.method(scored + "Other") == Method(scored + "Other")


@pytest.mark.parametrize("method", ["Score", "Other"])
def test_described_messages_name_their_model(described: Codecs, method: str) -> None:
    codec = described.codec(f"/acme.v1.Scorer/{method}")
    header = Fields([Field.text(1, "m")])
    assert codec.models(Fields([Field.message(2, header)]).encode(), False) == (ModelName("m"),)
    assert codec.models(b"", False) == (ModelName(""),)
    assert codec.models(b"\x12\x02\x0a\x01", True) == ()
    with pytest.raises(CodecError):
        codec.models(b"\x12\x02\x0a\x01", False)


def test_a_described_service_that_names_none() -> None:
    codec = registry("auto", [Described("acme.v1.Scorer")]).codec("/acme.v1.Scorer/Score")
    assert codec.models(b"\x0a\x01a", False) == ()


def test_what_the_config_says_replaces_what_was_known() -> None:
    codecs = registry("auto", [Described("inference.GRPCInferenceService", (Shape("ModelInfer", True),), (9,))])
    assert codecs.method(OIP + "ModelInfer") == Method(OIP + "ModelInfer", True, False)
    # No rule that does not name it lets through what is not described: it may be SystemSharedMemoryRegister.
    assert codecs.method(OIP + "ModelReady") == Method(OIP + "ModelReady", permission="upstream.unknown")
    assert codecs.codec(OIP + "ModelReady").models(b"\x4a\x01m", False) == (ModelName("m"),)


def test_decoded_forms_are_fields() -> None:
    codec: Codec = registry("auto").codec(OIP + "ModelInfer")
    body = codec.decode(RAW["infer"], False)
    assert isinstance(body, Fields)
    assert codec.encode(body, False) == RAW["infer"]
    with pytest.raises(CodecError, match="decoded form is str, expected Fields"):
        codec.encode("text", False)
    with pytest.raises(CodecError):
        codec.decode(b"\x0a", False)
