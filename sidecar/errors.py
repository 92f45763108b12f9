"""The one error base of the program, and how an error is said on the wire.

SidecarError                INTERNAL
├── config.ConfigError      FAILED_PRECONDITION   every fault of a config at once
├── SettingError            INTERNAL              one setting that only shows wrong when it is used
└── …Error                  each package's top names its own

An error's text is for the operator; a caller learns its class's `public` sentence and nothing else.
"""

from __future__ import annotations

from typing import ClassVar

from interceptors.contract import Code


class SidecarError(Exception):
    """What goes wrong in a way that is understood.

    code: what a caller sees as gRPC status.  public: what a caller sees as message.
    """

    code: ClassVar[Code] = Code.INTERNAL
    public: ClassVar[str] = "internal error"


class SettingError(SidecarError):
    """path: key path of the setting to change.  problem: what is wrong, in one line."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


def on_the_wire(error: BaseException) -> tuple[Code, str]:
    """The gRPC status and message for `error`; one that is not understood says nothing of itself."""
    if isinstance(error, SidecarError):
        return error.code, error.public
    return Code.INTERNAL, SidecarError.public
