"""An event loop that a test turns by hand, with a clock it sets, and transports in memory.

Enough of asyncio for the relay's own code, tasks and timeouts included; there is no socket, no thread, no waiting.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

MOST_TURNS = 100_000


class HandTurned:
    """A loop, by duck typing. `turn` runs what is ready now; `advance` moves the clock, timers firing on its way."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._errors: list[BaseException] = []
        # What create_connection does with a protocol: makes its transport, or raises OSError.
        self.connector: Callable[[asyncio.Protocol], asyncio.Transport] | None = None

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, cast(Any, self), context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, cast(Any, self), context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by a TimerHandle; it is skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def run_in_executor(self, executor: None, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Runs `work` in a later turn."""
        future = self.create_future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        self.call_soon(run)
        return future

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=cast(Any, self), name=name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._errors.append(context.get("exception") or RuntimeError(context["message"]))

    async def create_connection(self, factory: Any, *args: Any, **options: Any) -> Any:
        assert self.connector is not None
        protocol = factory()
        return self.connector(protocol), protocol

    async def create_unix_connection(self, factory: Any, *args: Any, **options: Any) -> Any:
        return await self.create_connection(factory)

    def turn(self) -> bool:
        """Run what is ready, and what becomes ready by that; whether there was anything. Raises what it raised."""
        ran = 0
        events._set_running_loop(cast(Any, self))
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                ran += 1
                assert ran < MOST_TURNS, "the loop does not come to rest"
        finally:
            events._set_running_loop(None)
        if self._errors:
            raise self._errors.pop()
        return ran > 0

    def due(self) -> float | None:
        """When the next timer fires."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self, until: float) -> bool:
        """Move to the next timer and make it ready; False, at `until`, where none is due by then."""
        due = self.due()
        if due is None or due > until:
            self.now = max(self.now, until)
            return False
        self.now = max(self.now, due)
        self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a coroutine; it goes on as the loop is turned."""
        return self.create_task(work)


class Transport(asyncio.Transport):
    """One end of a connection in memory: `wrote` is what the protocol has written and nobody has taken."""

    def __init__(
        self, loop: HandTurned, protocol: asyncio.Protocol, peer: tuple[str, int] = ("192.0.2.1", 5000)
    ) -> None:
        super().__init__({"peername": peer})
        self._loop = loop
        self._protocol = protocol
        self.wrote = bytearray()
        self.closed = False  # by our side
        self.ended = False  # by our side, which still hears the other
        self.stuck = False  # the other end reads nothing: what is written never leaves
        self._lost = False
        self.reading = True
        self._unread = b""
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self._lost, "written after connection_lost"
        assert not self.ended, "written after write_eof"
        if not self.closed:
            self.wrote += data

    def take(self) -> bytes:
        if self.stuck:
            return b""
        data = bytes(self.wrote)
        self.wrote.clear()
        return data

    def feed(self, data: bytes) -> None:
        """Bytes from the other end."""
        self._unread += data
        self._deliver()

    def _deliver(self) -> None:
        if self.reading and self._unread and not self.closed:
            data, self._unread = self._unread, b""
            self._protocol.data_received(data)

    def get_write_buffer_size(self) -> int:
        return len(self.wrote)

    def write_eof(self) -> None:
        self.ended = True

    def eof(self) -> None:
        """The other end has closed its side."""
        if not self.closed and not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not (self.stuck and self.wrote):
                self._loop.call_soon(self._drop, None)

    def abort(self) -> None:
        self.wrote.clear()
        self.closed = True
        self._loop.call_soon(self._drop, None)

    def cut(self, error: Exception | None = None) -> None:
        """The other end is gone."""
        if not self.closed:
            self.closed = True
            self._drop(error)

    def _drop(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(error)

    def pause(self) -> None:
        """The other end does not read: what has been written is above the high-water mark."""
        self._protocol.pause_writing()

    def resume(self) -> None:
        self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass
