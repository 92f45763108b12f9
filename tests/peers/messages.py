"""The interop messages, made from protos/interop.proto when this module is imported.

In a descriptor pool of their own, so that they never meet another package's `grpc.testing`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc  # type: ignore[import-untyped]

PROTOS = Path(__file__).parent / "protos"
SERVICE = "grpc.testing.TestService"


def _pool() -> descriptor_pool.DescriptorPool:
    with tempfile.NamedTemporaryFile(suffix=".pb") as compiled:
        arguments = ["protoc", f"-I{PROTOS}", f"--descriptor_set_out={compiled.name}", "interop.proto"]
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"protoc refused {PROTOS / 'interop.proto'}; its reasons are above")
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(compiled.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


POOL = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"grpc.testing.{name}"))


Empty = _message("Empty")
BoolValue = _message("BoolValue")
Payload = _message("Payload")
EchoStatus = _message("EchoStatus")
SimpleRequest = _message("SimpleRequest")
SimpleResponse = _message("SimpleResponse")
StreamingInputCallRequest = _message("StreamingInputCallRequest")
StreamingInputCallResponse = _message("StreamingInputCallResponse")
ResponseParameters = _message("ResponseParameters")
StreamingOutputCallRequest = _message("StreamingOutputCallRequest")
StreamingOutputCallResponse = _message("StreamingOutputCallResponse")
