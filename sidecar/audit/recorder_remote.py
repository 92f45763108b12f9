"""The Recorder of a process that is not the recorder: hands events to it, and keeps each until it is durable.

The recorder may end and come back: what it has not acknowledged is handed in again, with the same numbers, by which it
knows what it has. `failed` closes the gate while it is away, does not answer, or has too much to do, and opens it when
it has everything.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from interceptors.events import Durability, Event
from sidecar.audit import frames
from sidecar.audit.fold import Fold
from sidecar.audit.frames import plain
from sidecar.audit.ports import AuditError, Done
from sidecar.audit.recorder_jsonl import CLOSED, call_all
from sidecar.internal.marshalled import FrameError, Plain, Reader
from sidecar.logs import Log

log = Log("audit")

READ: Final = 64 << 10  # bytes
AWAY: Final = "the audit recorder is not running"
RETURNING: Final = "the audit recorder has just begun, and is handed what it has not acknowledged"
COMMIT: Final = Durability.COMMIT  # bound once: looking a member up on its Enum costs more than what is done with it


@dataclass(frozen=True, slots=True)
class Pace:
    """interval_s: the longest that a batch event waits for others.  many: events that are company enough.

    capacity: events that may wait to be durable.  stall_s: the longest that one may.  look_s: between looks at that.
    close_s: the longest that `close` takes.
    """

    interval_s: float = 0.02
    many: int = 256
    capacity: int = 16_384
    stall_s: float = 5.0
    look_s: float = 0.25
    close_s: float = 5.0


class RemoteRecorder:
    """Until `attach`, nothing can be recorded durably, and `failed` says so.  clock: Unix seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        pace: Pace | None = None,
        fold: Fold | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failed: str | None = AWAY
        self._loop = loop
        self._pace = pace or Pace()
        self._fold = fold or Fold()
        self._clock = clock
        self._high = self._pace.capacity * 3 // 4
        self._capacity = self._pace.capacity
        self._many = self._pace.many
        self._socket: socket.socket | None = None
        self._reader = Reader()
        self._sequence = 0  # of the last event that was taken
        self._free = 0  # up to which number a batch event needs no look at what waits
        self._durable = 0
        self._owed = 0  # up to which number a recorder that has just begun is behind
        self._batch: list[Plain] = []
        self._hurry = False  # somebody waits for an event of the batch, which leaves with this turn of the loop
        self._flushing: asyncio.Handle | None = None
        self._unacknowledged: deque[tuple[int, float, bytes]] = deque()  # last number, when it was framed, frame
        self._unsent: deque[memoryview] = deque()
        self._waiting: deque[tuple[int, Done]] = deque()
        self._said: str | None = None  # by the recorder, of its disk
        self._stalled = False
        self._lost = 0
        self._began = False  # the gate has been open
        self._closed = False
        self._looking = loop.call_later(self._pace.look_s, self._look)

    def attach(self, connection: socket.socket) -> None:
        """A connection to the recorder, or to the one that follows it; closed at once where `close` was called."""
        if self._closed:
            connection.close()
            return
        self._detach()
        connection.setblocking(False)
        self._socket, self._reader, self._said = connection, Reader(), None
        self._owed = self._sequence - len(self._batch)
        self._unsent.extend(memoryview(frame) for _, _, frame in self._unacknowledged)
        self._loop.add_reader(connection.fileno(), self._readable)
        self._judge()
        self._write()

    def record(self, event: Event, done: Done | None = None) -> None:
        """As Recorder.record; alike refusals of the unknown are folded here, before they are numbered."""
        if done is None and event.durability is not COMMIT:
            if event.fold:
                for one in self._fold.add(event, self._loop.time()):
                    self._put(one, None)
                return
            if self._flushing is not None and self._sequence < self._free:
                # The straight path, for the event that almost every one is.
                self._sequence += 1
                self._batch.append(plain(event))
                return
        self._put(event, done)

    @property
    def waiting(self) -> int:
        """Events taken that are not on disk yet."""
        return self._sequence - self._durable

    def close(self) -> None:
        """As Recorder.close."""
        if self._closed:
            return
        for event in self._fold.close():
            self._put(event, None)
        self._flush()
        self._closed, self.failed = True, CLOSED
        self._looking.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._finish(self._socket)
            self._socket.close()
        if self._durable < self._sequence or self._lost:
            log.error("audit_events_unwritten", count=self._sequence - self._durable + self._lost)

    def _finish(self, connection: socket.socket) -> None:
        """Hand in what is left and wait until it is durable, for a bounded time."""
        until = time.monotonic() + self._pace.close_s
        try:
            while self._durable < self._sequence and (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                if self._unsent:
                    connection.sendall(self._unsent.popleft())
                elif data := connection.recv(READ):
                    self._take(data)
                else:
                    return
        except (OSError, AuditError, FrameError):
            return

    def _put(self, event: Event, done: Done | None) -> None:
        waiting = self._sequence - self._durable
        if waiting >= self._capacity or self._closed:
            self._lost += event.count
            if done is not None:
                self._tell([done], CLOSED if self._closed else f"{waiting} events wait for the audit recorder")
            return
        self._sequence += 1
        self._batch.append(plain(event))
        if done is not None or event.durability is COMMIT:
            if done is not None:
                if self._stalled or self._said is not None:
                    self._tell([done], self.failed or AWAY)  # written later, perhaps, but nobody is to wait for that
                else:
                    self._waiting.append((self._sequence, done))
            if not self._hurry:
                self._hurry = True
                self._flush_soon(0.0)
        elif self._flushing is None:
            self._flush_soon(self._pace.interval_s)
        elif len(self._batch) >= self._many and not self._hurry:
            self._flush_soon(0.0)
        if waiting + 1 >= self._high:
            self._judge()
        room = min(self._many - len(self._batch) - 1, self._high - waiting - 2)
        self._free = self._sequence + max(0, room)

    def _flush_soon(self, seconds: float) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        loop = self._loop
        self._flushing = loop.call_later(seconds, self._flush) if seconds else loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand the batch over."""
        if self._flushing is not None:
            self._flushing.cancel()
        self._flushing, self._free = None, 0
        if not self._batch:
            return
        first, batch, hurry = self._sequence - len(self._batch) + 1, self._batch, self._hurry
        self._batch, self._hurry = [], False
        try:
            frame = frames.batch(first, hurry, batch)
        except ValueError:
            frame = frames.batch(first, hurry, [self._sound(each) for each in batch])
        self._unacknowledged.append((self._sequence, self._loop.time(), frame))
        if self._socket is not None:
            self._unsent.append(memoryview(frame))
            self._write()

    def _sound(self, values: Plain) -> Plain:
        """An event's values; where a link put something else into one, an event that says so."""
        try:
            frames.batch(0, False, [values])
        except ValueError as error:
            log.error("audit_event_malformed", error)
            malformed = Event("audit.malformed", self._clock(), reason=type(error).__name__)
            return plain(malformed)
        return values

    def _write(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            while self._unsent:
                frame = self._unsent[0]
                sent = connection.send(frame)
                if sent < len(frame):
                    self._unsent[0] = frame[sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(connection.fileno(), self._write)
            return
        except OSError:
            self._leave()
            return
        self._loop.remove_writer(connection.fileno())

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ)
            if data:
                self._take(data)
                self._judge()
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # it was killed: another follows
        except (AuditError, FrameError) as error:
            log.error("audit_recorder_lost", error)
        self._leave()

    def _take(self, data: bytes) -> None:
        """What the recorder says. Raises AuditError for what it would not."""
        for values in self._reader.feed(data):
            durable, failed = values
            if failed != self._said:
                self._said = failed
                if failed is not None:
                    self._fail_waiting(failed)
            if not durable <= self._sequence:
                raise AuditError("the audit recorder acknowledges what it was not given")
            self._durable = max(self._durable, durable)
        unacknowledged, waiting, done = self._unacknowledged, self._waiting, list[Done]()
        while unacknowledged and unacknowledged[0][0] <= self._durable:
            unacknowledged.popleft()
        while waiting and waiting[0][0] <= self._durable:
            done.append(waiting.popleft()[1])
        if done:
            call_all(done, None)

    def _leave(self) -> None:
        """The recorder is gone."""
        self._detach()
        self._judge()

    def _detach(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
            connection.close()
        self._unsent.clear()

    def _look(self) -> None:
        self._looking = self._loop.call_later(self._pace.look_s, self._look)
        for event in self._fold.sweep(self._loop.time()):
            self._put(event, None)
        self._judge()
        if self._lost and self.failed is None:
            lost, self._lost = self._lost, 0
            self._put(Event("audit.lost", self._clock(), reason="queue full", count=lost), None)

    def _judge(self) -> None:
        """Whether calls may begin."""
        now, waiting = self._loop.time(), self._sequence - self._durable
        oldest = self._unacknowledged[0][1] if self._unacknowledged else now
        self._stalled = now - oldest >= self._pace.stall_s
        before = self.failed
        if self._socket is None:
            self.failed = AWAY
        elif self._durable < self._owed:
            self.failed = RETURNING
        elif self._said is not None:
            self.failed = self._said
        elif waiting >= self._high:
            self.failed = f"{waiting} events wait for the audit recorder"
        else:
            self.failed = "the audit recorder does not answer" if self._stalled else None
        if self._stalled:
            self._fail_waiting(self.failed or AWAY)
        if (self.failed is None) != (before is None):
            if self._began:
                log.warning("audit_gate", open=self.failed is None, detail=self.failed or "")
            self._began = True

    def _fail_waiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._tell([done for _, done in waiting], why)

    def _tell(self, dones: list[Done], why: str) -> None:
        if dones:
            self._loop.call_soon(partial(call_all, dones, AuditError(why)))
