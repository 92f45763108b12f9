"""The parts of the known protocols that name models or tell a batch's size, as protobuf's own parser sees them: the
tests' oracle.

Field numbers and types as in Triton's grpc_service.proto, KServe's grpc_predict_v2.proto and
tensorflow_serving/apis/*.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto
STRING, BYTES, INT64, MESSAGE = F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_INT64, F.TYPE_MESSAGE

# message: (field, number, type or message, repeated)
MESSAGES: dict[str, list[tuple[str, int, Any, bool]]] = {
    "Int64Value": [("value", 1, INT64, False)],
    "ModelSpec": [
        ("name", 1, STRING, False),
        ("version", 2, "Int64Value", False),
        ("signature_name", 3, STRING, False),
        ("version_label", 4, STRING, False),
    ],
    "Tensor": [("name", 1, STRING, False), ("datatype", 2, STRING, False), ("shape", 3, INT64, True)],
    "ModelInferRequest": [
        ("model_name", 1, STRING, False),
        ("model_version", 2, STRING, False),
        ("id", 3, STRING, False),
        ("inputs", 5, "Tensor", True),
        ("raw_input_contents", 7, BYTES, True),
    ],
    "ModelStreamInferResponse": [
        ("error_message", 1, STRING, False),
        ("infer_response", 2, "ModelInferRequest", False),
    ],
    "TritonModelLoad": [("repository_name", 1, STRING, False), ("model_name", 2, STRING, False)],
    "KserveModelLoad": [("model_name", 1, STRING, False)],
    "PredictRequest": [
        ("model_spec", 1, "ModelSpec", False),
        ("inputs", 2, "NamedTensor", True),  # a map on the wire
        ("output_filter", 3, STRING, True),
    ],
    "NamedTensor": [("key", 1, STRING, False), ("value", 2, "TensorProto", False)],
    "TensorProto": [("dtype", 1, INT64, False), ("tensor_shape", 2, "TensorShape", False)],
    "TensorShape": [("dim", 2, "Dim", True)],
    "Dim": [("size", 1, INT64, False), ("name", 2, STRING, False)],
    "ClassificationRequest": [("model_spec", 1, "ModelSpec", False), ("input", 2, "Input", False)],
    "Input": [("example_list", 1, "Examples", False), ("example_list_with_context", 2, "Examples", False)],
    "Examples": [("examples", 1, BYTES, True), ("context", 2, BYTES, False)],
    "SessionRunResponse": [("model_spec", 3, "ModelSpec", False)],
    "InferenceTask": [("model_spec", 1, "ModelSpec", False), ("method_name", 2, STRING, False)],
    "MultiInferenceRequest": [("tasks", 1, "InferenceTask", True)],
    "Scored": [("name", 1, STRING, False), ("header", 2, "Header", False)],
    "Header": [("model", 1, STRING, False)],
    "ScoredMany": [("headers", 2, "Header", True)],
    "ScoredAny": [("headers", 2, "Headers", True)],
    "Headers": [("models", 1, STRING, True)],
}
ONEOF = {("ModelSpec", "version"), ("ModelSpec", "version_label")}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="schemas.proto", package="schemas", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
            added.type = MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                added.type_name = f".schemas.{kind}"
            if (name, field) in ONEOF:
                if not message.oneof_decl:
                    message.oneof_decl.add(name="version_choice")
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"schemas.{name}")) for name in MESSAGES}


SCHEMAS = _build()
