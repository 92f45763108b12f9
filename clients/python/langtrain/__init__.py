"""The client of langtrain-sidecar.

with langtrain.Sidecar("sidecar.example.org:8443", ca="ca.pem", cert="ops.pem", key="ops-key.pem") as sidecar:
    print(sidecar.status().version)

`langtrain.auth` and `langtrain.iam` manage who may do what; `call_credentials` lets any stub of gRPC call by a token.
"""

from langtrain.channel import call_credentials, connect, connect_aio, settings
from langtrain.errors import (
    AlreadyExistsError,
    ConflictError,
    DeadlineError,
    DeniedError,
    ExhaustedError,
    InternalError,
    InvalidError,
    NotEnforcedWarning,
    NotFoundError,
    PreconditionError,
    SidecarError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from langtrain.sidecar import AsyncSidecar, Sidecar

__all__ = [
    "AlreadyExistsError",
    "AsyncSidecar",
    "ConflictError",
    "DeadlineError",
    "DeniedError",
    "ExhaustedError",
    "InternalError",
    "InvalidError",
    "NotEnforcedWarning",
    "NotFoundError",
    "PreconditionError",
    "Sidecar",
    "SidecarError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "call_credentials",
    "connect",
    "connect_aio",
    "settings",
]
