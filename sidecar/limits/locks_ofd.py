"""Locks on single bytes of a file, held for microseconds and waited for within bounds.

Open file description locks (fcntl(2), F_OFD_SETLK): the kernel drops them with the last descriptor, so a process that
is killed leaves none behind, and unlike POSIX locks they do not vanish when another descriptor of the file is closed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from typing import Final

FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of Linux on x86-64 and arm64: type, whence, start, length, pid
TAKEN: Final = (errno.EAGAIN, errno.EACCES)


def flock(kind: int, byte: int) -> bytes:
    return FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def try_lock(fd: int, kind: int, byte: int) -> bool:
    """Lock one byte, F_WRLCK or F_RDLCK, or turn the lock held there into one of that kind."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(kind, byte))
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def unlock(fd: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, byte))


class Stripes:
    """Exclusive locks on the bytes first to first + count - 1.

    A holder that was preempted gets the processor by our yielding it. One that does not come back within wait_ns is
    taken for stopped: until its lock is got again, each further try is a single one.
    """

    __slots__ = ("_clock", "_fd", "_locks", "_stopped", "_unlocks", "_wait_ns")

    def __init__(self, fd: int, first: int, count: int, wait_ns: int, clock: Callable[[], int]) -> None:
        """clock: monotonic, in nanoseconds."""
        self._fd = fd
        self._wait_ns = wait_ns
        self._clock = clock
        self._locks = [flock(fcntl.F_WRLCK, first + number) for number in range(count)]
        self._unlocks = [flock(fcntl.F_UNLCK, first + number) for number in range(count)]
        self._stopped: set[int] = set()

    def lock(self, stripes: Sequence[int]) -> bool:
        """Lock all of them, or none and False. stripes: ascending, so that two processes never wait in a circle."""
        for at, stripe in enumerate(stripes):
            if not self._lock(stripe):
                self.unlock(stripes[:at])
                return False
        return True

    def unlock(self, stripes: Sequence[int]) -> None:
        for stripe in stripes:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._unlocks[stripe])

    def disown(self) -> None:
        """Let every further lock fail with a ValueError."""
        self._fd = -1

    def _lock(self, stripe: int) -> bool:
        until = 0
        while True:
            try:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._locks[stripe])
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
            else:
                if self._stopped:
                    self._stopped.discard(stripe)
                return True
            if stripe in self._stopped:
                return False
            now = self._clock()
            until = until or now + self._wait_ns
            if now >= until:
                self._stopped.add(stripe)
                return False
            os.sched_yield()
