"""What the audit trail needs from the outside: a Recorder that makes events durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from interceptors.contract import Code
from interceptors.events import Event
from sidecar.errors import SidecarError

Done: TypeAlias = Callable[[BaseException | None], None]
CallSoon: TypeAlias = Callable[[Callable[[], None]], object]


class AuditError(SidecarError):
    """The trail cannot be opened, or an event could not be made durable."""

    code = Code.UNAVAILABLE
    public = "the call could not be recorded"


class Recorder(Protocol):
    """Where events go. Every method is called on the event loop's thread; none but `close` blocks."""

    @property
    def failed(self) -> str | None:
        """Why nothing more can be recorded now, or None.

        While it is set the caller must start no call that is to be recorded. It is set before the first event
        is lost, never after: whoever looks at it before each call loses nothing unnoticed.
        """

    def record(self, event: Event, done: Done | None = None) -> None:
        """Take one event; it must not be changed afterwards.

        done: called once on the event loop's thread, never from inside this call: with None when the event is
        durable, with an AuditError when it is not (it may still be written later).
        """

    def close(self) -> None:
        """Make durable what was taken, within a bounded time. Nothing can be recorded afterwards."""
