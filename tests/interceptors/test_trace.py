"""Spans: whose trace they belong to, what goes upstream, and which are told of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import PASS, Code, Deny, Interceptor, Outcome, RawField, View
from interceptors.events import SpanFact
from interceptors.facts import CalledModel, Principal, TraceContext
from interceptors.trace import Trace
from tests.interceptors.links import gives, scripted
from tests.playbook import METHOD, STARTED, Session

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
NO = Deny(Code.PERMISSION_DENIED, "test.no")


def parent(flags: str = "01") -> RawField:
    return b"traceparent", f"00-{TRACE}-{PARENT}-{flags}".encode()


def link(sample: float = 1.0) -> Trace:
    return Trace(random.Random(7).randbytes, sample)


def traced(headers: Sequence[RawField], trace: Trace | None = None) -> Session:
    session = Session(Chain([trace or link()]), headers=headers)
    session.start()
    return session


def upstream(session: Session, name: bytes) -> list[bytes]:
    assert session.told.upstream_headers is not None
    return [value for key, value in session.told.upstream_headers if key == name]


def spans(session: Session) -> list[SpanFact]:
    return [event for event in session.call.events if isinstance(event, SpanFact)]


def test_a_span_of_the_callers_trace() -> None:
    session = traced([(b"a", b"b"), parent(), (b"tracestate", b"congo=t61rcWkgMzE"), (b"c", b"d")])
    context = session.call.get(TraceContext)
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, PARENT, True)
    assert context.span_id not in (PARENT, "0" * 16)
    assert session.told.upstream_headers == (
        (b"a", b"b"),
        (b"tracestate", b"congo=t61rcWkgMzE"),
        (b"c", b"d"),
        (b"traceparent", f"00-{TRACE}-{context.span_id}-01".encode()),
    )
    assert session.call.headers.changed


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_the_callers_flags_travel_on(flags: str) -> None:
    session = traced([parent(flags)], link(sample=0.0))
    assert upstream(session, b"traceparent")[0].endswith(f"-{flags}".encode())
    assert session.call.get(TraceContext).sampled is (flags in ("01", "03"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"tracestate", b"congo=1")],
        [(b"traceparent", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"), (b"tracestate", b"congo=1")],
        [parent(), parent(), (b"tracestate", b"congo=1"), (b"tracestate", b"rojo=1")],
    ],
)
def test_a_trace_of_our_own(headers: list[RawField]) -> None:
    session = traced([(b"a", b"b"), *headers])
    context = session.call.get(TraceContext)
    assert context.parent_id == ""
    assert context.trace_id not in (TRACE, "0" * 32)
    assert session.told.upstream_headers == (
        (b"a", b"b"),
        (b"traceparent", f"00-{context.trace_id}-{context.span_id}-01".encode()),
    )


def test_a_malformed_tracestate_is_dropped_alone() -> None:
    session = traced([parent(), (b"tracestate", b"FOO=1"), (b"a", b"b")])
    assert upstream(session, b"tracestate") == []
    assert session.call.get(TraceContext).trace_id == TRACE


def test_several_tracestates_travel_in_their_order() -> None:
    session = traced([(b"tracestate", b"a=1"), parent(), (b"tracestate", b"b=2")])
    assert upstream(session, b"tracestate") == [b"a=1", b"b=2"]


def test_ids_are_never_zero() -> None:
    session = traced([], Trace(bytes))
    context = session.call.get(TraceContext)
    assert (context.trace_id, context.span_id) == ("0" * 31 + "1", "0" * 15 + "1")
    assert traced([parent()], Trace(bytes)).call.get(TraceContext).span_id == "0" * 15 + "1"


@pytest.mark.parametrize(
    ("sample", "low", "sampled"),
    [
        (1.0, "f" * 16, True),
        (0.0, "0" * 15 + "1", False),
        (0.5, "7" + "f" * 15, True),
        (0.5, "8" + "0" * 15, False),
        (0.25, "3" + "f" * 15, True),
        (0.25, "4" + "0" * 15, False),
    ],
)
def test_sampling_by_the_trace_ids_last_eight_bytes(sample: float, low: str, sampled: bool) -> None:
    ids = bytes.fromhex("a" * 16 + low + "b" * 16)
    session = traced([], Trace(lambda count: ids[:count], sample))
    assert session.call.get(TraceContext).sampled is sampled
    assert upstream(session, b"traceparent")[0].endswith(b"-01" if sampled else b"-00")


@pytest.mark.parametrize("sample", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(sample: float) -> None:
    with pytest.raises(ValueError, match="sample is a share from 0 to 1"):
        Trace(bytes, sample)


def test_the_span_of_an_allowed_call() -> None:
    def known(call: Any) -> object:
        call.put(Principal("dns", "dns:a"))
        call.put(CalledModel("digits", "2"))
        return PASS

    session = Session(Chain([link(), scripted("known", View.METADATA, on_start=known)]), headers=[parent()])
    session.trailers()
    context = session.call.get(TraceContext)
    assert spans(session) == [
        SpanFact(
            TRACE,
            context.span_id,
            PARENT,
            "test.Service/Method",
            STARTED,
            STARTED + 1.0,
            0,
            "dns:a",
            "digits/2",
            "allowed",
        )
    ]


@pytest.mark.parametrize(
    ("flags", "status", "links", "told"),
    [
        ("01", 0, [], ["allowed"]),
        ("00", 0, [], []),
        ("00", 5, [], ["allowed"]),
        ("00", 0, [scripted("no", on_start=gives(NO))], ["test.no"]),
    ],
)
def test_which_spans_are_told(flags: str, status: int, links: list[Interceptor], told: list[str]) -> None:
    session = Session(Chain([link(), *links]), headers=[parent(flags)])
    session.trailers(status)
    assert [span.decision for span in spans(session)] == told


def test_a_call_denied_before_it_gets_a_context_at_its_end() -> None:
    session = Session(Chain([scripted("no", on_start=gives(NO)), link()]), headers=[parent()])
    session.start()
    (span,) = spans(session)
    assert (span.trace_id, span.parent_id, span.decision) == (TRACE, PARENT, "test.no")
    assert session.call.get(TraceContext).span_id == span.span_id


def test_a_call_that_never_started_has_a_span() -> None:
    session = Session(Chain([link()]))
    session.plan.end(session.call, Outcome(Code.UNAVAILABLE, None, 0.5))
    (span,) = spans(session)
    assert (span.status, span.name) == (14, METHOD.path[1:])
