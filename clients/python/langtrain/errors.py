"""What calls to the sidecar raise.

SidecarError
├── UnauthenticatedError   UNAUTHENTICATED       nobody it knows calls
├── DeniedError            PERMISSION_DENIED     the caller may not
├── InvalidError           INVALID_ARGUMENT      `fields` says what is wrong with the request
├── NotFoundError          NOT_FOUND
├── AlreadyExistsError     ALREADY_EXISTS        something else has that name
├── PreconditionError      FAILED_PRECONDITION   not in the state that it is in
├── ConflictError          ABORTED               somebody else has changed it meanwhile
├── ExhaustedError         RESOURCE_EXHAUSTED    a limit: later, perhaps
├── DeadlineError          DEADLINE_EXCEEDED
├── UnavailableError       UNAVAILABLE           not there, or not reached: again, perhaps
├── UnsupportedError       UNIMPLEMENTED         the sidecar is older than this client
└── InternalError          every other
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

_DETAILS: Final = "grpc-status-details-bin"


class SidecarError(Exception):
    """code: gRPC's.  reason: stable, for programs, such as "REQUEST_INVALID"; "" where the sidecar gave none.

    fields: path of a field of the request → what is wrong with it.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, reason: str = "", fields: Mapping[str, str] | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.reason = reason
        self.fields = dict(fields or {})
        wrong = "".join(f"; {field}: {problem}" for field, problem in self.fields.items())
        super().__init__(f"{code.name}: {message}{wrong}")


class NotEnforcedWarning(UserWarning):
    """A setting that was given and that nothing enforces yet."""


class UnauthenticatedError(SidecarError):
    pass


class DeniedError(SidecarError):
    pass


class InvalidError(SidecarError):
    pass


class NotFoundError(SidecarError):
    pass


class AlreadyExistsError(SidecarError):
    pass


class PreconditionError(SidecarError):
    pass


class ConflictError(SidecarError):
    pass


class ExhaustedError(SidecarError):
    pass


class DeadlineError(SidecarError):
    pass


class UnavailableError(SidecarError):
    pass


class UnsupportedError(SidecarError):
    pass


class InternalError(SidecarError):
    pass


_KINDS: Final[dict[grpc.StatusCode, type[SidecarError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}


def of_call(error: Any) -> SidecarError:
    """The grpc.RpcError of a call, of grpc.aio's as well, as one of ours."""
    code = error.code()
    reason, fields = "", {}
    for detail in _details(error).details:
        info, bad = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields = {violation.field: violation.description for violation in bad.field_violations}
    return _KINDS.get(code, InternalError)(code, error.details() or code.name, reason, fields)


def _details(error: Any) -> Status:
    """google.rpc.Status; an empty one where there is none, or none that can be read."""
    found = Status()
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                found.ParseFromString(value)
            except DecodeError:
                return Status()
    return found
