"""The demo's judgement of each step: what is as promised, and above all what is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interceptors.events import SpanFact
from sidecar.demo import steps
from sidecar.demo.calls import Caller
from sidecar.demo.collector import collecting
from sidecar.demo.guard import Guard
from sidecar.telemetry.board import Board
from sidecar.telemetry.export_otel import OtelExport

TRACE = steps.Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
TRAINED: dict[str, Any] = {"digits": {"answers": [1, 2], "accuracy": 0.99}}
DENIED = {"status": "StatusCode.PERMISSION_DENIED", "message": "permission denied"}
AWAY = {"status": "StatusCode.UNAVAILABLE", "message": "failed to connect"}
UNMASKED = {"answers": [{"topic": "delivery", "confidence": 0.8, "seen": steps.TICKET}]}
MASKED = {"answers": [{**UNMASKED["answers"][0], "seen": steps.TICKET.replace(steps.EMAIL, "*" * len(steps.EMAIL))}]}

Answering = Callable[[dict[str, Any]], Caller]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """A caller whose every call is answered the same."""

    def make(answer: dict[str, Any]) -> Caller:
        monkeypatch.setattr(Caller, "ask", lambda *_, **__: answer)
        return Caller(Path("python"), "127.0.0.1:1", Path("certs"))

    return make


@pytest.mark.parametrize(
    ("answer", "fine"),
    [({"digits": [1, 2]}, True), ({"digits": [1, 3]}, False), ({"digits": [1]}, False), (DENIED, False)],
)
def test_digits_are_compared_with_the_model_itself(answering: Answering, answer: dict[str, Any], fine: bool) -> None:
    assert steps.classify_digits(answering(answer), Path("samples.json"), TRAINED, TRACE).fine is fine


@pytest.mark.parametrize(
    ("answer", "fine"), [(MASKED, (True, True)), (UNMASKED, (True, False)), (DENIED, (False, False))]
)
def test_a_ticket_is_understood_and_rewritten(
    answering: Answering, answer: dict[str, Any], fine: tuple[bool, bool]
) -> None:
    topic, rewrite = steps.classify_ticket(answering(answer))
    assert (topic.fine, rewrite.fine) == fine


def test_only_the_right_refusal_is_fine(answering: Answering) -> None:
    assert [steps.stranger(answering(answer)).fine for answer in (DENIED, AWAY, MASKED)] == [True, False, False]
    assert [steps.nobody(answering(answer)).fine for answer in (DENIED, AWAY, MASKED)] == [False, True, False]


def event(kind: str, reason: str = "", trace_id: str = "", count: int = 1) -> dict[str, Any]:
    return {"kind": kind, "reason": reason, "trace_id": trace_id, "count": count}


EVENTS = [
    event("sidecar.started"),
    event("call.allowed", trace_id=TRACE.trace_id),
    event("call.allowed"),
    event("call.denied", "authorize.no_rule"),
    event("connection.refused", "tls.no_certificate"),
]


@pytest.mark.parametrize(
    ("events", "fine"),
    [
        (EVENTS, True),
        (EVENTS[:-1], False),
        ([*EVENTS, event("call.allowed")], False),
        ([*EVENTS[:-1], event("connection.refused", "tls.expired")], False),
        ([event("call.allowed"), *EVENTS[2:]], False),
        ([], False),
    ],
)
def test_each_event_is_there_once_and_for_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], fine: bool
) -> None:
    monkeypatch.setattr(steps, "ARRIVE_S", 0.0)
    guard = Guard("127.0.0.1:1", tmp_path)
    guard.events_file.parent.mkdir(parents=True)
    lines = "".join(json.dumps(each) + "\n" for each in events)
    guard.events_file.write_text(lines + '{"kind": "call.all', "utf-8")  # the last is still being written
    assert steps.recorded(guard, TRACE)[0].fine is fine


def test_a_span_below_the_clients_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    fact = SpanFact(TRACE.trace_id, "00f067aa0ba902b7", TRACE.span_id, "a.B/C", 1.0, 1.25, 0, "", "", "allowed")
    with collecting() as collector:
        export = OtelExport(collector.address, "test", Board(os.memfd_create("board")))
        export.offer(fact)
        export.close()
        step, span = steps.traced(collector, TRACE)
        assert step.fine
        assert span is not None
        assert (span.name, span.milliseconds) == ("a.B/C", 250.0)
        assert not steps.traced(collector, steps.Trace(TRACE.trace_id, "0" * 16))[0].fine
        monkeypatch.setattr(steps, "ARRIVE_S", 0.0)
        assert not steps.traced(collector, steps.Trace("1" * 32, TRACE.span_id))[0].fine


def test_the_trace_is_said_as_w3c_does() -> None:
    assert TRACE.header == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
