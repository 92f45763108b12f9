"""The sampler charges who used the CPU: a thread that waits costs nothing, time in C counts for its caller."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from bench.harness.processes import Process, Processes
from bench.profile_relay import read

PROGRAM = """\
import hashlib, threading, time
threading.Thread(target=threading.Event().wait, daemon=True).start()
block = bytes(1 << 12)

def in_c(until):
    while time.thread_time() < until:
        for _ in range(100):
            hashlib.sha256(block).digest()

def in_python(until):
    while time.thread_time() < until:
        x = 0
        for _ in range(10000):
            x += 1

if __name__ == "__main__":
    print("up", flush=True)
    began = time.thread_time()
    in_c(began + 0.6)
    in_python(began + 0.8)
    print("done", flush=True)
    threading.Event().wait()
"""


def report(child: Process, file: Path) -> str:
    os.kill(child.pid, signal.SIGUSR2)
    return child.wait_for(lambda: file.read_text() if file.exists() else None, "write its profile")


@pytest.fixture
def profile(tmp_path: Path) -> str:
    (tmp_path / "burn.py").write_text(PROGRAM)
    file = tmp_path / "profile.json"
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from bench.harness import sampler; sampler.main()"
    with Processes(tmp_path / "run") as processes:
        child = processes.start("burn", [sys.executable, "-c", path, str(file), "burn"])
        child.wait_for(lambda: "done" in child.output() or None, "finish its work")
        return report(child, file)


def test_weights_are_cpu_time_by_who_used_it(profile: str) -> None:
    found = read(profile, calls=1)
    functions = {place.partition(" ")[0]: time for place, time in found.functions.items()}
    assert sum(functions.values()) == pytest.approx(found.main_us, rel=0.05)
    # By ratio, not by time: 0.6 s beside 0.2 s, whatever else the machine did.
    assert 2 < functions["in_c"] / functions["in_python"] < 4
    assert found.others_us < found.main_us / 10
    # The program waits at its end, and a sample may fall on its going there; a waiting thread as such weighs nothing.
    assert sum(time for place, time in functions.items() if "wait" in place) < found.main_us / 10


def test_a_report_is_per_call() -> None:
    text = json.dumps(
        {"samples": 3, "main_ns": 9000, "others_ns": 1000, "collecting_ns": 500,
         "places_ns": {"work (b.py:20)": 3000, "work (b.py:21)": 2000, "rest (c.py:1)": 4000}}
    )  # fmt: skip
    found = read(text, calls=2)
    assert (found.main_us, found.others_us, found.collecting_us, found.samples) == (4.5, 0.5, 0.25, 3)
    assert found.functions == {"work (b.py)": 2.5, "rest (c.py)": 2.0}
