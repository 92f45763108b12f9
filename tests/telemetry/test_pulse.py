"""The pulse: how late the loop comes is counted, gauges are looked at, and calls are published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.telemetry import metrics
from sidecar.telemetry.board import BoardView
from sidecar.telemetry.pulse import BEAT_S, Pulse, resident
from tests.telemetry.boards import number, scraped, slot


class Loop:
    """Timers that fire late by as much as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cancelled = False
        self._run: Callable[[], None] | None = None
        self._at = 0.0

    def later(self, seconds: float, run: Callable[[], None]) -> Loop:
        self._at, self._run = self.now + seconds, run
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self, late_s: float = 0.0) -> None:
        assert self._run is not None
        self.now = self._at + late_s
        self._run()


def test_lag_is_how_late_a_timer_comes() -> None:
    place, loop = slot(), Loop()
    pulse = Pulse(place.taken(), loop.later, lambda: loop.now, lambda: loop.now, {}, lambda: None)
    pulse.start()
    for late_s in (0.0, 0.004, 0.3, 2.0):
        loop.fire(late_s)
    found = scraped(place, now=loop.now)
    assert found["event_loop_lag_seconds_count"] == 4
    assert found["event_loop_lag_seconds_sum"] == pytest.approx(2.304)
    assert [
        found[f'event_loop_lag_seconds_bucket{{le="{le}"}}'] for le in ("0.001", "0.005", "0.25", "0.5", "+Inf")
    ] == [
        1,
        2,
        2,
        3,
        4,
    ]


def test_gauges_are_looked_at_once_a_second_and_calls_published_with_every_beat() -> None:
    place, loop = slot(), Loop()
    open_now, published = [1.0], []
    gauges = {
        (metrics.CONNECTIONS_OPEN, ()): lambda: open_now[0],
        (metrics.UPSTREAM_UP, ("m:1",)): lambda: 1.0,
    }
    pulse = Pulse(
        place.taken(), loop.later, lambda: loop.now, lambda: loop.now, gauges, lambda: published.append(loop.now)
    )
    pulse.start()
    assert number(place, metrics.CONNECTIONS_OPEN) == 1.0
    assert number(place, metrics.UPSTREAM_UP, ("m:1",)) == 1.0
    assert number(place, metrics.MEMORY) > 1e6
    open_now[0] = 5.0
    for _ in range(3):
        loop.fire()
    assert number(place, metrics.CONNECTIONS_OPEN) == 1.0
    loop.fire()
    assert number(place, metrics.CONNECTIONS_OPEN) == 5.0
    assert published == [1000.0 + BEAT_S * beat for beat in range(1, 5)]
    assert BoardView(place.fd).beat() == loop.now
    pulse.stop()
    assert len(published) == 5
    assert loop.cancelled


def test_memory_is_what_the_kernel_says() -> None:
    assert 1 << 20 < resident() < 1 << 40
