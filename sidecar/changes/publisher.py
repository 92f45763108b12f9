"""The services process's end of the feed. Used on its event loop's thread."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from sidecar.changes.said import ANSWER, ASK, BEAT, BEAT_S, CHANGE, Change, whole
from sidecar.internal.marshalled import FrameError, Plain, Reader, frame
from sidecar.logs import Log

log = Log("changes")

Answerer = Callable[[Any], Awaitable[None]]
READ: Final = 64 << 10  # bytes
MOST_UNSENT: Final = 4 << 20  # bytes that wait for one follower, who is told everything anew instead of more
MOST_ASKED: Final = 256  # questions of one follower that are open


class Publisher:
    """Holds all entries. answers: what followers may ask → who does it; what it raises is a fault to who asked.

    clock: seconds of CLOCK_BOOTTIME.  begun: whether what is here is all that is so; else followers wait for `begin`,
    and hear of nothing, not even that this process is there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        answers: Mapping[str, Answerer],
        begun: bool = True,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._answers = answers
        self._entries: dict[tuple[str, str], Any] = {}
        self._sequence = 0
        self._followers: set[_Follower] = set()
        self._begun = begun
        self._waiting: list[socket.socket] = []  # followers that have come before
        self._beating = loop.call_later(BEAT_S, self._beat)

    @property
    def sequence(self) -> int:
        """Of the last change."""
        return self._sequence

    def publish(self, *changes: Change) -> None:
        """Tell everybody, all at once. A value: plain; None takes the entry away.

        Raises ValueError for what cannot be told, and nothing has changed then.
        """
        told = frame((CHANGE, self._sequence + 1, self._clock(), list(changes)))
        self._sequence += 1
        for topic, key, value in changes:
            if value is None:
                self._entries.pop((topic, key), None)
            else:
                self._entries[topic, key] = value
        for follower in list(self._followers):
            follower.tell(told)

    def begin(self) -> None:
        """What is here is all that is so."""
        self._begun = True
        while self._waiting:
            self.attach(self._waiting.pop())

    def attach(self, connection: socket.socket) -> None:
        """A follower has come."""
        if not self._begun:
            self._waiting.append(connection)
            return
        follower = _Follower(self, self._loop, connection)
        self._followers.add(follower)
        follower.begin()

    def close(self) -> None:
        self._beating.cancel()
        for follower in list(self._followers):
            follower.close()
        while self._waiting:
            self._waiting.pop().close()

    def everything(self) -> Iterator[bytes]:
        """The frames of all that is so now."""
        entries = [(topic, key, value) for (topic, key), value in self._entries.items()]
        return whole(entries, self._sequence, self._clock())

    def left(self, follower: _Follower) -> None:
        self._followers.discard(follower)

    async def answer(self, what: str, argument: Any) -> str:
        """What came of a question: a fault, "" for none."""
        answerer = self._answers.get(what)
        if answerer is None:
            return "nobody answers that"
        try:
            await answerer(argument)
        except Exception as error:
            return type(error).__name__
        return ""

    def _beat(self) -> None:
        self._beating = self._loop.call_later(BEAT_S, self._beat)
        beat = frame((BEAT, self._sequence, self._clock()))
        for follower in list(self._followers):
            follower.tell(beat)


class _Follower:
    """One worker's connection."""

    def __init__(self, publisher: Publisher, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._publisher = publisher
        self._loop = loop
        self._socket = connection
        self._reader = Reader()
        self._said: deque[Iterator[bytes]] = deque()  # what it is to be told, in order
        self._head = memoryview(b"")  # what is left of the frame on its way
        self._waiting = 0  # bytes of changes, beside what is so
        self._behind = False  # changes were dropped: it gets everything, once it has read the rest
        self._asked: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        self._said.append(self._publisher.everything())
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._write()

    def tell(self, told: bytes) -> None:
        if self._behind:
            return
        if self._waiting + len(told) > MOST_UNSENT:
            self._behind = True
            log.warning("follower_behind", unsent=self._waiting)
            return
        self._waiting += len(told)
        self._said.append(self._once(told))
        self._write()

    def close(self) -> None:
        for task in self._asked:
            task.cancel()
        self._publisher.left(self)
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _once(self, told: bytes) -> Iterator[bytes]:
        self._waiting -= len(told)
        yield told

    def _next(self) -> bool:
        """Whether something is on its way."""
        while not self._head:
            if not self._said:
                if not self._behind:
                    return False
                self._behind = False
                self._said.append(self._publisher.everything())
            told = next(self._said[0], None)
            if told is None:
                self._said.popleft()
            else:
                self._head = memoryview(told)
        return True

    def _write(self) -> None:
        try:
            while self._next():
                self._head = self._head[self._socket.send(self._head) :]
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._write)
        except OSError:
            self.close()
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ)
            if not data:
                raise ConnectionResetError
            for asked in self._reader.feed(data):
                self._ask(asked)
        except BlockingIOError:
            return
        except OSError:
            self.close()
        except FrameError as error:
            log.error("follower_lost", error)
            self.close()

    def _ask(self, asked: Plain) -> None:
        """Raises FrameError for what no follower says."""
        match asked:
            case (kind, int(number), str(what), argument) if kind == ASK:
                if len(self._asked) >= MOST_ASKED:
                    self.tell(frame((ANSWER, number, "too many questions")))
                    return
                task = self._loop.create_task(self._answer(number, what, argument))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)
            case _:
                raise FrameError("a follower says what it may not")

    async def _answer(self, number: int, what: str, argument: Any) -> None:
        fault = await self._publisher.answer(what, argument)
        self.tell(frame((ANSWER, number, fault)))
