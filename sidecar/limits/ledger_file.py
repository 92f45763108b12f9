"""The ledger's file: its form, who may use it, and what a restart and a reboot make of it.

    0     magic, slots, secret, their checksum           written once
    64    boot id, anchor, clean, floor                  what the times below refer to
    4096  a key of 16 bytes for each slot, 0 where it was never used
    …     a time of 8 bytes for each slot: when its bucket is full again, in gcra.UNITS on CLOCK_BOOTTIME

The wall clock is never read. A process that is killed loses nothing, for the pages are the kernel's. A reboot after an
orderly close keeps every bucket as full as it was then; without one, what the disk holds may be older than what was
granted, so every bucket counts as empty at the next start. Neither gives anything away.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic, sleep
from typing import Final

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.limits.locks_ofd import try_lock, unlock

HEADER: Final = 4096  # bytes
KEY: Final = 16
MAGIC: Final = b"LTLIMIT1"  # its last character is the version of the form
FIXED: Final = struct.Struct("=8sq32s")  # magic, slots, secret
CHECKSUM: Final = slice(48, 56)
BOOT: Final = slice(64, 80)
ANCHOR, CLEAN, FLOOR = 10, 11, 12  # words: now at the last orderly close; 1 after one; when every bucket was empty
LONG_AGO: Final = -(1 << 62)

OPENING, PRESENT = 0, 1  # bytes to lock: while opening or closing; as long as the file is in use
OPEN_S: Final = 5.0  # for other processes to open or close it
LOOK_S: Final = 0.005
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# O_NONBLOCK: opening a FIFO that nobody reads must fail, not hang; it means nothing to a regular file.
FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LedgerError(SidecarError):
    """The file of the rate limits cannot be used."""

    code = Code.UNAVAILABLE
    public = "rate limits cannot be kept at the moment"


def boot_clock() -> int:
    """Nanoseconds since this host booted, those in which it slept included."""
    return clock_gettime_ns(CLOCK_BOOTTIME)


def boot_id() -> bytes:
    """16 bytes, others after each boot. Raises LedgerError where the kernel does not tell."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError) as error:
        raise LedgerError("the kernel does not tell its boot id, which the rate limits' clock needs") from error


