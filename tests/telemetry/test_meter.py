"""What the relay tells is counted; what callers invent is not given rows."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import Call, Code, Deny, Headers, Method, Outcome, Peer
from interceptors.events import SpanFact, Travel
from sidecar.relay.meter import Meter
from sidecar.telemetry import metrics
from sidecar.telemetry.details import Details
from sidecar.telemetry.feed import Plain, restored
from sidecar.telemetry.meter import BoardMeter
from sidecar.telemetry.metrics import CALL_BOUNDS
from sidecar.telemetry.tally import observed
from tests.telemetry.boards import number, rows, scraped, slot

KNOWN = "/inference.GRPCInferenceService/ModelInfer"
DENY = Deny(Code.PERMISSION_DENIED, "authorize.no_rule")


def call(path: str = KNOWN) -> Call:
    return Call(Method(path), Headers(()), Peer("10.0.0.1:5", "10.0.0.1"), 1000.0)


def end(meter: Meter, path: str = KNOWN, status: int = 0, denied: Deny | None = None, cause: str = "") -> Call:
    ended = call(path)
    meter.call_ended(ended, Outcome(status, denied, 0.02, 1, 2, cause=cause), Travel(100, 200, 0.0001, 0.015, 0.01))
    return ended


def known(path: str) -> bool:
    return path == KNOWN


def test_a_call_is_counted_in_every_way() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    end(meter)
    end(meter)
    assert sum(values[0] for values in rows(place, metrics.CALLS).values()) == 0  # not published yet
    meter.publish()
    meter.publish()
    found = scraped(place)
    method = 'method="inference.GRPCInferenceService/ModelInfer"'
    expected = {
        f'calls_total{{{method},code="OK",decision="allowed"}}': 2,
        f"request_bytes_total{{{method}}}": 200,
        f"response_bytes_total{{{method}}}": 400,
        f"request_messages_total{{{method}}}": 2,
        f"response_messages_total{{{method}}}": 4,
        f"call_duration_seconds_count{{{method}}}": 2,
        f"call_duration_seconds_sum{{{method}}}": 0.04,
        f'call_duration_seconds_bucket{{{method},le="0.01"}}': 0,
        f'call_duration_seconds_bucket{{{method},le="0.025"}}': 2,
        f'call_duration_seconds_bucket{{{method},le="+Inf"}}': 2,
        f'chain_duration_seconds_bucket{{{method},le="0.0001"}}': 2,
        f"upstream_duration_seconds_sum{{{method}}}": 0.03,
        f"upstream_first_byte_seconds_sum{{{method}}}": 0.02,
    }
    assert {name: found[name] for name in expected} == expected


def test_a_call_that_was_never_sent_on_has_no_upstream_time() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    meter.call_ended(call(), Outcome(7, DENY, 0.02), Travel(100, 0, 0.0001, -1.0, -1.0))
    meter.publish()
    method = ("inference.GRPCInferenceService/ModelInfer",)
    assert sum(rows(place, metrics.UPSTREAM_SECONDS)[method]) == 0
    assert number(place, metrics.CALLS, (*method, "PERMISSION_DENIED", "denied")) == 1
    assert number(place, metrics.DENIALS, ("authorize.no_rule",)) == 1


def test_what_observing_would_have_denied_is_told_apart() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    observed = call()
    observed.would_deny = (DENY,)
    meter.call_ended(observed, Outcome(0, None, 0.02), Travel(0, 0, 0.0, -1.0, -1.0))
    meter.publish()
    assert number(place, metrics.CALLS, (KNOWN[1:], "OK", "would_deny")) == 1


def test_methods_get_rows_when_known_or_answered() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    end(meter, "/a.B/Unknown", status=12)
    end(meter, "/a.B/Refused", status=7, denied=DENY)
    end(meter, "/a.B/Answered", status=0)
    end(meter, "/a.B/Answered", status=14)
    end(meter, KNOWN, status=14)
    meter.publish()
    counted = {labels: values[0] for labels, values in rows(place, metrics.CALLS).items() if values[0]}
    assert counted == {
        ("other", "UNIMPLEMENTED", "allowed"): 1,
        ("other", "PERMISSION_DENIED", "denied"): 1,
        ("a.B/Answered", "OK", "allowed"): 1,
        ("a.B/Answered", "UNAVAILABLE", "allowed"): 1,
        (KNOWN[1:], "UNAVAILABLE", "allowed"): 1,
    }


def test_inventions_cost_neither_rows_nor_memory() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    for turn in range(10_000):
        end(meter, f"/a.B/M{turn}", status=turn % 20, denied=DENY if turn % 20 == 0 else None)
    meter.publish()
    assert sum(values[0] for values in rows(place, metrics.CALLS).values()) == 10_000
    assert set(rows(place, metrics.CALL_SECONDS)) == {("other",)}
    assert len(meter._tallies) <= 20


def test_a_server_that_answers_anything_gets_no_more_than_its_rows() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    for turn in range(1000):
        end(meter, f"/a.B/M{turn}")
    meter.publish()
    assert len(rows(place, metrics.CALL_SECONDS)) == metrics.METHODS + 1
    assert number(place, metrics.CALLS, ("other", "OK", "allowed")) == 1000 - metrics.METHODS
    assert number(place, metrics.OVERFLOWS, ("call_duration_seconds",)) == 1000 - metrics.METHODS


def test_a_restarted_worker_remembers_which_methods_were_answered() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    end(meter, "/a.B/Answered")
    meter.publish()
    meter = BoardMeter(place.taken(), known)
    end(meter, "/a.B/Answered", status=14)
    meter.publish()
    assert number(place, metrics.CALLS, ("a.B/Answered", "UNAVAILABLE", "allowed")) == 1
    assert number(place, metrics.CALLS, ("a.B/Answered", "OK", "allowed")) == 1


def test_limits_and_failures_have_their_reasons() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    end(meter, status=8, denied=Deny(Code.RESOURCE_EXHAUSTED, "limit.rate"))
    end(meter, status=14, cause="upstream.queue_full")
    end(meter, status=14, cause="upstream.unreachable")
    assert {reason: count for (reason,), (count,) in rows(place, metrics.LIMIT_DENIALS).items() if count} == {
        "limit.rate": 1,
        "upstream.queue_full": 1,
    }
    assert number(place, metrics.FAILURES, ("upstream.unreachable",)) == 1


def test_calls_that_are_turned_away_are_counted_without_a_method() -> None:
    place = slot()
    meter = BoardMeter(place.taken(), known)
    for _ in range(3):
        meter.turned_away(14, "overload.concurrency")
    meter.turned_away(8, "overload.calls")
    meter.publish()
    meter.publish()  # once is enough
    assert number(place, metrics.CALLS, ("other", "UNAVAILABLE", "denied")) == 3
    for metric in (metrics.DENIALS, metrics.LIMIT_DENIALS):
        assert number(place, metric, ("overload.concurrency",)) == 3
        assert number(place, metric, ("overload.calls",)) == 1


def test_connections_and_the_upstream() -> None:
    place = slot()
    meter: Meter = BoardMeter(place.taken(), known)
    meter.connection_opened()
    meter.tls_refused("tls.expired")
    meter.connection_failed("http2.protocol_error")
    meter.abused("too many resets")
    meter.retried()
    meter.upstream_connected("m:1", "success")
    meter.upstream_state("m:1", True)
    meter.upstream_state("m:2", False)
    meter.upstream_forgotten("m:1")
    found = scraped(place)
    expected = {
        "connections_total": 1,
        'tls_errors_total{reason="tls.expired"}': 1,
        'connection_errors_total{reason="http2.protocol_error"}': 1,
        'abuse_closures_total{reason="too many resets"}': 1,
        "upstream_retries_total": 1,
        'upstream_connects_total{endpoint="m:1",result="success"}': 1,
        'upstream_up{endpoint="m:2"}': 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert 'upstream_up{endpoint="m:1"}' not in found


def test_one_fact_serves_span_and_access_log() -> None:
    noted: list[Plain] = []
    meter = BoardMeter(slot().taken(), known, Details(1.0, lambda: 0.0, noted.append))
    traced = call()
    span = SpanFact("0a" * 16, "0b" * 8, "", KNOWN[1:], 1000.0, 1000.02, 0, "", "", "allowed")
    traced.emit(span)
    meter.call_ended(traced, Outcome(0, None, 0.02, 1, 2), Travel(100, 200, 0.0001, 0.015, 0.01))
    assert traced.events == [span]
    assert span.detail == ("10.0.0.1", 1, 2, 100, 200, 0.0001, 0.015, 0.01, True)
    assert noted == []
    assert end(meter).events == []
    [untraced] = map(restored, noted)
    assert (untraced.span_id, untraced.name, untraced.detail) == ("", KNOWN[1:], span.detail)


def test_the_access_log_samples_but_for_denials_and_errors() -> None:
    dice = iter([0.09, 0.1, 0.95])
    noted: list[Plain] = []
    meter = BoardMeter(slot().taken(), known, Details(0.1, lambda: next(dice), noted.append))
    lines = []
    for how in (*[dict[str, Any]()] * 3, {"status": 14}, {"status": 7, "denied": DENY}):
        end(meter, **how)
        lines.append(len(noted))
    assert lines == [1, 1, 1, 2, 3]


def test_without_an_access_log_only_spans_are_completed() -> None:
    noted: list[Plain] = []
    meter = BoardMeter(slot().taken(), known, Details(None, lambda: 0.0, noted.append))
    assert end(meter, status=7, denied=DENY).events == []
    assert noted == []


@given(st.lists(st.floats(-1.0, 40.0)))
def test_observing_together_is_observing_one_by_one(times: list[float]) -> None:
    one_by_one = [0.0] * (len(CALL_BOUNDS) + 1)
    for seconds in times:
        if seconds >= 0:
            one_by_one[bisect_left(CALL_BOUNDS, seconds)] += 1
    *buckets, total = observed(CALL_BOUNDS, times)
    assert buckets == one_by_one
    assert total == pytest.approx(sum(seconds for seconds in times if seconds >= 0))
