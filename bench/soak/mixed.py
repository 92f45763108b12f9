"""Calls of every shape and size, cancelled, denied and overdue ones among them, as many a second as is asked for."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench.harness.ends import Called, Client, ClientWire, framed

CANCELLED, OVERDUE, DENIED = 1, 4, 7  # gRPC statuses
SIZES: Final = (0, 1, 100, 1000, 16_379, 16_380, 70_000, 1_000_000)  # bytes; about a frame's and a window's edge
COMMON: Final = 6  # of these sizes, the first so many are common
PARTS: Final = 12  # messages of a stream
DEADLINE_MS: Final = 30
NEVER: Final = -2  # a status that no call has


@dataclass
class Seen:
    """ended: calls by kind.  wrong: what came and was not expected, the first of them."""

    begun: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    took: list[float] = field(default_factory=list)  # seconds, of those that succeeded

    @property
    def open(self) -> int:
        return self.begun - self.ended.total()


class Mixed:
    """Begins calls, each of a random kind, and checks how each ends."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self.seen = Seen()
        self._client = client
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._noise = chance.randbytes(max(SIZES) + 4096)

    def begin(self, cancels: float, denials: float, overdue: float) -> None:
        """One call. The rest of the shares succeed, in four shapes."""
        draw = self._chance.random()
        wire = self._client.wires[self._chance.randrange(len(self._client.wires))]
        if not wire.connection.can_open:
            self.seen.wrong.append("a connection takes no more streams")
            return
        if draw < cancels:
            self._cancelled(wire)
        elif draw < cancels + denials:
            message = framed(self._message())
            self.call(wire, "denied", b"Secret", (message,), b"", DENIED)
        elif draw < cancels + denials + overdue:
            fields = ((b"grpc-timeout", b"%dm" % DEADLINE_MS),)
            self.call(wire, "overdue", b"Never", (framed(b"x"),), b"", OVERDUE, fields)
        else:
            self._answered(wire)

    def _answered(self, wire: ClientWire) -> None:
        shape = self._chance.randrange(10)
        if shape < 6:
            message = framed(self._message())
            self.call(wire, "unary", b"Same", (message,), message, 0)
        elif shape < 8:
            message = framed(PARTS.to_bytes(4, "big") + self._message(COMMON)[:1000])
            self.call(wire, "server stream", b"Many", (message,), message * PARTS, 0)
        elif shape < 9:
            messages = tuple([framed(self._message(COMMON)[:1000] + b"%d" % number) for number in range(PARTS)])
            self.call(wire, "client stream", b"Last", messages, messages[-1], 0)
        else:
            messages = tuple([framed(self._message(COMMON)) for _ in range(PARTS)])
            self.call(wire, "bidi stream", b"Echo", messages, b"".join(messages), 0)

    def _message(self, sizes: int = len(SIZES)) -> bytes:
        common = self._chance.random() < 0.97
        size = SIZES[self._chance.randrange(COMMON if common else sizes)]
        start = self._chance.randrange(4096)
        return self._noise[start : start + size]

    def call(
        self,
        wire: ClientWire,
        kind: str,
        method: bytes,
        payloads: tuple[bytes, ...],
        answer: bytes,
        status: int,
        fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        def done(called: Called) -> None:
            self.seen.ended[kind] += 1
            if called.status != status or b"".join(called.body) != answer:
                got = sum(map(len, called.body))
                self.seen.wrong.append(f"{kind}: status {called.status}, {got} bytes of {len(answer)}")
            elif status == 0:
                self.seen.took.append(time.monotonic() - called.began)

        self._open(wire, method, payloads, done, fields)

    def _open(
        self,
        wire: ClientWire,
        method: bytes,
        payloads: tuple[bytes, ...],
        done: Callable[[Called], None],
        fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Called:
        self.seen.begun += 1
        called = Called(wire, done)
        self._client.open(called, method, fields)
        for number, payload in enumerate(payloads, 1):
            called.send(payload, number == len(payloads))
        return called

    def _cancelled(self, wire: ClientWire) -> None:
        """At once, in the middle of its answer, or a little later; it may have ended before."""

        def done(called: Called) -> None:
            self.seen.ended["cancelled"] += 1

        method = (b"Same", b"Many", b"Echo", b"Never")[self._chance.randrange(4)]
        message = framed(PARTS.to_bytes(4, "big") + self._message())
        called = self._open(wire, method, (message,), done)
        delay = self._chance.choice((0.0, 0.0005, 0.003, 0.02))
        if delay:
            self._loop.call_later(delay, called.cancel)
        else:
            called.cancel()

    async def closed(self, callers: int, seconds: float) -> float:
        """Calls that are answered, so many at a time; how many each second."""
        until, begun = time.monotonic() + seconds, self.seen.begun
        while time.monotonic() < until:
            while self.seen.open < callers:
                self.begin(0.0, 0.0, 0.0)
            await asyncio.sleep(0.0005)
        count = self.seen.begun - begun
        await self.drained()
        return count / seconds

    async def paced(
        self, per_second: float, count: float, shares: tuple[float, float, float], most: int, seconds: float
    ) -> None:
        """Calls at their times, until so many were begun or so many seconds have passed; at most `most` open."""
        begun, first = time.monotonic(), self.seen.begun
        while self.seen.begun - first < count and (now := time.monotonic()) - begun < seconds:
            due = min(count, (now - begun) * per_second)
            while self.seen.begun - first < due and self.seen.open < most:
                self.begin(*shares)
            await asyncio.sleep(0.001)

    async def drained(self) -> None:
        """Once every call has ended. Those that do not within a minute are wrong."""
        until = time.monotonic() + 60.0
        while self.seen.open:
            if time.monotonic() > until:
                self.seen.wrong.append(f"{self.seen.open} calls have not ended")
                return
            await asyncio.sleep(0.01)
