"""What a process asks of the kernel about itself, by prctl(2): a name, and that nobody looks into its memory."""

from __future__ import annotations

import ctypes
import os
from typing import Final

PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
NAME_BYTES: Final = 15  # TASK_COMM_LEN less its end


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


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    given = argument if isinstance(argument, ctypes.c_char_p) else ctypes.c_ulong(argument)
    if call(option, given, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
