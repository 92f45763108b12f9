"""The telemetry process as a worker has it: started, fed, asked over HTTP, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from sidecar.processes.channel import Channel
from sidecar.processes.messages import Drain, Start
from sidecar.telemetry.board import Board
from sidecar.telemetry.feed import SpanFeed
from sidecar.telemetry.pulse import boot_clock
from sidecar.telemetry.settings import BOARD, FEED, Seats, Settings
from tests.telemetry.boards import Slot, samples

NAME = "telemetry-0.1"
MAIN = """
import socket, sys
sys.path[:] = sys.argv[2:]
from sidecar.processes.child import main
main(socket.socket(fileno=int(sys.argv[1])))
"""


class Child:
    """The process, and the supervisor's end of its control channel."""

    def __init__(self, settings: Settings, descriptors: Mapping[str, int]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-c", MAIN, str(theirs.fileno()), *sys.path]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._channel = Channel(ours)
        start = Start("telemetry", 0, NAME, "", "info", "", 1, settings.plain(), list(descriptors))
        self._channel.send(start, list(descriptors.values()))

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def drain(self) -> None:
        self._channel.send(Drain(5.0, True))

    def wait(self) -> int:
        status = self._process.wait()
        self._channel.close()
        return status


@dataclass
class Running:
    """worker: the place of the only worker, whose feed is `feed`.  own: the telemetry process's board."""

    child: Child
    settings: Settings
    descriptors: Mapping[str, int]
    port: int
    worker: Slot
    own: Slot
    feed: SpanFeed
    ended: bool = False

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
        self.child = Child(self.settings, self.descriptors)

    def stop(self) -> int:
        self.feed.close()
        self.child.drain()
        self.ended = True
        return self.child.wait()


@contextmanager
def running(state: Path, *, otlp: str = "", access_log: str = "off") -> Iterator[Running]:
    seats = Seats(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place, descriptors = seats.worker(0), seats.telemetry(listener.fileno())
        worker, own = Slot(place[f"{BOARD}-a"]), Slot(descriptors[BOARD])
        feed = SpanFeed(socket.socket(fileno=os.dup(place[FEED])), worker.taken(), lambda seconds, run: None)
        Board(worker.fd).beat(boot_clock())
        settings = Settings(1, otlp, "sidecar-under-test", access_log, str(state), 0)
        child = Child(settings, descriptors)
        found = Running(child, settings, descriptors, listener.getsockname()[1], worker, own, feed)
        try:
            yield found
        finally:
            feed.close()
            if not found.ended:
                found.child.kill()
            seats.close()
