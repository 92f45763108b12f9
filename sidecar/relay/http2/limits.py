"""Limits that keep one peer from costing more than its share; all are on by default."""

from __future__ import annotations

from dataclasses import dataclass


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
    header_list: RFC 9113 §10.5.1 size beyond which a block is refused; four times that ends the connection.
    frames: the largest frame payload taken.  output: control frames waiting for a peer that does not read.
    resets: RST_STREAM from the peer and those it led us to send (CVE-2023-44487, CVE-2025-8671).
    """

    concurrent_streams: int = 100
    header_list: int = 16 << 10
    header_count: int = 128
    continuations: int = 32
    frames: int = 16_384
    stream_window: int = 1 << 20
    connection_window: int = 16 << 20
    output: int = 1 << 20
    resets: Rate = Rate(100, 200)
    pings: Rate = Rate(10, 100)
    settings: Rate = Rate(1, 20)
    priorities: Rate = Rate(100, 1000)
    empty_data: Rate = Rate(10, 100)
    unknown: Rate = Rate(10, 100)
    window_updates: Rate = Rate(20_000, 100_000)
