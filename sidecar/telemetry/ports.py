"""What telemetry needs from the outside: somewhere for finished spans to go."""

from __future__ import annotations

from typing import Protocol

from interceptors.contract import Code
from interceptors.events import SpanFact
from sidecar.errors import SidecarError


class TelemetryError(SidecarError):
    """The exporter cannot be set up."""

    code = Code.FAILED_PRECONDITION
    public = "telemetry is not set up"


class SpanSink(Protocol):
    """Takes spans. Called on the event loop's thread; never raises, and only `close` blocks."""

    @property
    def dropped(self) -> int:
        """Spans that were offered and will never arrive."""

    def offer(self, fact: SpanFact) -> None:
        """Take one span, or count it as dropped where there is no room; it must not be changed afterwards."""

    def close(self) -> None:
        """Send what is held, within a bounded time. What is offered afterwards is dropped."""
