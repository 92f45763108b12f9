"""Callers that never pause: unary calls at a fixed rate, streams that stay open, and calls on fresh connections.

An open loop: a call begins when it is due, whether or not others have been answered. All run on an event loop in a
thread of its own, so that what is measured can be set off meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from bench.harness.echo_server import STREAM, UNARY
from bench.harness.errors import BenchError

TICK_S = 0.01
MESSAGE_S = 1.0  # between the messages of a stream
FRESH_S = 0.2  # between calls on fresh connections
AGAIN_S = 0.5  # until a stream that was lost is opened again
LIMIT_S = 20.0  # of a unary call
MOST_OPEN = 500  # unary calls; those beyond are not begun, and counted
MESSAGE = b"x" * 100


@dataclass(frozen=True, slots=True)
class Failure:
    """begun, at: seconds on the monotonic clock.  by: as of `Callers.seen`; "" where no answer came before."""

    kind: str  # "unary", "stream", "fresh"
    code: str
    detail: str
    begun: float
    at: float
    by: str


class Callers:
    """seen: whose connection answered (as the model server says) → when last."""

    def __init__(self, address: str, credentials: Any, rate: float, streams: int, connections: int = 20) -> None:
        self.calls = self.echoes = self.fresh = self.unbegun = self.finished = 0
        self.failures: list[Failure] = []
        self.seen: dict[str, float] = {}
        self.began = 0.0
        self._address, self._credentials = address, credentials
        self._rate, self._streams, self._connections = rate, streams, connections
        self._open = 0
        self._latest: dict[Any, str] = {}  # by channel
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Callers:
        self._thread.start()
        self.wait(lambda: self.echoes >= self._streams and self.calls >= self._connections, "begin", 60.0)
        self.began, self.calls, self.unbegun = time.monotonic(), 0, 0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish()

    def finish(self) -> None:
        """End streams as their client does, and wait for every open call."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60.0)

    def rate(self) -> float:
        """Unary calls answered each second since all streams were open."""
        return self.calls / (time.monotonic() - self.began)

    def wait(self, holds: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
        """Return once `holds`. Raises BenchError when the time passes first."""
        until = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > until:
                raise BenchError(f"callers did not {what} within {within_s:g} s; failures: {self.failures[-3:]}")
            time.sleep(TICK_S)

    def more(self, count: int) -> None:
        """Return once so many further calls were answered."""
        until = self.calls + count
        self.wait(lambda: self.calls >= until, f"get {count} answers", 60.0)

    # --- on the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._loop.run_until_complete(self._all())

    async def _all(self) -> None:
        self._stop = asyncio.Event()
        channels = [self._channel() for _ in range(self._connections)]
        for number in range(self._streams):
            self._begin(self._keep_stream(channels[number % len(channels)]))
        self._begin(self._keep_fresh())
        await self._keep_rate(channels)
        await asyncio.gather(*self._tasks)
        for channel in channels:
            await channel.close()

    def _channel(self) -> Any:
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        # Back soon when a connection was lost: what is counted is calls, not a client's patience.
        options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        return grpc.aio.secure_channel(self._address, self._credentials, options)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_rate(self, channels: list[Any]) -> None:
        due, number = time.monotonic(), 0
        while not self._stop.is_set():
            while (due := due + 1 / self._rate) <= time.monotonic():
                number += 1
                if self._open >= MOST_OPEN:
                    self.unbegun += 1
                else:
                    self._begin(self._call("unary", channels[number % len(channels)]))
            due -= 1 / self._rate
            await asyncio.sleep(TICK_S)

    async def _call(self, kind: str, channel: Any) -> None:
        # As of now: by the time that it fails, its channel may have a connection to another worker.
        begun, by = time.monotonic(), self._latest.get(channel, "")
        self._open += 1
        try:
            self._answered(channel, await channel.unary_unary(UNARY)(MESSAGE, timeout=LIMIT_S))
            self.calls += kind == "unary"
            self.fresh += kind == "fresh"
        except grpc.aio.AioRpcError as error:
            self._failed(kind, by, error, begun)
        finally:
            self._open -= 1

    async def _keep_fresh(self) -> None:
        while not self._stop.is_set():
            channel = self._channel()
            await self._call("fresh", channel)
            await channel.close()
            self._latest.pop(channel, None)
            await self._pause(FRESH_S)

    async def _keep_stream(self, channel: Any) -> None:
        """Open, and open again when it is lost."""
        while not self._stop.is_set():
            begun, by = time.monotonic(), ""
            stream = channel.stream_stream(STREAM)()
            try:
                while not self._stop.is_set():
                    await stream.write(MESSAGE)
                    answer = await stream.read()
                    if answer is grpc.aio.EOF:
                        raise BenchError("a stream ended with status OK before its client did")
                    by = self._answered(channel, answer)
                    self.echoes += 1
                    await self._pause(MESSAGE_S)
                await stream.done_writing()
                if await stream.read() is grpc.aio.EOF:
                    self.finished += 1
            except grpc.aio.AioRpcError as error:
                self._failed("stream", by, error, begun)
                await self._pause(AGAIN_S)
            except asyncio.InvalidStateError:
                self._failed("stream", by, await _end_of(stream), begun)
                await self._pause(AGAIN_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _answered(self, channel: Any, answer: bytes) -> str:
        by = self._latest[channel] = answer.decode()
        self.seen[by] = time.monotonic()
        return by

    def _failed(self, kind: str, by: str, error: Any, begun: float) -> None:
        found = Failure(kind, error.code().name, error.details() or "", begun, time.monotonic(), by)
        self.failures.append(found)


async def _end_of(stream: Any) -> grpc.aio.AioRpcError:
    """How a stream ended that takes no more messages."""
    return grpc.aio.AioRpcError(
        await stream.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), details=await stream.details()
    )


def labels(failures: Sequence[Failure]) -> str:
    """The first of what failed, for people."""
    return "; ".join(f"{each.kind} {each.code} {each.detail}" for each in failures[:3])
