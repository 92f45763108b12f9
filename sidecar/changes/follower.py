"""A worker's end of the feed. Used on its event loop's thread.

Everything that is so may be a hundred thousand entries: they are told in slices, so that no call waits for more than
one. What comes behind them waits in the socket meanwhile, and what is known here ages.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from interceptors.contract import AnswerError
from sidecar.changes.said import ANSWER, ASK, BEAT, BEGIN, CHANGE, END, ENTRIES, Change
from sidecar.internal.marshalled import FrameError, Plain, Reader, frame
from sidecar.logs import Log

log = Log("changes")

Listener = Callable[[str, Any], None]  # a key, and its value or None
READ: Final = 256 << 10  # bytes
ANSWER_S: Final = 5.0
SLICE_S: Final = 0.001
NEVER: Final = float("-inf")


class Follower:
    """Hears what is so. listeners: by topic, told of each entry that comes, changes or goes.

    marks: topics whose entries say of others that they are all told: they go before everything is told anew, and come
    once it is, so that nobody takes a part of it for the whole.
    What was heard stays while the publisher is away; `age` says how old it is.  clock: seconds of CLOCK_BOOTTIME.
    timer: seconds, for slices.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        listeners: Mapping[str, Listener],
        marks: Collection[str] = (),
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._so = NEVER  # when everything was known to be so
        self._clock = clock
        self.begun = asyncio.Event()  # everything has been told once
        self._loop = loop
        self._listeners = listeners
        self._marks = frozenset(marks)
        self._timer = timer
        self._entries: dict[tuple[str, str], Any] = {}
        self._marked: dict[tuple[str, str], Any] = {}  # entries that are marks
        self._told: dict[tuple[str, str], Any] | None = None  # what is so, while it is being told
        self._telling: Iterator[Change | None] | None = None  # what listeners have yet to be told of that
        self._said: deque[Plain] = deque()  # frames that wait for it
        self._sequence = 0
        self._socket: socket.socket | None = None
        self._reader = Reader()
        self._unsent: deque[memoryview] = deque()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[str]] = {}

    def attach(self, connection: socket.socket) -> None:
        """A connection to the publisher, or to the one that follows it."""
        self._detach()
        connection.setblocking(False)
        self._socket, self._reader = connection, Reader()
        self._loop.add_reader(connection.fileno(), self._readable)

    def age(self) -> float:
        """Seconds since everything that is known here was known to be so."""
        return self._clock() - self._so

    async def ask(self, what: str, argument: Any) -> None:
        """Returns once what came of it has been told here. Raises AnswerError."""
        if self._socket is None:
            raise AnswerError("the services process is not running")
        number, answered = next(self._numbers), self._loop.create_future()
        self._asked[number] = answered
        self._unsent.append(memoryview(frame((ASK, number, what, argument))))
        self._write()
        try:
            fault = await asyncio.wait_for(answered, ANSWER_S)
        except TimeoutError:
            raise AnswerError(f"no answer within {ANSWER_S:g} s") from None
        finally:
            self._asked.pop(number, None)
        if fault:
            raise AnswerError(fault)

    def close(self) -> None:
        self._detach()

    def _detach(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
            connection.close()
        self._unsent.clear()
        self._said.clear()
        self._told = self._telling = None
        for answered in self._asked.values():
            if not answered.done():
                answered.set_result("the services process has gone")

    def _write(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            while self._unsent:
                sent = connection.send(self._unsent[0])
                if sent == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            self._loop.add_writer(connection.fileno(), self._write)
        except OSError:
            self._detach()
        else:
            self._loop.remove_writer(connection.fileno())

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ)
            if not data:
                raise ConnectionResetError
            self._said += self._reader.feed(data)
            self._take_all()
        except BlockingIOError:
            return
        except OSError:
            self._detach()  # it has ended: another follows
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Whether by what was said or by who was told of it: what is known here is no longer sure, and ages."""
        log.error("publisher_lost", error)
        self._detach()

    def _take_all(self) -> None:
        while self._said and self._telling is None:
            self._take(self._said.popleft())

    def _take(self, said: Plain) -> None:
        """Raises FrameError for what no publisher says."""
        match said:
            case (kind, int(sequence), float(at)) if kind == BEAT and self._told is None and sequence == self._sequence:
                self._so = at
            case (kind, int(sequence), float(at), list(changes)) if kind == CHANGE and sequence == self._sequence + 1:
                self._change(changes)
                self._sequence, self._so = sequence, at
            case (kind, int(number), str(fault)) if kind == ANSWER:
                answered = self._asked.get(number)
                if answered is not None and not answered.done():
                    answered.set_result(fault)
            case (kind,) if kind == BEGIN:
                self._told = {}
            case (kind, list(changes)) if kind == ENTRIES and self._told is not None:
                self._told.update({(topic, key): value for topic, key, value in changes})
            case (kind, int(sequence), float(at)) if kind == END and self._told is not None:
                told, self._told = self._told, None
                self._telling = self._anew(told)
                self._tell_slice(self._telling, sequence, at)
            case _:
                raise FrameError("a publisher says what it may not, or not now")

    def _anew(self, told: dict[tuple[str, str], Any]) -> Iterator[Change | None]:
        """What is another than it was, in the order in which it is to be told; None for each entry that is not."""
        for topic, key in list(self._marked):
            yield topic, key, None
        for topic, key in list(self._entries):
            yield None if (topic, key) in told else (topic, key, None)
        for (topic, key), value in told.items():
            mark = topic in self._marks
            yield None if mark or self._entries.get((topic, key)) == value else (topic, key, value)
        for (topic, key), value in told.items():
            yield (topic, key, value) if topic in self._marks else None

    def _tell_slice(self, telling: Iterator[Change | None], sequence: int, at: float) -> None:
        """sequence, at: of everything, once it is told."""
        until = self._timer() + SLICE_S
        for change in telling:
            if change is not None:
                self._change([change])
            if self._timer() >= until:
                assert self._socket is not None
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_soon(self._go_on, telling, sequence, at)
                return
        self._telling = None
        self._sequence, self._so = sequence, at
        self.begun.set()

    def _go_on(self, telling: Iterator[Change | None], sequence: int, at: float) -> None:
        if telling is not self._telling or self._socket is None:
            return  # that publisher has been left
        try:
            self._tell_slice(telling, sequence, at)
            if self._telling is None:
                self._loop.add_reader(self._socket.fileno(), self._readable)
                self._take_all()
        except Exception as error:
            self._lose(error)

    def _change(self, changes: list[Change]) -> None:
        for topic, key, value in changes:
            entries = self._marked if topic in self._marks else self._entries
            if value is not None:
                entries[topic, key] = value
            elif entries.pop((topic, key), None) is None:
                continue
            listener = self._listeners.get(topic)
            if listener is not None:
                listener(key, value)
