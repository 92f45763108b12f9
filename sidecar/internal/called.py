"""What a method of our services gets as its context: grpcio's, and the caller that the relay vouched for."""

from __future__ import annotations

from typing import Any

from sidecar.internal.mac import Caller


class CalledContext:
    """Made by the guard alone. All but `caller` is the servicer context's own."""

    def __init__(self, context: Any, caller: Caller) -> None:
        self._context = context
        self.caller = caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def caller_of(context: Any) -> Caller:
    """The verified caller. A method that was reached around the guard has none, and raises."""
    if not isinstance(context, CalledContext):
        raise RuntimeError("a method was called around the guard")
    return context.caller
