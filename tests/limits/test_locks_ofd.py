"""Locks on bytes of a file, between two that have it open."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.limits.locks_ofd import SPIN_NS, Stripes, try_lock, unlock


class Clock:
    """step_ns: what each look at it takes."""

    def __init__(self, step_ns: int = 1_000_000) -> None:
        self.now_ns = 0
        self._step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self._step_ns
        return self.now_ns


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptions of one open file."""
    path = tmp_path / "locks"
    path.touch()
    descriptors = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_byte_is_one_owners_until_it_is_let_go(pair: tuple[int, int]) -> None:
    one, other = pair
    assert try_lock(one, fcntl.F_WRLCK, 5)
    assert not try_lock(other, fcntl.F_WRLCK, 5)
    assert not try_lock(other, fcntl.F_RDLCK, 5)
    assert try_lock(other, fcntl.F_WRLCK, 6)
    assert try_lock(one, fcntl.F_RDLCK, 5)
    assert try_lock(other, fcntl.F_RDLCK, 5)
    unlock(one, 5)
    assert try_lock(other, fcntl.F_WRLCK, 5)


def test_closing_another_descriptor_of_the_file_keeps_the_lock(pair: tuple[int, int], tmp_path: Path) -> None:
    one, other = pair
    assert try_lock(one, fcntl.F_WRLCK, 5)
    os.close(os.open(tmp_path / "locks", os.O_RDWR))
    assert not try_lock(other, fcntl.F_WRLCK, 5)


def test_all_stripes_or_none(pair: tuple[int, int]) -> None:
    one, other = (Stripes(descriptor, 8, 4, Clock()) for descriptor in pair)
    assert one.lock([1, 3])
    assert not other.lock([0, 2, 3])
    assert one.lock([0, 2])  # nothing of the failed try is left
    one.unlock([0, 1, 2, 3])
    assert other.lock([0, 1, 2, 3])


def test_a_holder_at_work_is_tried_again_and_no_other_is_waited_for(pair: tuple[int, int]) -> None:
    clock = Clock(SPIN_NS // 10)
    one, other = Stripes(pair[0], 8, 4, Clock()), Stripes(pair[1], 8, 4, clock)
    assert one.lock([1, 2])
    assert not other.lock([0, 1, 2])
    assert SPIN_NS <= clock.now_ns <= 2 * SPIN_NS
    assert other.met == 1
    before = clock.now_ns
    assert not other.lock([2], 0)
    assert clock.now_ns - before <= 2 * (SPIN_NS // 10)  # one try more at most
    assert other.met == 2
    one.unlock([1])
    assert other.lock([0, 1])


def test_what_was_given_up_is_not_once_it_is_got(pair: tuple[int, int]) -> None:
    one, other = (Stripes(descriptor, 8, 4, Clock()) for descriptor in pair)
    assert one.lock([1])
    other.given_up.add(1)
    assert not other.lock([1])
    assert other.given_up == {1}
    one.unlock([1])
    assert other.lock([0, 1])
    assert other.given_up == set()


def test_whoever_is_disowned_locks_nothing(pair: tuple[int, int]) -> None:
    stripes = Stripes(pair[0], 8, 4, Clock())
    stripes.disown()
    with pytest.raises(ValueError, match="file descriptor"):
        stripes.lock([0])
