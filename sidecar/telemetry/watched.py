"""A worker as it is watched: its board, its feed to the telemetry process, and its pulse."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Protocol

from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.details import Details
from sidecar.telemetry.feed import SpanFeed
from sidecar.telemetry.meter import BoardMeter
from sidecar.telemetry.pulse import Gauge, Pulse, boot_clock
from sidecar.telemetry.settings import BOARD, FEED, SPARES


class Logging(Protocol):
    """The access log's settings: where to, and which share of the calls."""

    @property
    def file(self) -> object: ...

    @property
    def sample(self) -> float: ...


class Watched:
    """spans: where the relay's spans go.  meter: what it tells of calls and connections."""

    def __init__(
        self,
        board: Board,
        end: socket.socket,
        loop: asyncio.AbstractEventLoop,
        log: Logging,
        known: Callable[[str], bool],
        random: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._board = board
        self.spans = SpanFeed(end, board, loop.call_later)
        details = Details(None if log.file == "off" else log.sample, random, self.spans.note)
        self.meter = BoardMeter(board, known, details)
        self._pulse: Pulse | None = None

    @classmethod
    def of(
        cls,
        descriptors: Mapping[str, int],
        loop: asyncio.AbstractEventLoop,
        log: Logging,
        known: Callable[[str], bool],
        random: Callable[[], float],
    ) -> Watched | None:
        """With the descriptors of `Seats.worker`; None without, where nobody watches.

        known: whether the shape of the method at a path is known.  random: numbers in [0, 1), for sampling.
        """
        if FEED not in descriptors:
            return None
        return cls(free(descriptors), socket.socket(fileno=descriptors[FEED]), loop, log, known, random)

    def begin(self, gauges: Mapping[Gauge, Callable[[], float]]) -> None:
        """The relay is up. gauges: as of Pulse."""
        board = self._board
        board.inform(metrics.BUILD, (version(), sys.version.partition(" ")[0]))
        board.set(metrics.STARTED, time.time())
        self._pulse = Pulse(board, self._loop.call_later, time.monotonic, boot_clock, gauges, self.meter.publish)
        self._pulse.start()

    def end(self) -> None:
        """Publish and send what is held."""
        if self._pulse is not None:
            self._pulse.stop()
        self.spans.close()


def free(descriptors: Mapping[str, int]) -> Board:
    """The first board of the place that no process writes on: one that is being replaced has its own until it ends."""
    for spare in SPARES:
        # Opened anew: what was handed down shares its locks with every process that it was handed to.
        number = os.open(f"/proc/self/fd/{descriptors[f'{BOARD}-{spare}']}", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it goes when the process does
        except BlockingIOError:
            os.close(number)
            continue
        return Board(number)
    raise RuntimeError("every board of this place is written on")


def version() -> str:
    """The program's, "" of a source tree that is not installed."""
    try:
        return metadata.version("langtrain-sidecar")
    except metadata.PackageNotFoundError:
        return ""
