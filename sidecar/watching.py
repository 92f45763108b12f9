"""What watches one relay: its board, its feed, its pulse, and the telemetry process that reads them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Final

from sidecar.config.addresses import TcpAddress
from sidecar.config.model import Config
from sidecar.errors import SettingError
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.details import Details
from sidecar.telemetry.feed import SpanFeed, pair
from sidecar.telemetry.meter import BoardMeter
from sidecar.telemetry.pulse import Gauge, Pulse, boot_clock
from sidecar.telemetry.settings import Seat, Settings

STOP_S: Final = 10.0  # for the telemetry process to send what it holds


class ProbesError(SettingError):
    """The probe listener cannot be opened."""


def wanted(config: Config) -> bool:
    """Whether anybody is told anything."""
    return bool(config.telemetry.otlp or config.telemetry.access_log.file != "off" or config.probes.address)


class Watch:
    """spans: where the relay's spans go.  meter: what it tells of calls and connections.

    known: whether the shape of the method at a path is known.  random: numbers in [0, 1), for sampling.
    Raises ProbesError.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        known: Callable[[str], bool],
        random: Callable[[], float],
    ) -> None:
        self._loop = loop
        listener = listen(config)
        ours, theirs = pair()
        boards = [os.memfd_create(name) for name in ("worker-0", "telemetry")]
        self.board = Board(boards[0])
        self.spans = SpanFeed(ours, self.board, loop.call_later)
        log = config.telemetry.access_log
        details = Details(None if log.file == "off" else log.sample, random)
        self.meter = BoardMeter(self.board, known, details)
        self._pulse: Pulse | None = None
        settings = Settings(
            workers=(Seat("worker-0", boards[0], theirs.fileno()),),
            others=(),
            board=boards[1],
            otlp=config.telemetry.otlp or "",
            service_name=config.telemetry.service_name,
            access_log=str(log.file),
            listener=-1 if listener is None else listener.fileno(),
            state=str(config.state.directory),
            min_free=config.probes.min_free,
            max_staleness_s=config.probes.max_staleness,
        )
        self._child = start(settings)
        theirs.close()
        if listener is not None:
            listener.close()

    def begin(self, config: Config, gauges: Mapping[Gauge, Callable[[], float]]) -> None:
        """The relay is up. gauges: as of Pulse."""
        board = self.board
        board.inform(metrics.CONFIG, (config.digest(),))
        board.inform(metrics.BUILD, (version(), sys.version.partition(" ")[0]))
        board.set(metrics.STARTED, time.time())
        self._pulse = Pulse(board, self._loop.call_later, time.monotonic, boot_clock, gauges, self.meter.publish)
        self._pulse.start()

    def end(self) -> None:
        """Send what is held, and end the telemetry process."""
        self.spans.close()
        if self._pulse is not None:
            self._pulse.stop()
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """The telemetry process, as a child that logs where and as much as we do."""
    isolated = ["-P"] if sys.flags.safe_path else []
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
    command = [sys.executable, *isolated, "-m", "sidecar.telemetry", settings.text(), level]
    return subprocess.Popen(command, pass_fds=settings.descriptors(), stdin=subprocess.DEVNULL)


def listen(config: Config) -> socket.socket | None:
    """The probes' socket, listening; None where they are not wanted. Raises ProbesError."""
    address = config.probes.address
    if not isinstance(address, TcpAddress):
        return None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.callback(opened.close)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(place)
            opened.listen()
            undo.pop_all()
    except OSError as error:
        raise ProbesError("probes.address", f"cannot listen on {address}: {error.strerror or error}") from None
    return opened


def version() -> str:
    """The program's, "" of a source tree that is not installed."""
    try:
        return metadata.version("langtrain-sidecar")
    except metadata.PackageNotFoundError:
        return ""
