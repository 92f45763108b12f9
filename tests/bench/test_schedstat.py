"""CPU time from /proc: all threads and all descendants count, and none may vanish."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.harness import schedstat
from bench.harness.errors import BenchError
from bench.harness.schedstat import Usage


def task(proc: Path, pid: int, thread: int, run: int, wait: int, children: str = "") -> None:
    folder = proc / str(pid) / "task" / str(thread)
    folder.mkdir(parents=True)
    (folder / "schedstat").write_text(f"{run} {wait} 1\n")
    (folder / "children").write_text(children)


def test_reads_threads_and_descendants(tmp_path: Path) -> None:
    task(tmp_path, 10, 10, 100, 1, "20 ")
    task(tmp_path, 10, 11, 200, 2)
    task(tmp_path, 20, 20, 300, 3)
    task(tmp_path, 30, 30, 999, 9)
    assert schedstat.read(10, tmp_path) == {"10": Usage(100, 1), "11": Usage(200, 2), "20": Usage(300, 3)}


def test_reads_this_process() -> None:
    assert str(os.getpid()) in schedstat.read(os.getpid())


def test_an_ended_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has ended"):
        schedstat.read(10, tmp_path)


def test_a_new_thread_counts_in_full() -> None:
    before = {"1": Usage(100, 10)}
    after = {"1": Usage(150, 15), "2": Usage(30, 3)}
    assert schedstat.spent(before, after) == Usage(80, 8)


def test_a_thread_that_ended_voids_the_reading() -> None:
    with pytest.raises(BenchError, match="1 of 2 threads ended"):
        schedstat.spent({"1": Usage(1, 0), "2": Usage(1, 0)}, {"1": Usage(2, 0)})
