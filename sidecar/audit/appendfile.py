"""A file of lines that only grows, durable after each append, written by one process at a time.

Threads and what the lines say are not handled here; the caller keeps to one thread.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from sidecar.audit.ports import AuditError

CHUNK = 64 << 10  # bytes read at a time while looking for the last newline
# O_NONBLOCK: opening a FIFO that nobody reads must fail, not hang; it means nothing to a regular file.
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class AppendFile:
    """Opens or creates `path`: the file 0600, directories that are missing 0700.

    sync: makes a descriptor's data durable, as os.fdatasync does.
    removed: bytes of a torn last line that were cut off on opening (what a crash left of a write that was
    never acknowledged).
    Raises AuditError if the file is not a regular file of our own, others may write to it or to its directory,
    or another process holds it.
    """

    def __init__(self, path: Path, sync: Callable[[int], None] = os.fdatasync) -> None:
        self.path = path
        self._sync = sync
        self._torn = False
        try:
            make_directory(path.parent)
            self._fd = os.open(path, FLAGS, 0o600)
        except OSError as error:
            raise AuditError(f"audit file {path}: {reason(error)}") from error
        try:
            self._claim()
            self.removed = self._repair()
            self._good = os.lseek(self._fd, 0, os.SEEK_END)
            # The descriptor's own entry in its directory is durable only with the directory (fsync(2)).
            sync_directory(path.parent)
        except OSError as error:
            os.close(self._fd)
            raise AuditError(f"audit file {path}: {reason(error)}") from error
        except AuditError:
            os.close(self._fd)
            raise

    def append(self, data: bytes) -> None:
        """Write whole lines and make them durable. On AuditError nothing of them counts: append them again."""
        try:
            if self._torn:
                os.ftruncate(self._fd, self._good)
            self._torn = True
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            self._sync(self._fd)
            self._good += len(data)
            self._torn = False
        except OSError as error:
            # A part may be on disk, and after a failed fsync the kernel takes lost pages for clean: cut back to
            # the last good length and write anew. Where cutting fails too, the next append begins with it.
            try:
                os.ftruncate(self._fd, self._good)
                self._torn = False
            except OSError:
                pass
            raise AuditError(f"audit file {self.path}: {reason(error)}") from error

    def close(self) -> None:
        os.close(self._fd)

    def _claim(self) -> None:
        """Refuse what others could change, and what another process writes."""
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise AuditError(f"audit file {self.path} is not a regular file")
        if found.st_uid != os.geteuid():
            raise AuditError(f"audit file {self.path} belongs to user {found.st_uid}, expected {os.geteuid()}")
        if found.st_mode & OTHERS_WRITE:
            raise AuditError(f"audit file {self.path} is writable by others: mode {found.st_mode & 0o777:04o}")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AuditError(f"audit file {self.path} is in use by another sidecar: give each its own") from error

    def _repair(self) -> int:
        """End the file with a whole line; the number of bytes that were cut off."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        start, tail = size, b""
        while start and b"\n" not in tail:
            before = max(0, start - CHUNK)
            tail = os.pread(self._fd, start - before, before) + tail
            start = before
        tail = tail[tail.rfind(b"\n") + 1 :]
        if not tail:
            return 0
        if is_object(tail):
            os.write(self._fd, b"\n")
            return 0
        os.ftruncate(self._fd, size - len(tail))
        self._sync(self._fd)
        return len(tail)


def is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def make_directory(path: Path) -> None:
    """Create `path` and its missing parents 0700, each durable; refuse one that others may write to."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(0o700, exist_ok=True)
        sync_directory(path.parent)
    mode = path.stat().st_mode
    # In a sticky directory (/tmp) others can neither rename nor remove our file.
    if mode & OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise AuditError(f"directory {path} is writable by others: mode {mode & 0o777:04o}, expected 0700")


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync directories keeps them so itself
            raise
    finally:
        os.close(fd)


def reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link, expected a file"
    return error.strerror or str(error)
