"""The client of langtrain-sidecar.

with langtrain.Sidecar("sidecar.example.org:8443", certificate=…, key=…, ca=…) as sidecar:
    print(sidecar.status().version)
"""

from langtrain.errors import (
    DeadlineError,
    DeniedError,
    ExhaustedError,
    InternalError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    SidecarError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from langtrain.sidecar import Sidecar

__all__ = [
    "DeadlineError",
    "DeniedError",
    "ExhaustedError",
    "InternalError",
    "InvalidError",
    "NotFoundError",
    "PreconditionError",
    "Sidecar",
    "SidecarError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
]
