"""Children of benchmarks: pinned, bounded in time, and gone however the block ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.harness.errors import BenchError
from bench.harness.processes import Processes, program

FOREVER = [sys.executable, "-c", "import threading; print('up', flush=True); threading.Event().wait()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def start(processes: Processes, name: str, command: list[str]) -> int:
    child = processes.start(name, command)
    child.wait_for(lambda: "up" in child.output() or None, "say up")
    return child.pid


@pytest.mark.parametrize("command", [FOREVER, STUBBORN])
def test_every_child_is_gone_after_an_interrupt(tmp_path: Path, command: list[str]) -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with Processes(tmp_path / "run", stop_s=0.2) as processes:
            pids.extend(start(processes, name, command) for name in ("first", "second"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [gone(pid) for pid in pids] == [True, True]
    assert not (tmp_path / "run").exists()


def test_a_child_runs_on_the_core_it_was_given(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    with Processes(tmp_path / "run") as processes:
        child = processes.start("pinned", FOREVER, core)
        child.wait_for(lambda: "up" in child.output() or None, "say up")
        assert os.sched_getaffinity(child.pid) == {core}


def test_run_gives_the_output(tmp_path: Path) -> None:
    with Processes(tmp_path / "run") as processes:
        assert processes.run("hello", [sys.executable, "-c", "print('hello')"], 30) == "hello\n"


def test_run_fails_with_what_the_child_said(tmp_path: Path) -> None:
    with Processes(tmp_path / "run") as processes, pytest.raises(BenchError, match=r"status 3; .*\nno way"):
        processes.run("failing", [sys.executable, "-c", "print('no way'); raise SystemExit(3)"], 30)


def test_run_is_bounded_and_reaps(tmp_path: Path) -> None:
    with Processes(tmp_path / "run") as processes, pytest.raises(BenchError, match="has not ended after"):
        processes.run("endless", FOREVER, 0.05)


def test_waiting_ends_when_the_child_does(tmp_path: Path) -> None:
    with Processes(tmp_path / "run") as processes:
        child = processes.start("brief", [sys.executable, "-c", "print('bye')"])
        with pytest.raises(BenchError, match=r"expected it to answer, it ended with status 0; .*\nbye"):
            child.wait_for(lambda: None, "answer")


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(BenchError, match="apt-get install nothing-at-all"):
        program("no-such-program", "nothing-at-all")
