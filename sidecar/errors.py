"""The one error base of the program, and how an error is said on the wire.

SidecarError                INTERNAL
├── config.ConfigError      FAILED_PRECONDITION   every fault of a config at once
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


def on_the_wire(error: BaseException) -> tuple[Code, str]:
    """The gRPC status and message for `error`; one that is not understood says nothing of itself."""
    if isinstance(error, SidecarError):
        return error.code, error.public
    return Code.INTERNAL, SidecarError.public
