"""The telemetry process: reads what the workers send, exports spans, writes the access log, serves the probes.

Nothing here can hold up a worker: whatever is slow or away, facts are dropped and counted. SIGHUP opens the access
log anew.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop

from sidecar.processes.child import Birth, Control
from sidecar.processes.messages import Ready
from sidecar.telemetry import metrics
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.board import Board, BoardView
from sidecar.telemetry.export_otel import OtelExport
from sidecar.telemetry.exposition import render
from sidecar.telemetry.feed import SPAN_ID, FeedEnd, Plain, is_logged, restored
from sidecar.telemetry.merge import Process, merged
from sidecar.telemetry.probes import Probes
from sidecar.telemetry.pulse import Pulse, boot_clock
from sidecar.telemetry.readiness import BoardReadiness, Needs
from sidecar.telemetry.settings import BOARD, FEED, LISTENER, SPARES, Settings, seat

NAME: Final = "telemetry"
BATCHES: Final = 16  # read from one feed before others have their turn


def main(birth: Birth) -> int:
    """settings: `Settings.plain`.  descriptors: `Seats.telemetry`."""
    return uvloop.run(_run(birth))


async def _run(birth: Birth) -> int:
    telemetry = Telemetry(Settings(**birth.start.settings), birth.descriptors)
    control = Control(asyncio.get_running_loop(), birth, {})
    await telemetry.start()
    control.send(Ready())
    await control.draining.wait()
    await telemetry.stop()
    return 0


class Telemetry:
    """What runs in the process. descriptors: as of `Seats.telemetry`, to be this process's own."""

    def __init__(self, settings: Settings, descriptors: Mapping[str, int]) -> None:
        self._settings = settings
        self._listener = descriptors.get(LISTENER)
        own = descriptors[BOARD]
        self._board = Board(own)

        def watched(name: str) -> Process:
            return Process(name, tuple(BoardView(descriptors[f"{name}.{spare}"]) for spare in SPARES))

        names = list(map(seat, range(settings.workers)))
        self._workers = list(map(watched, names))
        self._all = [*self._workers, watched("supervisor"), Process(NAME, (BoardView(own),))]
        self._feeds = {FeedEnd(socket.socket(fileno=descriptors[f"{name}.{FEED}"])) for name in names}
        otlp, access = settings.otlp, settings.access_log
        self._export = OtelExport(otlp, settings.service_name, self._board) if otlp else None
        self._access = AccessLog(None if access == "stderr" else Path(access), self._board) if access != "off" else None
        needs = Needs(Path(settings.state), settings.min_free, settings.max_staleness_s)
        readiness = BoardReadiness(self._workers, needs, time.time, boot_clock)
        self._probes = Probes(readiness, self.exposition)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reopen)
        self._board.set(metrics.STARTED, time.time())
        self._board.set(metrics.WORKERS, len(self._workers))
        self._pulse = pulse = Pulse(self._board, loop.call_later, time.monotonic, boot_clock, {}, self._count_alive)
        pulse.start()
        for feed in self._feeds:
            loop.add_reader(feed, self._read, feed)
        self._server = await self._listen(loop)

    async def stop(self) -> None:
        """Take what is left in the feeds, and send it."""
        if self._server is not None:
            self._server.close()
        for feed in self._feeds:
            while facts := feed.read():
                self._take(facts)
        self._pulse.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def exposition(self, open_metrics: bool) -> bytes:
        """What a scraper gets."""
        return render(merged(self._all, boot_clock()), open_metrics)

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Server | None:
        if self._listener is None:
            return None
        return await loop.create_server(self._probes.protocol, sock=socket.socket(fileno=self._listener))

    def _read(self, feed: FeedEnd) -> None:
        for _ in range(BATCHES):
            facts = feed.read()
            if facts is None:
                asyncio.get_running_loop().remove_reader(feed)
                feed.close()
                self._feeds.discard(feed)
                return
            if not facts:
                return
            self._take(facts)

    def _take(self, facts: Sequence[Plain]) -> None:
        if self._export is not None:
            for fact in facts:
                if fact[SPAN_ID]:
                    self._export.offer(restored(fact))
        if self._access is not None:
            self._access.offer(list(filter(is_logged, facts)))

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
