"""What another process of the same user may read of one that hides its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Process
from tests.unprivileged import PLAIN

PROGRAM = """
import signal, sys
from sidecar.processes import privacy
privacy.set_name("a-name-of-more-than-15-bytes")
privacy.set_command_line(["a program", "its name"])
if sys.argv[1] == "hidden":
    privacy.hide_memory()
print("up", flush=True)
signal.pause()
"""


def read(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PLAIN, "cat", path], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("state", "refused"), [("hidden", True), ("open", False)])
def test_memory_is_hidden_from_the_same_user(state: str, refused: bool) -> None:
    with Process([*PLAIN, sys.executable, "-c", PROGRAM, state]) as process:
        process.wait_line(lambda line: line == "up")
        assert ("Permission denied" in read(f"/proc/{process.pid}/environ").stderr) is refused


def test_a_command_line_takes_the_place_of_another() -> None:
    with Process([sys.executable, "-c", PROGRAM, "hidden"]) as process:
        process.wait_line(lambda line: line == "up")
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0") == b"a program\0its name"


def test_a_name_is_cut() -> None:
    with Process([sys.executable, "-c", PROGRAM, "hidden"]) as process:
        process.wait_line(lambda line: line == "up")
        assert Path(f"/proc/{process.pid}/comm").read_text() == "a-name-of-more-\n"