class LedgerFile:
    """Opens or creates `path`, 0600, its directory 0700 where it is missing; several processes may at once.

    fd: for locks.  mapped: all of it.  words: the same as 64-bit numbers.  keys: where the keys begin, in bytes.
    times: where the times begin, in words.  secret: the key of the hash that makes keys.
    Raises LedgerError for a file of another form or another user's, and for one that another boot's process uses.
    """

    def __init__(self, path: Path, slots: int, now: int, boot: bytes, random_bytes: Callable[[int], bytes]) -> None:
        """now: in gcra.UNITS.  random_bytes: secret ones, as os.urandom gives them."""
        self.path = path
        self.slots = slots
        self.keys = HEADER
        self.times = (HEADER + slots * KEY) // 8
        self._size = HEADER + slots * (KEY + 8)
        self.fd = self._open()
        self.mapped = mmap.mmap(-1, mmap.PAGESIZE)  # until the file's size is known to be right
        self.words = memoryview(self.mapped).cast("q")
        try:
            self._enter(now, boot, random_bytes)
        except OSError as error:
            self._let_go()
            raise self._error(error.strerror or str(error)) from error
        except LedgerError:
            self._let_go()
            raise

    def close(self, now: int) -> None:
        """Leave; who leaves last makes all of it durable, which lets the next boot go on from here."""
        if self._opening():
            if try_lock(self.fd, fcntl.F_WRLCK, PRESENT):
                self.words[ANCHOR] = now
                self.mapped.flush()
                self.words[CLEAN] = 1
                self.mapped.flush()
            unlock(self.fd, OPENING)
        self._let_go()

    def _let_go(self) -> None:
        self.words.release()
        self.mapped.close()
        os.close(self.fd)

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
            around = self.path.parent.stat().st_mode
            fd = os.open(self.path, FLAGS, 0o600)
        except OSError as error:
            symbolic = error.errno == errno.ELOOP
            raise self._error("is a symbolic link, expected a file" if symbolic else error.strerror or "") from error
        found = os.fstat(fd)
        wrong = ""
        # In a sticky directory (/tmp) others can neither rename nor remove our file.
        if around & OTHERS_WRITE and not around & stat.S_ISVTX:
            wrong = f"is in a directory that others may write to: mode {around & 0o777:04o}, expected 0700"
        elif not stat.S_ISREG(found.st_mode):
            wrong = "is not a regular file"
        elif found.st_uid != os.geteuid():
            wrong = f"belongs to user {found.st_uid}, expected {os.geteuid()}"
        elif found.st_mode & OTHERS:
            wrong = f"is open to others: mode {found.st_mode & 0o777:04o}, expected 0600"
        if wrong:
            os.close(fd)
            raise self._error(wrong)
        return fd

    def _enter(self, now: int, boot: bytes, random_bytes: Callable[[int], bytes]) -> None:
        if not self._opening():
            raise self._error(f"is held by another process for over {OPEN_S:g} s, which may be stopped")
        alone = try_lock(self.fd, fcntl.F_WRLCK, PRESENT)
        size = os.fstat(self.fd).st_size
        if not size:
            os.posix_fallocate(self.fd, 0, self._size)  # a full disk shows now, not as a SIGBUS within a call
        elif size != self._size:
            raise self._error(f"has {size} bytes, expected {self._size}{MEND}")
        self.mapped = mmap.mmap(self.fd, self._size)
        self.words = memoryview(self.mapped).cast("q")
        if alone and not self.mapped[:].strip(b"\0"):
            self._create(boot, random_bytes(32))
        self.secret = self._fixed()
        if alone:
            self._take_over(now, boot)
        elif self.mapped[BOOT] != boot:
            raise self._error("is in use by a process that has another boot id")
        try_lock(self.fd, fcntl.F_RDLCK, PRESENT)
        unlock(self.fd, OPENING)

    def _create(self, boot: bytes, secret: bytes) -> None:
        """The magic goes last: a file that a crash left without it holds nothing, and is made anew."""
        fixed = FIXED.pack(MAGIC, self.slots, secret)
        self.mapped[8 : FIXED.size] = fixed[8:]
        self.mapped[CHECKSUM] = _checksum(fixed)
        self.mapped[BOOT] = boot
        self.words[FLOOR] = LONG_AGO
        self.mapped.flush()
        self.mapped[:8] = MAGIC
        self.mapped.flush()
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _fixed(self) -> bytes:
        """The secret, from a header that is what it must be."""
        fixed = self.mapped[: FIXED.size]
        magic, slots, secret = FIXED.unpack(fixed)
        if magic != MAGIC:
            raise self._error(f"is no ledger of this version{MEND}")
        if self.mapped[CHECKSUM] != _checksum(fixed) or slots != self.slots:
            raise self._error(f"has a damaged header{MEND}")
        assert isinstance(secret, bytes)
        return secret

    def _take_over(self, now: int, boot: bytes) -> None:
        """Nobody else uses the file: bring its times to this boot's clock. Killed on the way, it was no clean close."""
        clean = self.words[CLEAN]
        self.words[CLEAN] = 0
        self.mapped.flush()
        # A clock that went back is another clock: a restored container's, or that of another time namespace.
        if self.mapped[BOOT] == boot and now >= self.words[ANCHOR]:
            return
        if clean:
            self._shift(now)
        else:
            self.words[FLOOR] = now
            self.mapped[self.times * 8 :] = bytes(self.slots * 8)
        self.words[ANCHOR] = now
        self.mapped.flush()
        self.mapped[BOOT] = boot
        self.mapped.flush()

    def _shift(self, now: int) -> None:
        """Every bucket as it was at the last close: how long the host was off cannot be known, so it counts nothing."""
        words, anchor = self.words, self.words[ANCHOR]
        for at in range(self.times, self.times + self.slots):
            if words[at]:
                words[at] = words[at] - anchor + now if words[at] > anchor else 0
        words[FLOOR] = max(LONG_AGO, words[FLOOR] - anchor + now)

    def _opening(self) -> bool:
        until = monotonic() + OPEN_S
        while not try_lock(self.fd, fcntl.F_WRLCK, OPENING):
            if monotonic() >= until:
                return False
            sleep(LOOK_S)
        return True

    def _error(self, problem: str) -> LedgerError:
        return LedgerError(f"ledger {self.path} {problem}")


MEND: Final = "; remove it to start with full buckets"


def _checksum(fixed: bytes) -> bytes:
    return hashlib.blake2b(fixed, digest_size=8).digest()
