"""The run directory: where internal sockets lie, for the user of the sidecar alone, and for one boot."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Final

PREFIX: Final = "run-"


class RunDirectory:
    """Makes `<parent>/run-<pid>`, 0700, and removes those that killed sidecars left. Raises OSError.

    It is held by a lock for as long as its sidecar lives: a process id alone may have been given to another since.
    """

    def __init__(self, parent: Path, pid: int) -> None:
        parent.mkdir(0o700, parents=True, exist_ok=True)
        for left in parent.glob(f"{PREFIX}*"):
            _remove_unheld(left)
        self.path = parent / f"{PREFIX}{pid}"
        self.path.mkdir(0o700)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_unheld(path: Path) -> None:
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = os.fstat(number)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody lives there
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(number)
