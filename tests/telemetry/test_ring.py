"""The ring between the relay and its exporter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.ring import Ring


def test_keeps_order_and_drops_the_newest() -> None:
    ring: Ring[int] = Ring(3)
    assert [ring.put([0, 1]), ring.put([2, 3]), ring.put([4]), ring.put([])] == [0, 1, 1, 0]
    assert (ring.take(2), ring.take(2), ring.take(2), ring.dropped) == ([0, 1], [2], [], 2)


@given(st.lists(st.one_of(st.none(), st.integers(0, 9))), st.integers(1, 5))
def test_all_are_taken_dropped_or_waiting(steps: list[int | None], capacity: int) -> None:
    ring: Ring[object] = Ring(capacity)
    put = taken = 0
    for step in steps:
        if step is None:
            ring.put([object(), object()])
            put += 2
        else:
            taken += len(ring.take(step))
        assert len(ring) <= capacity
        assert put == taken + ring.dropped + len(ring)
