"""What the telemetry process is started with: plain values and inherited descriptors, as one JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """A process that is watched. name: such as "worker-0".  board: descriptor of its board.

    feed: descriptor of our end of its feed; -1 where it sends no facts, as the supervisor.
    """

    name: str
    board: int
    feed: int = -1


@dataclass(frozen=True, slots=True)
class Settings:
    """board: descriptor of the telemetry process's own.  otlp: endpoint of spans, "" for none.

    access_log: "off", "stderr" or an absolute path.  listener: descriptor of the probes' listening socket, -1 for
    none.  state: directory that must be writable, with min_free bytes free.  max_staleness_s: of change feeds.
    """

    workers: tuple[Seat, ...]
    others: tuple[Seat, ...]
    board: int
    otlp: str
    service_name: str
    access_log: str
    listener: int
    state: str
    min_free: int
    max_staleness_s: float = 5.0

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Settings:
        """Of what `text` gave."""
        values = json.loads(text)
        values["workers"] = tuple(Seat(**seat) for seat in values["workers"])
        values["others"] = tuple(Seat(**seat) for seat in values["others"])
        return cls(**values)

    def descriptors(self) -> tuple[int, ...]:
        """Everything that the process must inherit."""
        seats = (*self.workers, *self.others)
        every = [self.board, self.listener, *(seat.board for seat in seats), *(seat.feed for seat in seats)]
        return tuple(fd for fd in every if fd >= 0)
