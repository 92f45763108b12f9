"""When freed memory goes back to the kernel, and that it does."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from h2.settings import SettingCodes

from sidecar.relay.freed import LITTLE, WORTH, Freed, trim_of
from sidecar.relay.settings import FrontSettings
from tests.relay.world import World

USED = 100 << 20
MESSAGE = bytes(500_000)


@pytest.mark.parametrize(
    ("looks", "trims"),
    [
        ([(USED, True), (USED, True), (USED + WORTH - 1, True)], []),  # not worth it
        ([(USED, True), (USED + WORTH, False), (USED + WORTH, True), (USED + WORTH, True)], [3]),
        ([(USED, True), (USED + WORTH, True), (USED + WORTH, True)], [1]),
        ([(USED, True), *[(USED + WORTH, False), (USED + WORTH, True)] * 4], []),  # it would be needed again at once
        ([(USED, True), (USED + WORTH, True), *[(USED + WORTH, True)] * 5], [1]),  # it was in use
        ([(USED, True), (USED + WORTH, True), *[(USED, True)] * 2, (USED + WORTH, True)], [1, 4]),
    ],
)
def test_when(looks: list[tuple[int, bool]], trims: list[int]) -> None:
    freed = Freed()
    assert [number for number, look in enumerate(looks) if freed.look(*look)] == trims


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
