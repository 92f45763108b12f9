"""Facts on their way out of a worker: whole, never waited for, and counted where they are lost."""

from __future__ import annotations

import marshal
import resource
from collections.abc import Callable
from enum import StrEnum

from hypothesis import given
from hypothesis import strategies as st

from interceptors.events import CallDetail, SpanFact
from sidecar.telemetry import metrics
from sidecar.telemetry.feed import BATCH, FeedEnd, SpanFeed, pair, plain, restored
from sidecar.telemetry.ports import SpanSink
from tests.telemetry.boards import Slot, number, slot

DETAIL = CallDetail("10.0.0.1", 1, 2, 100, 200, 0.0001, 0.015, -1.0, True)


def fact(name: str = "a.B/C", span_id: str = "0b" * 8, detail: CallDetail | None = None) -> SpanFact:
    return SpanFact("0a" * 16, span_id, "", name, 1.0, 2.0, 0, "", "", "allowed", detail)


class Later:
    """A loop's call_later that fires by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, seconds: float, run: Callable[[], None]) -> None:
        self.due.append(run)

    def fire(self) -> None:
        due, self.due = self.due, []
        for run in due:
            run()


def feed() -> tuple[SpanFeed, FeedEnd, Slot, Later]:
    ours, theirs = pair()
    place, later = slot(), Later()
    return SpanFeed(ours, place.taken(), later), FeedEnd(theirs), place, later


def read(end: FeedEnd) -> list[SpanFact]:
    facts: list[SpanFact] = []
    while batch := end.read():
        facts += map(restored, batch)
    return facts


def test_facts_travel_in_batches_or_after_a_moment() -> None:
    sink, end, _, later = feed()
    as_port: SpanSink = sink
    sent = [fact(str(n), detail=DETAIL if n % 2 else None) for n in range(BATCH + 3)]
    for each in sent:
        as_port.offer(each)
    assert read(end) == sent[:BATCH]
    later.fire()
    assert read(end) == sent[BATCH:]
    assert sink.dropped == 0
    sink.close()
    assert end.read() is None
    end.close()


def test_a_feed_that_nobody_reads_drops_and_counts() -> None:
    sink, end, place, later = feed()
    offered = 0
    while sink.dropped < 10 * BATCH:
        sink.offer(fact(str(offered), detail=DETAIL))
        sink.offer(fact(str(offered), span_id="", detail=DETAIL))
        offered += 1
    later.fire()
    arrived = read(end)
    spans = sum(1 for each in arrived if each.span_id)
    assert spans > 1000
    assert sink.dropped == offered - spans
    assert number(place, metrics.SPANS_DROPPED, ("feed_full",)) == offered - spans
    assert number(place, metrics.LINES_DROPPED, ("feed_full",)) == 2 * offered - len(arrived)
    sink.offer(fact("after"))
    later.fire()
    assert [each.name for each in read(end)] == ["after"]  # there is room again
    sink.close()
    end.close()


def test_a_reader_that_is_gone_costs_a_count_and_no_memory() -> None:
    sink, end, _, later = feed()
    end.close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(50_000):
        sink.offer(fact("x" * 100))
    later.fire()
    assert sink.dropped == 50_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # KiB
    sink.close()
    sink.close()
    sink.offer(fact())
    later.fire()
    assert sink.dropped == 50_001


def test_a_batch_too_long_for_a_packet_is_cut() -> None:
    sink, end, _, later = feed()
    names = [str(n) + "x" * 8000 for n in range(BATCH)]
    for name in names:
        sink.offer(fact(name))
    later.fire()
    arrived = [each.name for each in read(end)]
    assert len(arrived) + sink.dropped == BATCH
    assert arrived == names[: len(arrived)]
    assert len(arrived) > BATCH // 4
    sink.close()
    end.close()


def test_what_alone_is_too_long_is_dropped() -> None:
    sink, end, _, later = feed()
    sink.offer(fact("x" * (8 << 20)))
    sink.offer(fact("after"))
    later.fire()
    assert [each.name for each in read(end)] == ["after"]
    assert sink.dropped == 1
    sink.close()
    end.close()


texts = st.text(max_size=20)
details = st.builds(CallDetail, texts, *[st.integers(0, 1 << 40)] * 4, *[st.floats(allow_nan=False)] * 3, st.booleans())
facts = st.builds(
    SpanFact, texts, texts, texts, texts, st.floats(allow_nan=False), st.floats(allow_nan=False), st.integers(0, 99),
    texts, texts, texts, st.none() | details,
)  # fmt: skip


@given(st.lists(facts, max_size=5))
def test_what_is_read_is_what_was_written(sent: list[SpanFact]) -> None:
    assert [restored(marshal.loads(marshal.dumps(plain(each)))) for each in sent] == sent


class Reason(StrEnum):
    """What a link may give where a text is asked for, and marshal does not take."""

    CLOSED = "closed"


def test_a_fact_that_is_no_plain_value_is_dropped_and_counted_alone() -> None:
    sink, end, place, later = feed()
    for at in range(BATCH):
        sink.offer(fact(Reason.CLOSED if at == 5 else str(at), detail=DETAIL))
    sink.offer(fact(Reason.CLOSED))
    later.fire()
    assert [each.name for each in read(end)] == [str(at) for at in range(BATCH) if at != 5]
    assert sink.dropped == 2
    assert number(place, metrics.SPANS_DROPPED, ("feed_full",)) == 2
    assert number(place, metrics.LINES_DROPPED, ("feed_full",)) == 1
    sink.close()
    end.close()
