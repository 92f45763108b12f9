"""When freed memory goes back to the kernel, and that it does."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from h2.settings import SettingCodes

from sidecar.relay.freed import LITTLE, WORTH, Freed, trim_of
from sidecar.relay.http2.limits import Limits
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from tests.relay.world import World

USED = 100 << 20
MESSAGE = bytes(500_000)


@pytest.mark.parametrize(
    ("looks", "trims"),
    [
        ([(USED, 0), (USED, 0), (USED + WORTH - 1, 0)], []),  # not worth it
        ([(USED, 0), (USED + WORTH, WORTH), (USED + WORTH, 0), (USED + WORTH, 0)], [3]),
        ([(USED, 0), (USED + WORTH, 0), (USED + WORTH, 0)], [1]),
        ([(USED, 0), *[(USED + WORTH, WORTH), (USED + WORTH, 0)] * 4], []),  # it would be needed again at once
        ([(USED, 0), (USED + WORTH, 0), *[(USED + WORTH, 0)] * 5], [1]),  # it was in use
        ([(USED, 0), (USED + WORTH, 0), *[(USED, 0)] * 2, (USED + WORTH, 0)], [1, 4]),
        (
            [*[(USED + WORTH, WORTH)] * 3, (USED + WORTH, 0), (USED + WORTH, 0)],
            [4],
        ),  # it was held from the first look on
    ],
)
def test_when(looks: list[tuple[int, int]], trims: list[int]) -> None:
    assert trimmed(looks, given_back=0) == trims


def test_what_is_held_at_every_look_between_two_trims_is_given_back_once_it_is_freed() -> None:
    held = (USED + WORTH, WORTH)
    freed = [(USED + WORTH, 0)] * 2
    assert trimmed([(USED, 0), held, *freed, *[held, *freed] * 2], given_back=WORTH) == [3, 6, 9]


def test_nothing_is_trimmed_while_more_may_be_held() -> None:
    freed = Freed()
    assert [freed.look(USED + more, 0, busy) for more, busy in [(0, False), (WORTH, True), (WORTH, False)]] == [
        False
    ] * 3
    assert freed.look(USED + WORTH, 0, False)


def trimmed(looks: list[tuple[int, int]], given_back: int) -> list[int]:
    """The numbers of the looks, of resident and held bytes, after which memory is trimmed, by `given_back` bytes."""
    freed, found = Freed(), []
    for number, (size, held) in enumerate(looks):
        if freed.look(size, held, False):
            found.append(number)
            freed.trimmed(size - given_back, held)
    return found


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_small_objects_hold_in_place_goes_back() -> None:
    pieces, between = [], []
    for number in range(4_000):
        pieces.append(bytes((number & 0xFF,)) * (16 << 10))
        between.append(bytes(1_000))
    full = resident()
    pieces.clear()
    trim_of(ctypes.CDLL(None))()
    assert full - resident() > 40 << 20  # of 62 MiB, for pages go back whole
    assert len(between) == 4_000


def test_a_c_library_without_it() -> None:
    trim_of(SimpleNamespace())()


@pytest.mark.parametrize("dropped", [False, True])
def test_it_is_given_back_once_answers_that_nobody_reads_are_dropped(dropped: bool) -> None:
    with World(settings=FrontSettings(buffered=LITTLE if dropped else 4 * LITTLE)) as world:
        world.relay.resident = lambda: USED + (2 * WORTH if world.tap else 0)
        trimmed: list[float] = []
        world.relay.trim = lambda: trimmed.append(world.loop.now)
        world.answer = lambda call: call.answer(MESSAGE)
        world.advance(1.0)
        deaf = [world.connect({SettingCodes.INITIAL_WINDOW_SIZE: 0}) for _ in range(2)]
        for client in deaf:
            for _ in range(90):  # 64 KiB come of each: 11 MiB
                client.call(b"/t.S/Unary").message(b"q", end=True)
        world.advance(5.0)
        assert bool(trimmed) is dropped
        for client in deaf:
            world.lose(client)
        world.advance(1.0)
        assert len(trimmed) == 1


def test_whoever_calls_while_memory_is_given_back_keeps_no_later_trim_away() -> None:
    """Readers that are cut and come back at once: what the last of them leave is given back as well."""
    wide = UpstreamSettings((Target("192.0.2.9", 1),), limits=Limits(connection_window=16 * WORTH))
    with World(settings=FrontSettings(buffered=8 * LITTLE), upstream=wide) as world:
        heap = Heap(world)
        world.answer = lambda call: call.answer(MESSAGE)
        world.advance(1.0)
        wave = deaf(world)
        world.advance(1.0)
        for _ in range(3):
            assert heap.size > USED + WORTH
            for client in wave:
                world.lose(client)
            steps = iter(range(20))
            while heap.size > USED and next(steps, None) is not None:
                world.advance(0.1)
            wave = deaf(world)  # before the next look
            world.advance(1.0)
        for client in wave:
            world.lose(client)
        world.advance(2.0)
        assert heap.size == USED
        assert heap.trims == 4


class Heap:
    """The memory of a world's process: freed memory stays there until it is trimmed."""

    def __init__(self, world: World) -> None:
        self._wires = world.front._wires
        self._most = self.trims = 0
        world.relay.resident = lambda: self.size
        world.relay.trim = self._trim

    @property
    def _held(self) -> int:
        return sum(wire.unread() for wire in self._wires)

    @property
    def size(self) -> int:
        self._most = max(self._most, self._held)
        return USED + self._most

    def _trim(self) -> None:
        self.trims += 1
        self._most = self._held


def deaf(world: World) -> list[Any]:
    """Clients that read nothing of what they ask for: 16.8 MiB."""
    clients = [world.connect({SettingCodes.INITIAL_WINDOW_SIZE: 0}) for _ in range(3)]
    for client in clients:
        for _ in range(90):  # 64 KiB come of each
            client.call(b"/t.S/Unary").message(b"q", end=True)
    return clients
