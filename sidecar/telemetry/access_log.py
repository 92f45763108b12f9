"""The access log: one JSON line a call, never content, written by a thread of the telemetry process.

Files are appended to in whole lines and may be rotated by renaming: the writer looks before each batch whether its
file still stands at the path, and opens it anew where it does not, or when told to.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import Final

from interceptors.contract import Code
from sidecar.logs import Log
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.feed import Plain
from sidecar.telemetry.ring import Ring

log = Log("access_log")
NAMES: Final = {int(code): code.name for code in Code}
CAPACITY: Final = 8192  # lines that may wait
MOST_KNOWN: Final = 256  # pieces of lines that are kept
BATCH: Final = 512  # lines in one write
INTERVAL_S: Final = 0.5  # the longest that a line waits for others
CLOSE_S: Final = 3.0  # the longest that closing takes
QUEUE_FULL: Final = ("queue_full",)
UNWRITTEN: Final = ("write",)
FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Lines:
    """Formats calls, one at a time. Times are UTC and seconds; -1 where the call never reached the model server."""

    __slots__ = ("_date", "_known", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self._known: dict[tuple[str, int, str, str, str], str] = {}

    def line(self, fact: Plain) -> str:
        """The call as JSON and a newline. fact: one that has its detail."""
        trace_id, _, _, name, start, end, status, principal, model, decision, detail = fact
        source, requests, responses, request_bytes, response_bytes, chain_s, upstream_s, _, _ = detail
        said = (name, status, decision, principal, model)
        second, micro = divmod(round(end * 1_000_000), 1_000_000)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return (
            f'{{"time":"{self._date}.{micro // 1000:03d}+00:00",{self._known.get(said) or self._say(said)},'
            f'"trace_id":{quoted(trace_id)},"seconds":{end - start:.6f},"source":{quoted(source)},'
            f'"requests":{requests:d},"responses":{responses:d},'
            f'"request_bytes":{request_bytes:d},"response_bytes":{response_bytes:d},'
            f'"chain_seconds":{chain_s:.6f},"upstream_seconds":{upstream_s:.6f}}}\n'
        )

    def _say(self, said: tuple[str, int, str, str, str]) -> str:
        """What, who and how it ended, as JSON: the same for many calls, so it is kept."""
        name, status, decision, principal, model = said
        text = (
            f'"method":{quoted(name)},"status":"{NAMES.get(status, str(status))}","decision":{quoted(decision)},'
            f'"principal":{quoted(principal)},"model":{quoted(model)}'
        )
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[said] = text
        return text


def quoted(text: str) -> str:
    """As JSON in ASCII, which escapes everything that a terminal might act on, except DEL."""
    return quote(text).replace("\x7f", "\\u007f")


class LineFile:
    """A file that is appended to, wherever its path leads just now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._torn = False  # the last line is not whole

    def write(self, data: bytes) -> None:
        """Append whole lines. Raises OSError where not all of them could be written."""
        if not self._stands():
            self.close()
            self._fd = os.open(self._path, FLAGS, 0o640)
            self._torn = False
        if self._torn:
            data = b"\n" + data
        self._torn = True
        write_all(self._fd, data)
        self._torn = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _stands(self) -> bool:
        if self._fd < 0:
            return False
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


class Stderr:
    """The program's standard error, shared with its log: whole lines of both."""

    def write(self, data: bytes) -> None:
        write_all(2, data)

    def close(self) -> None:
        """Leaves it open."""


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class AccessLog:
    """path: the file, None for stderr.  board: where lines are counted, the process's own."""

    def __init__(self, path: Path | None, board: Board, capacity: int = CAPACITY) -> None:
        self._out = Stderr() if path is None else LineFile(path)
        self._lines = Lines()
        self._board = board
        for why in (QUEUE_FULL, UNWRITTEN):
            board.row(metrics.LINES_DROPPED, why)  # both threads count, and only one may make rows
        self._ring: Ring[Plain] = Ring(capacity)
        self._failing = False
        self._reopen = False
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def offer(self, facts: Sequence[Plain]) -> None:
        """Take calls, or count as dropped those for which there is no room. Never blocks."""
        dropped = len(facts) if self._closing else self._ring.put(facts)
        if dropped:
            self._board.count(metrics.LINES_DROPPED, QUEUE_FULL, dropped)
        if len(self._ring) >= BATCH and not self._wake.is_set():
            self._wake.set()

    def reopen(self) -> None:
        """Open the file anew before the next line, as after SIGHUP."""
        self._reopen = True
        self._wake.set()

    def close(self) -> None:
        """Write what is held, within a bounded time."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                self._out.close()
            while facts := self._ring.take(BATCH):
                self._write(facts)
            if self._closing:
                self._out.close()
                return

    def _write(self, facts: Sequence[Plain]) -> None:
        lines = [text for fact in facts if (text := self._line(fact))]
        try:
            self._out.write("".join(lines).encode("ascii"))
        except OSError as error:
            self._board.count(metrics.LINES_DROPPED, UNWRITTEN, len(lines))
            if not self._failing:
                log.error("access_log_unwritten", detail=error.strerror or str(error))
            self._failing = True
        else:
            self._board.count(metrics.LINES_WRITTEN, by=len(lines))
            self._failing = False

    def _line(self, fact: Plain) -> str:
        try:
            return self._lines.line(fact)
        except (TypeError, ValueError) as error:
            # A link put something else into a field: its call has no line, and all others have theirs.
            self._board.count(metrics.LINES_DROPPED, UNWRITTEN)
            log.error("access_log_malformed", error)
            return ""
