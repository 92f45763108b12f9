"""The telemetry process: reads what the workers send, exports spans, writes the access log, serves the probes.

Nothing here can hold up a worker: whatever is slow or away, facts are dropped and counted. It ends at SIGTERM, and
when nobody is left who could send; SIGHUP opens the access log anew.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from interceptors.events import SpanFact
from sidecar.telemetry import metrics
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.board import Board, BoardView
from sidecar.telemetry.export_otel import OtelExport
from sidecar.telemetry.exposition import render
from sidecar.telemetry.feed import FeedEnd
from sidecar.telemetry.merge import Process, merged
from sidecar.telemetry.probes import Probes
from sidecar.telemetry.pulse import Pulse, boot_clock
from sidecar.telemetry.readiness import BoardReadiness, Needs
from sidecar.telemetry.settings import Seat, Settings

NAME: Final = "telemetry"
BATCHES: Final = 16  # read from one feed before others have their turn


class Telemetry:
    """What runs in the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._board = Board(settings.board)
        self._workers = [_watched(seat) for seat in settings.workers]
        self._all = [*self._workers, *map(_watched, settings.others), Process(NAME, BoardView(settings.board))]
        self._feeds = {FeedEnd(socket.socket(fileno=seat.feed)) for seat in settings.workers if seat.feed >= 0}
        otlp, access = settings.otlp, settings.access_log
        self._export = OtelExport(otlp, settings.service_name, self._board) if otlp else None
        self._access = AccessLog(None if access == "stderr" else Path(access), self._board) if access != "off" else None
        needs = Needs(Path(settings.state), settings.min_free, settings.max_staleness_s)
        readiness = BoardReadiness(self._workers, needs, time.time, boot_clock)
        self._probes = Probes(readiness, self.exposition)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop = self._stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        # A terminal's interrupt reaches every process; this one has still to tell how the others end.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, self._reopen)
        self._board.set(metrics.STARTED, time.time())
        self._board.set(metrics.WORKERS, len(self._workers))
        pulse = Pulse(self._board, loop.call_later, time.monotonic, boot_clock, {}, self._count_alive)
        pulse.start()
        for feed in self._feeds:
            loop.add_reader(feed, self._read, feed)
        server = await self._listen(loop)
        await stop.wait()
        if server is not None:
            server.close()
        for feed in self._feeds:
            while facts := feed.read():
                self._take(facts)
        pulse.stop()
        await loop.run_in_executor(None, self._close)

    def exposition(self, open_metrics: bool) -> bytes:
        """What a scraper gets."""
        return render(merged(self._all, boot_clock()), open_metrics)

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Server | None:
        if self._settings.listener < 0:
            return None
        return await loop.create_server(self._probes.protocol, sock=socket.socket(fileno=self._settings.listener))

    def _read(self, feed: FeedEnd) -> None:
        for _ in range(BATCHES):
            facts = feed.read()
            if facts is None:
                asyncio.get_running_loop().remove_reader(feed)
                feed.close()
                self._feeds.discard(feed)
                if not self._feeds:
                    self._stop.set()
                return
            if not facts:
                return
            self._take(facts)

    def _take(self, facts: Sequence[SpanFact]) -> None:
        export, access = self._export, self._access
        for fact in facts:
            if fact.span_id and export is not None:
                export.offer(fact)
            if access is not None and fact.detail is not None and fact.detail.logged:
                access.offer(fact)

    def _count_alive(self) -> None:
        now = boot_clock()
        self._board.set(metrics.WORKERS_ALIVE, sum(worker.alive(now) for worker in self._workers))

    def _reopen(self) -> None:
        if self._access is not None:
            self._access.reopen()

    def _close(self) -> None:
        if self._access is not None:
            self._access.close()
        if self._export is not None:
            self._export.close()


def _watched(seat: Seat) -> Process:
    return Process(seat.name, BoardView(seat.board))
