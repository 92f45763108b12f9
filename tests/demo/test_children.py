"""Processes that never outlive the demo."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.children import Child, Children
from sidecar.demo.errors import DemoError

# Starts a child of its own, says both process ids, and goes on.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, "ready")
time.sleep(600)
"""


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path) as opened:
        yield opened


def python(children: Children, directory: Path, code: str) -> Child:
    return children.start("a test", [sys.executable, "-c", code], directory=directory)


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def said_ready(child: Child) -> list[int] | None:
    return [int(word) for word in child.said().split()[:2]] if "ready" in child.said() else None


def test_leaving_the_block_ends_children_and_their_children(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = python(children, tmp_path, PARENT)
        processes = child.wait_for("it said so", lambda: said_ready(child), 30)
        assert [runs(process) for process in processes] == [True, True]
    assert child.process.returncode is not None
    assert not runs(processes[0])


def test_one_that_ends_early_is_quoted(children: Children, tmp_path: Path) -> None:
    child = python(children, tmp_path, "import sys; print('no room left'); sys.exit(3)")
    with pytest.raises(DemoError, match=r"(?s)a test ended with status 3, before it was ready.*no room left"):
        child.wait_for("it was ready", lambda: None, 30)


def test_one_that_takes_too_long_is_quoted(children: Children, tmp_path: Path) -> None:
    child = python(children, tmp_path, PARENT)
    with pytest.raises(DemoError, match="it was ready: not within 0 s"):
        child.wait_for("it was ready", lambda: None, 0)


def test_proxies_are_not_between_the_demos_parts(children: Children, tmp_path: Path) -> None:
    child = python(children, tmp_path, "import os; print(os.environ['no_grpc_proxy'])")
    assert child.wait_for("its end", child.process.poll, 30) == 0
    assert child.said().split(",")[0] == "127.0.0.1"
