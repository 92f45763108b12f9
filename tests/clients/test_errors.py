"""What the client makes of a call's status: one kind of error a code, and nothing that a server says breaks it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

import langtrain
from langtrain.errors import of_call


class Failed(grpc.RpcError, grpc.Call):
    """An ended call, as grpcio raises it."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None, trailers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        self._said: Any = (code, details, trailers)

    # The rest of a call is not asked for.
    add_callback: Any = None
    cancel: Any = None
    initial_metadata: Any = None
    is_active: Any = None
    time_remaining: Any = None

    def code(self) -> Any:
        return self._said[0]

    def details(self) -> Any:
        return self._said[1]

    def trailing_metadata(self) -> Any:
        return self._said[2]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, langtrain.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, langtrain.DeniedError),
        (grpc.StatusCode.INVALID_ARGUMENT, langtrain.InvalidError),
        (grpc.StatusCode.NOT_FOUND, langtrain.NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, langtrain.AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, langtrain.PreconditionError),
        (grpc.StatusCode.ABORTED, langtrain.ConflictError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, langtrain.ExhaustedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, langtrain.DeadlineError),
        (grpc.StatusCode.UNAVAILABLE, langtrain.UnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, langtrain.UnsupportedError),
        (grpc.StatusCode.DATA_LOSS, langtrain.InternalError),
    ],
)
def test_each_code_has_its_error(code: grpc.StatusCode, kind: type[langtrain.SidecarError]) -> None:
    error = of_call(Failed(code, None))
    assert type(error) is kind
    assert (str(error), error.reason, error.fields) == (f"{code.name}: {code.name}", "", {})


@pytest.mark.parametrize("details", [b"\xff", b"", b"\x1a\x02\x0a\x00"])
def test_details_that_cannot_be_read_are_none(details: bytes) -> None:
    error = of_call(Failed(grpc.StatusCode.INTERNAL, "m", (("grpc-status-details-bin", details),)))
    assert (error.message, error.reason, error.fields) == ("m", "", {})
