"""A worker's end of the feed. Used on its event loop's thread."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from interceptors.contract import AnswerError
from sidecar.changes.said import ANSWER, ASK, BEAT, BEGIN, CHANGE, END, ENTRIES, Change
from sidecar.internal.marshalled import FrameError, Plain, Reader, frame
from sidecar.logs import Log

log = Log("changes")

Listener = Callable[[str, Any], None]  # a key, and its value or None
READ: Final = 256 << 10  # bytes
ANSWER_S: Final = 5.0
NEVER: Final = float("-inf")


class Follower:
    """Hears what is so. listeners: by topic, told of each entry that comes, changes or goes.

    What was heard stays while the publisher is away; `age` says how old it is.  clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], listeners: Mapping[str, Listener]
    ) -> None:
        self._so = NEVER  # when everything was known to be so
        self._clock = clock
        self.begun = asyncio.Event()  # everything has been told once
        self._loop = loop
        self._listeners = listeners
        self._entries: dict[tuple[str, str], Any] = {}
        self._told: dict[tuple[str, str], Any] | None = None  # what is so, while it is being told
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
        self._told = None
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
            for said in self._reader.feed(data):
                self._take(said)
        except BlockingIOError:
            return
        except OSError:
            self._detach()  # it has ended: another follows
        except Exception as error:
            # Whether by what was said or by who was told of it: what is known here is no longer sure, and ages.
            log.error("publisher_lost", error)
            self._detach()

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
                gone = [(*entry, None) for entry in self._entries if entry not in told]
                new = [(*entry, value) for entry, value in told.items() if self._entries.get(entry) != value]
                self._change(gone + new)
                self._sequence, self._so = sequence, at
                self.begun.set()
            case _:
                raise FrameError("a publisher says what it may not, or not now")

    def _change(self, changes: list[Change]) -> None:
        for topic, key, value in changes:
            if value is not None:
                self._entries[topic, key] = value
            elif self._entries.pop((topic, key), None) is None:
                continue
            listener = self._listeners.get(topic)
            if listener is not None:
                listener(key, value)
