"""Locks on single bytes of a file, held for microseconds.

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
SPIN_NS: Final = 100_000
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

    met: the last that was not got.  given_up: those waited for too long; whoever gets one takes it out.
    """

    __slots__ = ("_clock", "_fd", "_locks", "_unlocks", "given_up", "met")

    def __init__(self, fd: int, first: int, count: int, clock: Callable[[], int]) -> None:
        """clock: monotonic, in nanoseconds."""
        self._fd = fd
        self._clock = clock
        self._locks = [flock(fcntl.F_WRLCK, first + number) for number in range(count)]
        self._unlocks = [flock(fcntl.F_UNLCK, first + number) for number in range(count)]
        self.met = -1
        self.given_up: set[int] = set()

    def lock(self, stripes: Sequence[int], spin_ns: int = SPIN_NS) -> bool:
        """Lock all of them, or none and False. stripes: ascending, so that two processes never wait in a circle.

        A lock is held for microseconds, so whoever meets one tries again for spin_ns; its default is enough for a
        holder that is at work, and little enough to do for every call.
        """
        for at, stripe in enumerate(stripes):
            if not self._try(stripe) and not self._spin(stripe, spin_ns):
                self.unlock(stripes[:at])
                self.met = stripe
                return False
            if self.given_up:
                self.given_up.discard(stripe)
        return True

    def unlock(self, stripes: Sequence[int]) -> None:
        for stripe in stripes:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._unlocks[stripe])

    def disown(self) -> None:
        """Let every further lock fail with a ValueError."""
        self._fd = -1

    def _try(self, stripe: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._locks[stripe])
        except OSError as error:
            if error.errno in TAKEN:
                return False
            raise
        return True

    def _spin(self, stripe: int, spin_ns: int) -> bool:
        until = self._clock() + spin_ns
        while self._clock() < until:
            if self._try(stripe):
                return True
        return False
