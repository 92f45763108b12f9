"""What a process asks of the kernel about itself: a name, that nobody looks into its memory, and whose parent it is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
NAME_BYTES: Final = 15  # TASK_COMM_LEN less its end
# Of /proc/PID/stat behind the name: arg_start and arg_end, the fields 48 and 49 of proc_pid_stat(5).
ARGUMENTS: Final = slice(45, 47)


def hide_memory() -> None:
    """From other processes of the same user, and from core dumps: keys lie there. Raises OSError.

    PR_SET_DUMPABLE: no ptrace and no read of /proc/PID/mem, environ, fd or maps but by root. Other users could not
    before. What `exec` starts is dumpable again until it asks by itself.
    """
    _prctl(PR_SET_DUMPABLE, 0)


def set_name(name: str) -> None:
    """What `ps -o comm` and `top` show of this thread, cut to 15 bytes. Raises OSError.

    Not by /proc/self/comm, which is root's once memory is hidden.
    """
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:NAME_BYTES]))


def set_command_line(words: Sequence[str]) -> None:
    """What /proc/PID/cmdline and `ps` show in place of the command that was exec'd, cut to the room that that has."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = map(int, fields[ARGUMENTS])
    said = "\0".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, said.ljust(end - start, b"\0"), end - start)


def adopt_orphans() -> None:
    """Whichever process below this one loses its parent becomes this one's child. Raises OSError."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    given = argument if isinstance(argument, ctypes.c_char_p) else ctypes.c_ulong(argument)
    if call(option, given, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
