"""Limits that keep one peer from costing more than its share; all are on by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEAST_WINDOW: Final = 65_535  # bytes, RFC 9113 §6.9.2
MOST_WINDOW: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Rate:
    """per_second tokens a second, at most `burst` at once."""

    per_second: float
    burst: int


class Budget:
    """A token bucket that a peer spends by frames which cost us more than they cost it."""

    __slots__ = ("_last", "_level", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._level = float(rate.burst)
        self._last = 0.0

    def spend(self, now: float) -> bool:
        """Take one token; False when there is none. now: seconds on any clock that does not go back."""
        level = min(float(self._rate.burst), self._level + (now - self._last) * self._rate.per_second)
        self._last = now
        if level < 1.0:
            self._level = level
            return False
        self._level = level - 1.0
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection's peer may do. Sizes are bytes.

    concurrent_streams: SETTINGS_MAX_CONCURRENT_STREAMS; a stream keeps its slot until its owner releases it.
    header_list: RFC 9113 §6.5.2 size beyond which a block is refused, header_count: the same for fields; four times
    either ends the connection.  continuations: CONTINUATION frames of one block.  frames: the largest payload taken.
    stream_window, connection_window: at least the 65,535 that a peer may send before our SETTINGS reach it.
    output: frames other than DATA waiting for a peer that does not read.
    resets: RST_STREAM from the peer and those it led us to send (CVE-2023-44487, CVE-2025-8671).
    refusals: streams opened beyond what we take, which an honest peer does before it has read our SETTINGS.
    pings: those for which nothing was sent in between.  unknown: frames of types unknown to us, and GOAWAY.
    window_updates: these, and other frames that cost as little.

    Raises ValueError for a window that is too small.
    """

    concurrent_streams: int = 100
    header_list: int = 16 << 10
    header_count: int = 128
    continuations: int = 32
    frames: int = 16_384
    stream_window: int = 1 << 20
    connection_window: int = 16 << 20
    output: int = 4 << 20
    resets: Rate = Rate(100, 200)
    refusals: Rate = Rate(100, 2_000)
    pings: Rate = Rate(10, 100)
    settings: Rate = Rate(10, 100)
    priorities: Rate = Rate(100, 1000)
    empty_data: Rate = Rate(10, 100)
    unknown: Rate = Rate(10, 100)
    window_updates: Rate = Rate(20_000, 100_000)

    def __post_init__(self) -> None:
        for name, size in (("stream_window", self.stream_window), ("connection_window", self.connection_window)):
            if not LEAST_WINDOW <= size <= MOST_WINDOW:
                raise ValueError(f"{name} is {size} bytes, expected {LEAST_WINDOW} to {MOST_WINDOW}")
