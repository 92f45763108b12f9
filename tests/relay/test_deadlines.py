"""One timer for all deadlines: what is due expires, once, and what was dropped leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from sidecar.relay.deadlines import Deadlines


@dataclass(eq=False)
class Item:
    """expired: the loop's time at each call."""

    loop: asyncio.AbstractEventLoop
    expired: list[float] = field(default_factory=list)

    def expire(self) -> None:
        self.expired.append(self.loop.time())


class Last:
    """Tells when its deadline is reached."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    def expire(self) -> None:
        self.reached.set()


def test_what_is_due_expires_once_never_early_and_the_dropped_never() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        chance = random.Random(5)
        begun = loop.time()
        times = [begun + chance.random() * 0.2 for _ in range(200)]
        kept, dropped = [Item(loop) for _ in times], [Item(loop) for _ in times]
        for at, keep, drop in zip(times, kept, dropped, strict=True):
            deadlines.add(at, keep)
            deadlines.drop(deadlines.add(at, drop), drop)
        last = Last()
        deadlines.add(max(times) + 0.05, last)
        async with asyncio.timeout(10):
            await last.reached.wait()
        assert all(len(item.expired) == 1 for item in kept)
        # asyncio may fire a timer early by its clock's resolution, as it documents.
        assert all(item.expired[0] >= at - 0.001 for at, item in zip(times, kept, strict=True))
        assert not any(item.expired for item in dropped)

    asyncio.run(scenario())


def test_the_order_of_slots_does_not_grow_with_the_calls() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        kept = Last()
        deadlines.add(loop.time() + 0.2, kept)
        item = Item(loop)
        for number in range(50_000):
            deadlines.drop(deadlines.add(loop.time() + 3600 + number % 3, item), item)
        assert len(deadlines._order) < 10_000
        async with asyncio.timeout(10):
            await kept.reached.wait()

    asyncio.run(scenario())


def test_deadlines_far_away_of_calls_long_over_are_forgotten() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        for number in range(1000):
            item = Item(loop)
            deadlines.drop(deadlines.add(loop.time() + 3600 + number, item), item)
        assert not deadlines._slots

    asyncio.run(scenario())
