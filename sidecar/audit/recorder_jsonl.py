"""The Recorder whose sink is an fsynced file of JSON lines: one writer thread, group commit.

The loop's thread folds and queues; the writer thread formats all that waits, writes it with one write and
one fdatasync, and tells those who wait. Nothing is lost unnoticed: the queue holds `capacity` events and
`failed` is set on the loop's thread once three quarters are taken, so what comes after is only the ends of
calls that had begun; should even those overflow, they are counted and `audit.lost` says how many.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from interceptors.events import Durability, Event
from sidecar.audit.appendfile import AppendFile
from sidecar.audit.fold import Fold
from sidecar.audit.frames import plain
from sidecar.audit.lines import Lines
from sidecar.audit.ports import AuditError, CallSoon, Done
from sidecar.internal.marshalled import Plain
from sidecar.logs import Log

log = Log("audit")

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0
SWEEP_S = 1.0
CLOSED = "the audit recorder is closed"
Origin: TypeAlias = tuple[str, int]  # the process that handed an event in, and the event's number there
OWN: Final[Origin] = ("", 0)
Taken: TypeAlias = tuple[Plain, Done | None, Origin]


@dataclass(frozen=True, slots=True)
class Pace:
    """How events gather. interval_s: the longest that a batch event waits for others.

    many: events that are company enough.  group: the most events that one write takes; formatting costs about
    5 us each, during which the loop's thread may have to wait for the interpreter.  capacity: events that may
    wait.  close_s: the longest that `close` takes.
    """

    interval_s: float = 0.1
    many: int = 256
    group: int = 512
    capacity: int = 16_384
    close_s: float = 5.0


class JsonlRecorder:
    """Opens the file at once. Raises AuditError, as AppendFile does.

    call_soon: runs a function on the loop's thread, from any thread.  clock: Unix seconds.
    tick: monotonic seconds, for folding.  bits: n -> n random bits, for ids.  sync: as os.fdatasync.
    durable: told, on the loop's thread, up to which number each process's events have become durable.
    """

    def __init__(
        self,
        path: Path,
        call_soon: CallSoon,
        *,
        pace: Pace | None = None,
        fold: Fold | None = None,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
        bits: Callable[[int], int] | None = None,
        sync: Callable[[int], None] = os.fdatasync,
        durable: Callable[[dict[str, int]], None] | None = None,
    ) -> None:
        self._durable = durable
        self._file = AppendFile(path, sync)
        self._call_soon = call_soon
        self._pace = pace or Pace()
        self._fold = fold or Fold()
        self._clock = clock
        self._tick = tick
        self._lines = Lines(bits or Random().getrandbits)  # noqa: S311 - ids need to be unique, not secret
        self._high = self._pace.capacity * 3 // 4
        self._queue: deque[Taken] = deque()
        self._backlog: list[Taken] = []  # writer: taken from the queue, not durable yet
        self._wake = threading.Event()  # something waits
        self._hurry = threading.Event()  # do not wait for more
        self._closing = threading.Event()
        self._closed = False  # the loop's thread takes nothing more
        # Each counter has one thread that writes it; the other may see it late by one group.
        self._taken = 0  # loop: events that entered the queue
        self._lost = 0  # loop: events that found the queue full
        self._written = 0  # writer: events that are durable
        self._told = 0  # writer: of the lost, those that audit.lost has reported
        self._error: str | None = None  # writer
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        if self._file.removed:
            log.warning("audit_line_cut", file=str(path), bytes=self._file.removed)
            self.record(Event("audit.repaired", clock(), reason=f"torn last line of {self._file.removed} bytes"))

    @property
    def failed(self) -> str | None:
        if self._closed:
            return CLOSED
        if self._error is not None:
            return self._error
        if self.waiting >= self._high:
            return f"audit file {self._file.path}: {self.waiting} events wait for the disk"
        return None

    @property
    def waiting(self) -> int:
        """Events taken that are not on disk yet."""
        return self._taken - self._written

    def take(self, process: str, first: int, events: Sequence[Plain], hurry: bool) -> None:
        """Record another process's events, numbered from `first`, which `durable` tells of.

        hurry: somebody waits for them.
        """
        room = 0 if self._closed else max(0, self._pace.capacity - self.waiting)
        taken = events[:room]
        self._queue.extend([(event, None, (process, number)) for number, event in enumerate(taken, first)])
        self._taken += len(taken)
        self._lost += sum(event[-1] for event in events[room:])
        if taken:
            self._rouse(hurry)

    def record(self, event: Event, done: Done | None = None) -> None:
        """As Recorder.record; an event that someone waits for is never folded."""
        if self._closed:
            self._refuse(event, done, CLOSED)
            return
        if event.fold and done is None and event.durability is Durability.BATCH:
            for one in self._fold.add(event, self._tick()):
                self._put(one, None)
        else:
            self._put(event, done)

    def close(self) -> None:
        """As Recorder.close: takes at most `close_s`, and logs how many events could not be written."""
        if self._closed:
            return
        for event in self._fold.close():
            self._put(event, None)
        self._closed = True
        self._closing.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join(self._pace.close_s)
        if self._taken > self._written or self._lost > self._told:
            unwritten = self._taken - self._written + self._lost - self._told
            log.error("audit_events_unwritten", file=str(self._file.path), count=unwritten)

    def _put(self, event: Event, done: Done | None) -> None:
        if self.waiting >= self._pace.capacity:
            self._refuse(event, done, f"audit file {self._file.path}: {self.waiting} events wait for the disk")
            return
        if done is not None and self._error is not None:
            # Written later, should the disk recover, but nobody is to wait for that.
            self._tell((done,), AuditError(self._error))
            done = None
        self._queue.append((plain(event), done, OWN))
        self._taken += 1
        self._rouse(event.durability is Durability.COMMIT)

    def _rouse(self, hurry: bool) -> None:
        """The writer has something to do."""
        if (hurry or len(self._queue) >= self._pace.many) and not self._hurry.is_set():
            self._hurry.set()
        if not self._wake.is_set():
            self._wake.set()

    def _refuse(self, event: Event, done: Done | None, why: str) -> None:
        self._lost += event.count
        if done is not None:
            self._tell((done,), AuditError(why))

    def _sweep(self) -> None:
        """On the loop's thread: hand over the folded events whose window has ended."""
        if not self._closed:
            for event in self._fold.sweep(self._tick()):
                self._put(event, None)

    def _tell(self, dones: Sequence[Done], error: AuditError | None) -> None:
        """Call them on the loop's thread, later."""
        if dones:
            self._soon(functools.partial(call_all, dones, error))

    def _soon(self, function: Callable[[], None]) -> None:
        try:
            self._call_soon(function)
        except RuntimeError:
            log.debug("audit_loop_closed")  # nobody waits any more

    # What follows runs on the writer thread.

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except BaseException as error:
            self._error = f"the audit writer has stopped: {type(error).__name__}"
            log.error("audit_writer_stopped", error)
            # Who was let in while the error was being set must not wait for ever.
            self._tell(self._strip(), AuditError(self._error))
            while not self._closing.wait(LAST_RETRY_S):
                self._tell(self._strip(), AuditError(self._error))
        finally:
            self._file.close()

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            # While a window of folded events is open, look every second whether it has ended.
            if not self._wake.wait(SWEEP_S if len(self._fold) else None):
                self._soon(self._sweep)
                continue
            if not self._closing.is_set():
                self._hurry.wait(self._pace.interval_s)
            # Whoever sets these from here on has queued what the next round finds; whoever did before, this one.
            self._hurry.clear()
            self._wake.clear()
            closing = self._closing.is_set()
            end = self._written + len(self._queue) + len(self._backlog)
            while self._written < end:
                if not self._write_group():
                    return

    def _write_group(self) -> bool:
        """Make one group durable, however long that takes; False if closing ended it unwritten."""
        while self._queue and len(self._backlog) < self._pace.group:
            self._backlog.append(self._queue.popleft())
        group = self._backlog[: self._pace.group]
        now = self._clock()
        lost = self._lost - self._told
        lines = [self._line(event, now, origin) for event, _, origin in group]
        if lost:
            lines.append(self._line(plain(Event("audit.lost", now, reason="queue full", count=lost)), now, OWN))
        if not self._append("".join(lines).encode("ascii")):
            return False
        dones = [done for _, done, _ in self._backlog[: len(group)] if done is not None]
        del self._backlog[: len(group)]
        self._told += lost
        self._written += len(group)
        self._tell(dones, None)
        if self._durable is not None:
            self._soon(functools.partial(self._durable, dict(origin for _, _, origin in group)))
        return True

    def _append(self, data: bytes) -> bool:
        """Write `data`, again and again while the disk refuses; False if closing ended that."""
        delay = FIRST_RETRY_S
        while True:
            closing = self._closing.is_set()
            try:
                self._file.append(data)
            except AuditError as error:
                if self._error is None:
                    log.error("audit_write_failed", error)
                self._error = str(error)
                self._tell(self._strip(), error)
            else:
                if self._error is not None:
                    log.warning("audit_write_recovered", file=str(self._file.path))
                self._error = None
                return True
            if closing:
                return False
            self._closing.wait(delay)
            delay = min(delay * 2, LAST_RETRY_S)

    def _strip(self) -> list[Done]:
        """Who waits for any event that is not durable yet; from now on nobody does."""
        while self._queue:
            self._backlog.append(self._queue.popleft())
        dones = [done for _, done, _ in self._backlog if done is not None]
        self._backlog = [(event, None, origin) for event, _, origin in self._backlog]
        return dones

    def _line(self, event: Plain, now: float, origin: Origin) -> str:
        try:
            return self._lines.line(event, now, *origin)
        except (TypeError, ValueError) as error:
            # A link put something else into a field: say so, and keep the trail going.
            log.error("audit_event_malformed", error)
            malformed = Event("audit.malformed", now, reason=type(error).__name__)
            return self._lines.line(plain(malformed), now, *origin)


def call_all(dones: Sequence[Done], error: AuditError | None) -> None:
    for done in dones:
        try:
            done(error)
        except Exception as failure:
            log.error("audit_callback_failed", failure)
