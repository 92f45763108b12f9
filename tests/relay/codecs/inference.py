"""Open Inference messages with their parameters, as protobuf's own parser sees them, maps included: an oracle.

Field numbers and types as in Triton's grpc_service.proto. MLServer's and KServe's have the same, and fewer kinds of
parameters.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto
KINDS: Final = {
    "bool_param": (1, F.TYPE_BOOL), "int64_param": (2, F.TYPE_INT64), "string_param": (3, F.TYPE_STRING),
    "double_param": (4, F.TYPE_DOUBLE), "uint64_param": (5, F.TYPE_UINT64),
}  # fmt: skip
MESSAGES: Final[dict[str, list[tuple[str, int, Any, bool]]]] = {
    "Input": [
        ("name", 1, F.TYPE_STRING, False), ("datatype", 2, F.TYPE_STRING, False), ("shape", 3, F.TYPE_INT64, True),
        ("parameters", 4, "map", True), ("contents", 5, F.TYPE_BYTES, False),
    ],
    "Output": [("name", 1, F.TYPE_STRING, False), ("parameters", 2, "map", True)],
    "Request": [
        ("model_name", 1, F.TYPE_STRING, False), ("model_version", 2, F.TYPE_STRING, False),
        ("id", 3, F.TYPE_STRING, False), ("parameters", 4, "map", True), ("inputs", 5, "Input", True),
        ("outputs", 6, "Output", True), ("raw_input_contents", 7, F.TYPE_BYTES, True),
    ],
    "Response": [
        ("model_name", 1, F.TYPE_STRING, False), ("model_version", 2, F.TYPE_STRING, False),
        ("id", 3, F.TYPE_STRING, False), ("parameters", 4, "map", True), ("outputs", 5, "Input", True),
        ("raw_output_contents", 6, F.TYPE_BYTES, True),
    ],
    "StreamResponse": [("error_message", 1, F.TYPE_STRING, False), ("infer_response", 2, "Response", False)],
    "Load": [
        ("repository_name", 1, F.TYPE_STRING, False), ("model_name", 2, F.TYPE_STRING, False),
        ("parameters", 3, "map", True),
    ],
    "Index": [("models", 1, "Indexed", True)],
    "Indexed": [(name, at, F.TYPE_STRING, False) for at, name in enumerate(("name", "version", "state", "reason"), 1)],
}  # fmt: skip


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package="inference_oracle", syntax="proto3")
    parameter = file.message_type.add(name="Parameter")
    parameter.oneof_decl.add(name="parameter_choice")
    for name, (number, kind) in KINDS.items():
        parameter.field.add(name=name, number=number, label=F.LABEL_OPTIONAL, type=kind, oneof_index=0)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
            added.type = F.TYPE_MESSAGE if isinstance(kind, str) else kind
            if kind == "map":
                entry = message.nested_type.add(name="ParametersEntry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=F.LABEL_OPTIONAL, type=F.TYPE_STRING)
                value = entry.field.add(name="value", number=2, label=F.LABEL_OPTIONAL, type=F.TYPE_MESSAGE)
                value.type_name = ".inference_oracle.Parameter"
                added.type_name = f".inference_oracle.{name}.ParametersEntry"
            elif isinstance(kind, str):
                added.type_name = f".inference_oracle.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ["Parameter", *MESSAGES]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference_oracle.{name}")) for name in names
    }


ORACLE: Final = _build()


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field, shorter than 16 KiB, of a number below 16."""
    size = len(payload)
    return (
        bytes((number << 3 | 2,)) + (bytes((size,)) if size < 128 else bytes((size & 0x7F | 0x80, size >> 7))) + payload
    )


def entry(key: bytes, value: bytes) -> bytes:
    """A map's entry, without its own tag and length. value: an InferParameter."""
    return field(1, key) + field(2, value)
