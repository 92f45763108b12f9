"""The one error base of the program, and how an error is said on the wire.

SidecarError                INTERNAL
├── config.ConfigError      FAILED_PRECONDITION   every fault of a config at once
├── SettingError            INTERNAL              one setting that only shows wrong when it is used
├── RequestError            INVALID_ARGUMENT      fields of a request to our own services
└── …Error                  each package's top names its own

An error's text is for the operator; a caller learns its class's `public` sentence and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from interceptors.contract import Code


class SidecarError(Exception):
    """What goes wrong in a way that is understood.

    code: what a caller sees as gRPC status.  public: what a caller sees as message.
    wire_reason: what a caller of our own services sees in google.rpc.ErrorInfo; never changed once given.
    """

    code: ClassVar[Code] = Code.INTERNAL
    public: ClassVar[str] = "internal error"
    wire_reason: ClassVar[str] = "INTERNAL"


class SettingError(SidecarError):
    """path: key path of the setting to change.  problem: what is wrong, in one line."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class RequestError(SidecarError):
    """What a caller asked cannot be meant. faults: path of each field, and what is wrong, which the caller learns."""

    code: ClassVar[Code] = Code.INVALID_ARGUMENT
    public: ClassVar[str] = "request is not valid"
    wire_reason: ClassVar[str] = "REQUEST_INVALID"

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in self.faults))


def on_the_wire(error: BaseException) -> tuple[Code, str]:
    """The gRPC status and message for `error`; one that is not understood says nothing of itself."""
    if isinstance(error, SidecarError):
        return error.code, error.public
    return Code.INTERNAL, SidecarError.public
