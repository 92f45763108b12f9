"""Starts a child by exec, and watches it by its pidfd: a number may be reused, a descriptor never is.

Exec and not fork: nothing of the supervisor's memory, threads or locks is in a child, and of its descriptors only
those that are named.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Final

# What `multiprocessing` hands down as well: a child must run the code that its supervisor runs, wherever that lies.
# -P: the working directory is no place to import from unless it already was one.
BOOT: Final = "import sys; sys.path[:] = sys.argv[4:]; from sidecar.processes.child import main; main(sys.argv[1:4])"
# In a terminal, Ctrl-C and a hang-up go to the whole process group; they are the supervisor's to act on.
TERMINAL: Final = frozenset((signal.SIGINT, signal.SIGHUP))


class Spawned:
    """A running child. control: our end of its control channel, which is ours to close."""

    def __init__(self, role: str, name: str) -> None:
        """Raises OSError where no process or descriptor can be had."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-P", "-c", BOOT, role, name, str(theirs.fileno()), *sys.path]
        # The child begins with these signals blocked, until it ignores them: none may end it while it imports.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            self.pidfd = os.pidfd_open(self._child.pid)
        except OSError:
            self.control.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        """Fine where it has ended."""
        if self._child.returncode is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit status, the number of the signal that ended it as a negative one. Call it once pidfd is readable."""
        status = self._child.wait()
        os.close(self.pidfd)
        return status
