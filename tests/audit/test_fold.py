"""Folding: nothing is lost in counting, and a flood takes a bounded number of lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from interceptors.events import Event
from sidecar.audit.fold import OTHER_KINDS, OTHER_SOURCES, Fold


def refused(source: str = "10.0.0.1", reason: str = "no certificate", time: float = 0.0, count: int = 1) -> Event:
    return Event("connection.refused", time, source=source, reason=reason, fold=True, count=count)


def test_the_first_is_written_at_once_and_the_rest_when_the_window_ends() -> None:
    fold = Fold(window=10)
    first = refused(time=100)
    assert fold.add(first, 0) == [first]
    assert fold.add(refused(time=101), 1) == []
    assert fold.add(refused(time=102), 9.9) == []
    assert fold.sweep(9.99) == []
    assert fold.sweep(10) == [refused(time=102, count=2)]
    assert len(fold) == 0


def test_a_window_without_more_ends_silently() -> None:
    fold = Fold(window=10)
    fold.add(refused(), 0)
    assert fold.sweep(10) == []
    again = refused(time=5)
    assert fold.add(again, 11) == [again]


def test_an_event_after_the_window_brings_the_count_with_it() -> None:
    fold = Fold(window=10)
    fold.add(refused(), 0)
    fold.add(refused(time=1), 1)
    late = refused(time=30)
    assert fold.add(late, 30) == [refused(time=1, count=1), late]


def test_kinds_sources_and_reasons_are_told_apart() -> None:
    fold = Fold()
    alike = [refused("a"), refused("b"), refused("a", "expired"), Event("call.denied", 0, source="a", fold=True)]
    assert [fold.add(event, 0) for event in alike] == [[event] for event in alike]


def test_sources_beyond_the_table_share_one_entry() -> None:
    fold = Fold(sources=2)
    written = [one for n in range(100) for one in fold.add(refused(f"10.0.0.{n}", time=n), 0)]
    assert [event.source for event in written] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert fold.close() == [refused(OTHER_SOURCES, time=99, count=97)]


def test_a_reason_that_callers_choose_cannot_grow_the_table() -> None:
    fold = Fold(sources=4)
    written = [one for n in range(1000) for one in fold.add(refused(f"10.0.0.{n}", f"reason {n}"), 0)]
    assert len(fold) == 9
    rest = fold.close()
    assert {(event.kind, event.source) for event in rest} == {(OTHER_KINDS, OTHER_SOURCES)}
    assert sum(event.count for event in written + rest) == 1000


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.floats(0, 8), st.integers(1, 5)), max_size=80
    ),
    st.integers(1, 6),
)
def test_counts_are_conserved_and_lines_bounded(steps: list[tuple[str, str, float, int]], sources: int) -> None:
    fold, now, lines = Fold(window=10, sources=sources), 0.0, 0
    total = written = 0
    for source, reason, wait, count in steps:
        now += wait
        total += count
        out = fold.add(refused(source, reason, now, count), now)
        lines += len(out)
        written += sum(event.count for event in out)
        assert len(fold) <= 2 * sources + 1
    end = fold.close()
    assert written + sum(event.count for event in end) == total
    windows = now // 10 + 1
    assert lines + len(end) <= 2 * (2 * sources + 1) * windows
    assert fold.close() == []
