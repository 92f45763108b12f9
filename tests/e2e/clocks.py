"""A wall clock that is stepped under running processes, as `date --set` does.

libfaketime stands before the C library; as with a real step, the monotonic clock and that of the boot go on unmoved.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.parts import require

# libfaketime 0.9.10 answers EINVAL to every clock_nanosleep() on a monotonic clock that it is told to leave alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class WallClock:
    """environment: of the processes that are to see it."""

    def __init__(self, directory: Path) -> None:
        require(shutil.which("faketime") is not None, "faketime (Debian: faketime)")
        self._file = directory / "faketime"
        self.step(0)
        # The wrapper knows where the library lies.
        told = ["faketime", "-m", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]
        library = subprocess.run(told, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
        start = directory / "start"
        start.mkdir()
        (start / "sitecustomize.py").write_text(SLEEP)
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(start),
        }

    def step(self, seconds: int) -> None:
        """It is so far ahead of the real one from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)
