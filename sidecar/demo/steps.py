"""What the demo shows: each step makes calls or reads what became of them, and tells whether it is as promised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sidecar.demo.calls import Caller
from sidecar.demo.collector import Collector, Span
from sidecar.demo.guard import Guard

T = TypeVar("T")
TICKET = "My parcel is late, please write to ann.lee@example.org or call me"
EMAIL = "ann.lee@example.org"
ARRIVE_S = 15.0  # for events and spans, which are written and exported in groups


@dataclass(frozen=True, slots=True)
class Step:
    """what: tried.  came: of it, in a line.  fine: whether that is what the sidecar promises."""

    what: str
    came: str
    fine: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """The client's own span, as W3C trace context. Ids in hex."""

    trace_id: str
    span_id: str

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def classify_digits(caller: Caller, samples: Path, trained: dict[str, Any], trace: Trace) -> Step:
    """Images that training never saw; the model must say what it said when asked directly."""
    answer = caller.ask("alice", "digits", str(samples), traceparent=trace.header)
    expected = trained["digits"]["answers"]
    alike = sum(came == wanted for came, wanted in zip(answer.get("digits", ()), expected, strict=False))
    came = _fault(answer) or (
        f"{alike} of {len(expected)} images answered as by the model itself (held-out accuracy "
        f"{trained['digits']['accuracy']:.1%})"
    )
    return Step("alice classifies digits (scikit-learn)", came, alike == len(expected))


def classify_ticket(caller: Caller) -> tuple[Step, Step]:
    """A ticket with an e-mail address in it: the topic comes back, and what the model saw."""
    answer = caller.ask("alice", "topics", TICKET)
    first = answer.get("answers", [{}])[0]
    topic, seen = first.get("topic"), first.get("seen", "")
    masked = TICKET.replace(EMAIL, "*" * len(EMAIL))
    return (
        Step(
            "alice asks what a ticket is about",
            _fault(answer) or f"{topic} (confidence {first['confidence']})",
            topic == "delivery",
        ),
        Step("a sample interceptor rewrites it", _fault(answer) or f"the model saw: {seen}", seen == masked),
    )


def stranger(caller: Caller) -> Step:
    """A certificate of the right CA, whose identity no rule allows."""
    answer = caller.ask("mallory", "topics", TICKET)
    return Step("mallory, whom no rule allows", _fault(answer) or "an answer", _status(answer) == "PERMISSION_DENIED")


def nobody(caller: Caller) -> Step:
    """No certificate: the handshake fails, before there is a call. `recorded` tells why it failed."""
    answer = caller.ask(None, "topics", TICKET)
    status = _status(answer)
    return Step("a client without a certificate", f"refused at the handshake: {status}", status == "UNAVAILABLE")


# What the calls above leave in the audit trail: how often which kind, and why.
EXPECTED = {
    ("call.allowed", ""): 2,
    ("call.denied", "authorize.no_rule"): 1,
    ("connection.refused", "tls.no_certificate"): 1,
}


def recorded(guard: Guard, trace: Trace) -> tuple[Step, list[dict[str, Any]]]:
    """The audit trail's events of calls and connections, once they are what is expected or time is up."""

    def events() -> list[dict[str, Any]]:
        return [event for event in guard.events() if event["kind"].startswith(("call.", "connection."))]

    def complete() -> list[dict[str, Any]] | None:
        found = events()
        return found if _counts(found) == EXPECTED else None

    found = _within(ARRIVE_S, complete) or events()
    counts = _counts(found)
    in_trace = any(event["trace_id"] == trace.trace_id for event in found)
    came = ", ".join(f"{count} {kind}" for (kind, _), count in counts.items()) or "no events"
    return Step("every one of these is recorded", came, counts == EXPECTED and in_trace), found


def traced(collector: Collector, trace: Trace) -> tuple[Step, Span | None]:
    """The sidecar's span, as the collector received it, under the client's."""
    span = _within(ARRIVE_S, lambda: collector.of(trace.trace_id))
    if span is None:
        return Step("one trace", "no span arrived", False), None
    came = f"client span {trace.span_id} → sidecar span {span.span_id}, {span.milliseconds:.1f} ms"
    return Step("one trace, from client to sidecar", came, span.parent_id == trace.span_id), span


def _counts(events: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for event in events:
        counts[event["kind"], event["reason"]] += event["count"]
    return dict(counts)


def _status(answer: dict[str, Any]) -> str:
    return str(answer.get("status", "OK")).removeprefix("StatusCode.")


def _fault(answer: dict[str, Any]) -> str:
    """The gRPC error in a line, "" where the call succeeded."""
    return f"{_status(answer)}: {_short(answer['message'])}" if "status" in answer else ""


def _short(text: str, most: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _within(seconds: float, found: Callable[[], T | None]) -> T | None:
    """What `found` returns once that is not None, or None when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while (result := found()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return result
