"""What each outcome leaves in the audit trail."""

from __future__ import annotations

import random
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import PASS, Call, Code, Deny, Headers, Interceptor, Method, Outcome, View
from interceptors.events import Durability, Event
from interceptors.facts import CalledModel, Principal, TraceContext
from interceptors.record import Record
from interceptors.trace import Trace
from tests.interceptors.links import gives, scripted
from tests.playbook import METHOD, PEER, STARTED, Session

ADMIN = Method("/langtrain.v1.KeyService/Rotate", True, True)
A = Principal("spiffe", "spiffe://example.org/team/a")
NO = Deny(Code.PERMISSION_DENIED, "test.no")


def known(call: Call) -> object:
    call.put(A)
    return PASS


KNOWN = scripted("known", View.METADATA, on_start=known)
DENIES = scripted("no", View.METADATA, on_start=gives(NO))


def events(*links: Interceptor, method: Method = METHOD, status: int = 0, observe_only: bool = False) -> list[Any]:
    session = Session(Chain(links, observe_only), method)
    session.trailers(status)
    return session.call.events


@pytest.mark.parametrize(
    ("links", "method", "kind", "durability", "fold", "reason"),
    [
        ([KNOWN], METHOD, "call.allowed", Durability.BATCH, False, ""),
        ([KNOWN], ADMIN, "call.allowed", Durability.COMMIT, False, ""),
        ([KNOWN], Method("/langtrain.v10.X/Y"), "call.allowed", Durability.BATCH, False, ""),
        ([KNOWN, DENIES], METHOD, "call.denied", Durability.COMMIT, False, "test.no"),
        ([KNOWN, DENIES], ADMIN, "call.denied", Durability.COMMIT, False, "test.no"),
        ([DENIES], METHOD, "call.refused", Durability.BATCH, True, "test.no"),
        ([DENIES], ADMIN, "call.refused", Durability.BATCH, True, "test.no"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_kinds(
    links: list[Interceptor],
    method: Method,
    kind: str,
    durability: Durability,
    fold: bool,
    reason: str,
    first: bool,
) -> None:
    """Wherever record stands, it sees every outcome."""
    (event,) = events(Record(), *links, method=method) if first else events(*links, Record(), method=method)
    assert (event.kind, event.durability, event.fold, event.reason) == (kind, durability, fold, reason)
    assert event.principal == ("" if fold else A.name)
    assert event.status == (0 if kind == "call.allowed" else 7)


def test_every_field() -> None:
    call = Call(METHOD, Headers(()), PEER, STARTED)
    call.put(A)
    call.put(CalledModel("digits", "2"))
    call.put(TraceContext("1" * 32, "2" * 16, "", True))
    Record().on_end(call, Outcome(5, None, 0.25, 3, 4))
    assert call.events == [
        Event(
            kind="call.allowed",
            time=STARTED + 0.25,
            principal=A.name,
            source="192.0.2.1",
            method=METHOD.path,
            model="digits/2",
            status=5,
            seconds=0.25,
            requests=3,
            responses=4,
            trace_id="1" * 32,
        )
    ]


def test_the_trace_that_the_call_belongs_to() -> None:
    trace = Trace(random.Random(1).randbytes)
    for links in ([trace, KNOWN, Record()], [KNOWN, Record(), trace], [trace, DENIES, Record()]):
        event, span = sorted(events(*links), key=lambda item: type(item).__name__)
        assert event.trace_id == span.trace_id


def test_what_would_be_denied() -> None:
    (event,) = events(KNOWN, DENIES, Record(), observe_only=True)
    assert (event.kind, event.reason, event.would_deny, event.status) == ("call.allowed", "", "test.no", 0)


def test_which_methods_are_administrative_can_be_said() -> None:
    (event,) = events(KNOWN, Record(administrative=("/test.",)))
    assert event.durability is Durability.COMMIT


def test_a_cancelled_call_leaves_an_event() -> None:
    session = Session(Chain([KNOWN, Record()]))
    session.start()
    session.cancel()
    (event,) = session.call.events
    assert isinstance(event, Event)
    assert (event.kind, event.status) == ("call.allowed", 1)


def test_what_ended_a_call_that_nobody_denied_is_its_reason() -> None:
    call = Call(METHOD, Headers(()), PEER, STARTED)
    Record().on_end(call, Outcome(14, None, 0.5, cause="upstream.unreachable"))
    (event,) = call.events
    assert isinstance(event, Event)
    assert (event.kind, event.reason, event.status) == ("call.allowed", "upstream.unreachable", 14)
