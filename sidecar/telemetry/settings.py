"""What the telemetry process is told, and the boards and feeds that its descriptors are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.telemetry.feed import pair

BOARD: Final = "board"  # of a process: its own, the telemetry process's too
FEED: Final = "feed"
LISTENER: Final = "listener"
SPARES: Final = ("a", "b")  # boards of one place: a worker that is replaced still counts while its successor does


@dataclass(frozen=True, slots=True)
class Settings:
    """otlp: endpoint of spans, "" for none.  access_log: "off", "stderr" or an absolute path.

    state: directory that must be writable, with min_free bytes free.  max_staleness_s: of change feeds.
    """

    workers: int
    otlp: str
    service_name: str
    access_log: str
    state: str
    min_free: int
    max_staleness_s: float = 5.0

    def plain(self) -> dict[str, Any]:
        """As JSON types; `Settings(**plain)` reads it back."""
        return {name: getattr(self, name) for name in self.__slots__}


class Seats:
    """A board and a feed for each place of a process, kept by whoever starts them: what a killed process wrote stays.

    names: of the workers.  Others have a board alone.
    """

    def __init__(self, workers: int) -> None:
        self._boards = {
            (name, spare): os.memfd_create(f"{name}.{spare}")
            for name in (*map(seat, range(workers)), "supervisor")
            for spare in SPARES
        }
        self._own = os.memfd_create("telemetry")
        self._feeds = [pair() for _ in range(workers)]

    def worker(self, slot: int) -> Mapping[str, int]:
        """Descriptors of a worker's place."""
        return {**self._spares(seat(slot)), FEED: self._feeds[slot][0].fileno()}

    def supervisor(self) -> int:
        return self._boards["supervisor", SPARES[0]]

    def telemetry(self, listener: int | None) -> Mapping[str, int]:
        """Descriptors of the telemetry process: every board, the other end of every feed, the probes' listener."""
        given = {f"{name}.{spare}": number for (name, spare), number in self._boards.items()}
        given |= {f"{seat(slot)}.{FEED}": theirs.fileno() for slot, (_, theirs) in enumerate(self._feeds)}
        given[BOARD] = self._own
        return given if listener is None else given | {LISTENER: listener}

    def _spares(self, name: str) -> dict[str, int]:
        return {f"{BOARD}-{spare}": self._boards[name, spare] for spare in SPARES}

    def close(self) -> None:
        for number in (*self._boards.values(), self._own):
            os.close(number)
        for ours, theirs in self._feeds:
            ours.close()
            theirs.close()


def seat(slot: int) -> str:
    return f"worker-{slot}"
