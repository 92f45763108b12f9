"""Files that are the sidecar's alone: 0600, in a directory that others can neither read nor write."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from sidecar.state.ports import HeldError, StateError

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# O_NONBLOCK: opening a FIFO that nobody reads must fail, not hang; it means nothing to a regular file.
SAFE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def make_directory(path: Path) -> None:
    """0700 where it is missing. Raises StateError for another user's, and for one that is open to others."""
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise StateError(f"directory {path}: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise StateError(f"directory {path} belongs to user {found.st_uid}, expected {os.geteuid()}")
    if found.st_mode & OTHERS:
        raise StateError(f"directory {path} is open to others: mode {found.st_mode & 0o777:04o}, expected 0700")


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a regular file of our own, 0600 where it is made. Raises StateError."""
    try:
        fd = os.open(path, flags | SAFE, 0o600)
    except OSError as error:
        symbolic = error.errno == errno.ELOOP
        raise StateError(f"{path} is a symbolic link, expected a file" if symbolic else f"{path}: {error.strerror}") \
            from error  # fmt: skip
    wrong = fault(os.fstat(fd))
    if wrong:
        os.close(fd)
        raise StateError(f"{path} {wrong}")
    return fd


def fault(found: os.stat_result) -> str:
    """What is wrong with a file that holds secrets, "" for nothing."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, expected {os.geteuid()}"
    if found.st_mode & OTHERS:
        return f"is open to others: mode {found.st_mode & 0o777:04o}, expected 0600"
    return ""


def claim(path: Path) -> int:
    """A descriptor that holds a lock for as long as it is open; the kernel drops it with the process.

    Raises HeldError where another process holds it.
    """
    fd = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise HeldError(f"{path} is held by another process: each sidecar needs a state directory of its own") \
            from error  # fmt: skip
    return fd


def replace(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Whoever opens `path` finds the file as it was, or all that is written now; it is durable when this returns.

    One process at a time. Raises StateError, and what `write` raises; the file is then as it was.
    """
    made = path.with_name(path.name + ".new")
    try:
        made.unlink(missing_ok=True)
        with open(open_private(made, os.O_RDWR | os.O_CREAT | os.O_EXCL), "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        made.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    finally:
        made.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
