"""The recorder process: takes events from every other process, and makes them durable in one file, each once."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path
from typing import Final

import uvloop

from sidecar.audit import frames
from sidecar.audit.ports import AuditError
from sidecar.audit.recorder_jsonl import JsonlRecorder, Pace
from sidecar.internal.marshalled import FrameError, Plain, Reader
from sidecar.logs import Log
from sidecar.processes.child import Birth, Control
from sidecar.processes.messages import Attach, Ready

log = Log("audit")

READ: Final = 256 << 10  # bytes
LOOK_S: Final = 0.05  # between looks at the state of the disk
LATE_S: Final = 5.0  # beyond the grace, for those who hand in what they have left
BLOCK: Final = 1 << 20  # bytes of the file read at a time
ORIGIN: Final = re.compile(rb'"process":"([^"\\]*)","sequence":([0-9]+)\}\n')


def main(birth: Birth) -> int:
    """settings: {"file": path, "boot": names this boot among all whose events are in the file}."""
    return uvloop.run(_run(birth))


async def _run(birth: Birth) -> int:
    settings = birth.start.settings
    desk = Desk(asyncio.get_running_loop(), Path(settings["file"]), settings["boot"])
    control = Control(asyncio.get_running_loop(), birth, {}, desk.attach, measure=desk.measure)
    control.send(Ready())
    await control.draining.wait()
    await desk.finish(control.grace + LATE_S)
    desk.close()
    return 0


class Desk:
    """Where others hand in. Raises AuditError where the file cannot be opened."""

    def __init__(self, loop: asyncio.AbstractEventLoop, file: Path, boot: str, pace: Pace | None = None) -> None:
        pace = pace or Pace()
        self._loop = loop
        self._boot = boot
        self._most = pace.capacity // 2  # events that wait, beyond which nothing more is read
        self._recorder = JsonlRecorder(file, loop.call_soon_threadsafe, pace=pace, durable=self._on_disk)
        self._numbers = last_numbers(file, 2 * pace.capacity)  # what was taken, by origin
        self._durable = dict(self._numbers)
        self._visitors: dict[str, Visitor] = {}
        self._full = False
        self._failed: str | None = None
        self._empty = asyncio.Event()
        self._looking = loop.call_later(LOOK_S, self._look)

    def attach(self, message: Attach, connection: socket.socket) -> None:
        origin = f"{self._boot}/{message.name}"
        visitor = self._visitors[origin] = Visitor(self, origin, connection)
        self._empty.clear()
        visitor.answer(self._durable.get(origin, 0), self._failed)
        if not self._full:
            visitor.read()

    def measure(self) -> tuple[int, int, dict[str, object]]:
        return len(self._visitors), 0, {"waiting": self._recorder.waiting, "failed": self._recorder.failed or ""}

    def take(self, origin: str, values: Plain) -> None:
        """A batch. What was taken before is not taken again."""
        first, hurry, events = frames.opened(values)
        known = self._numbers.get(origin, 0)
        last = first + len(events) - 1
        if last > known:
            new = max(first, known + 1)
            self._recorder.take(origin, new, events[new - first :], hurry)
            self._numbers[origin] = last
        if self._recorder.waiting >= self._most and not self._full:
            self._full = True
            for visitor in self._visitors.values():
                visitor.pause()

    def left(self, origin: str) -> None:
        visitor = self._visitors.pop(origin, None)
        if visitor is not None:
            visitor.close()
        if not self._visitors:
            self._empty.set()

    async def finish(self, within_s: float) -> None:
        """Wait until all have handed in their last and left."""
        if self._visitors:
            try:
                await asyncio.wait_for(self._empty.wait(), within_s)
            except TimeoutError:
                log.warning("audit_visitors_left", processes=sorted(self._visitors))

    def close(self) -> None:
        self._looking.cancel()
        self._recorder.close()
        for origin in list(self._visitors):
            self.left(origin)

    def _on_disk(self, numbers: dict[str, int]) -> None:
        self._durable |= numbers
        for origin, number in numbers.items():
            if visitor := self._visitors.get(origin):
                visitor.answer(number, self._failed)
        if self._full and self._recorder.waiting < self._most:
            self._full = False
            for visitor in list(self._visitors.values()):
                visitor.read()

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_S, self._look)
        if self._recorder.failed != self._failed:
            self._failed = self._recorder.failed
            for origin, visitor in list(self._visitors.items()):
                visitor.answer(self._durable.get(origin, 0), self._failed)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


class Visitor:
    """One process's connection."""

    def __init__(self, desk: Desk, origin: str, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._desk = desk
        self._origin = origin
        self._socket = connection
        self._reader = Reader()
        self._unsent = bytearray()

    def read(self) -> None:
        self._desk.loop.add_reader(self._socket.fileno(), self._readable)

    def pause(self) -> None:
        self._desk.loop.remove_reader(self._socket.fileno())

    def answer(self, durable: int, failed: str | None) -> None:
        self._unsent += frames.answer(durable, failed)
        self._write()

    def close(self) -> None:
        self._desk.loop.remove_reader(self._socket.fileno())
        self._desk.loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _write(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return  # it has ended; what it handed in before is still to be read
        if self._unsent:
            self._desk.loop.add_writer(self._socket.fileno(), self._write)
        else:
            self._desk.loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
            for values in self._reader.feed(data):
                self._desk.take(self._origin, values)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""  # it was killed with answers unread; what it had handed in was read before
        except (OSError, AuditError, FrameError) as error:
            log.error("audit_visitor_refused", error, origin=self._origin)
            data = b""
        if not data:
            self._desk.left(self._origin)


def last_numbers(file: Path, lines: int) -> dict[str, int]:
    """The number of the last event of each origin, among at least the last `lines` of the file, made durable first.

    What a recorder had written and not yet acknowledged when it was killed is among them, for it never has more
    than its queue holds.
    """
    with file.open("rb") as stream:
        os.fdatasync(stream.fileno())
        start = stream.seek(0, os.SEEK_END)
        tail = b""
        while start and tail.count(b"\n") <= lines:
            size = min(BLOCK, start)
            start -= size
            stream.seek(start)
            tail = stream.read(size) + tail
    return {found[1].decode(): int(found[2]) for found in ORIGIN.finditer(tail)}
