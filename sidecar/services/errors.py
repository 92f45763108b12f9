"""An error → the status that callers of our services get, with google.rpc's details. No other text of it leaves."""

from __future__ import annotations

from typing import ClassVar, Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from interceptors.contract import Code
from sidecar.errors import RequestError, SidecarError, on_the_wire

DOMAIN: Final = "langtrain"


class UnknownMethodError(SidecarError):
    code: ClassVar[Code] = Code.UNIMPLEMENTED
    public: ClassVar[str] = "this sidecar has no such method"
    wire_reason: ClassVar[str] = "METHOD_UNKNOWN"


class BusyError(SidecarError):
    """As many streams are open as one caller, or all of them, may have."""

    code: ClassVar[Code] = Code.RESOURCE_EXHAUSTED
    public: ClassVar[str] = "too many open streams"
    wire_reason: ClassVar[str] = "TOO_MANY_STREAMS"


class MalformedError(SidecarError):
    code: ClassVar[Code] = Code.INVALID_ARGUMENT
    public: ClassVar[str] = "request message cannot be read"
    wire_reason: ClassVar[str] = "REQUEST_MALFORMED"


def status_of(error: BaseException) -> grpc.Status:
    """What a call that ended in `error` is answered with."""
    code, public = on_the_wire(error)
    reason = error.wire_reason if isinstance(error, SidecarError) else SidecarError.wire_reason
    details: list[Message] = [ErrorInfo(reason=reason, domain=DOMAIN)]
    if isinstance(error, RequestError):
        violations = [BadRequest.FieldViolation(field=field, description=text) for field, text in error.faults]
        details.append(BadRequest(field_violations=violations))
    return rpc_status.to_status(Status(code=int(code), message=public, details=map(_packed, details)))


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
