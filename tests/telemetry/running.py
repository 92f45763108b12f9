"""The telemetry process as a worker has it: started, fed, asked over HTTP, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from sidecar.telemetry.board import Board
from sidecar.telemetry.feed import SpanFeed, pair
from sidecar.telemetry.pulse import boot_clock
from sidecar.telemetry.settings import Seat, Settings
from tests.processes import REPOSITORY
from tests.telemetry.boards import Slot, samples, slot


@dataclass
class Running:
    """worker: the place of the only worker, whose feed is `feed`.  own: the telemetry process's board."""

    child: subprocess.Popen[bytes]
    settings: Settings
    port: int
    worker: Slot
    own: Slot
    feed: SpanFeed

    def get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers={"Accept": "application/openmetrics-text"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    @property
    def serves(self) -> bool:
        return self.get("/metrics")[0] == 200

    def scrape(self) -> dict[str, float]:
        status, text = self.get("/metrics")
        assert status == 200
        return samples(text.encode())

    def restart(self) -> None:
        self.child.kill()
        self.child.wait()
        self.child = start(self.settings)

    def stop(self, within_s: float = 20.0) -> int:
        self.feed.close()
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(within_s)


def start(settings: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sidecar.telemetry", settings.text(), "info"]
    return subprocess.Popen(command, cwd=REPOSITORY, pass_fds=settings.descriptors())


@contextmanager
def running(state: Path, *, otlp: str = "", access_log: str = "off") -> Iterator[Running]:
    worker, own = slot(), slot()
    ours, theirs = pair()
    feed = SpanFeed(ours, worker.taken(), lambda seconds, run: None)
    Board(worker.fd).beat(boot_clock())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = Settings(
            workers=(Seat("worker-0", worker.fd, theirs.fileno()),),
            others=(),
            board=own.fd,
            otlp=otlp,
            service_name="sidecar-under-test",
            access_log=access_log,
            listener=listener.fileno(),
            state=str(state),
            min_free=0,
        )
        found = Running(start(settings), settings, listener.getsockname()[1], worker, own, feed)
        try:
            yield found
        finally:
            feed.close()
            theirs.close()
            found.child.kill()
            found.child.wait()
            for place in (worker, own):
                os.close(place.fd)
