"""Names of directories that are short enough for the sockets in them."""

from __future__ import annotations

import os
from pathlib import Path


def short(directory: Path) -> str:
    """Another name of `directory`, which this process keeps open: a socket's path may have 107 bytes (unix(7))."""
    return f"/proc/self/fd/{os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"
