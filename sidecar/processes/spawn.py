"""Starts children, and watches them by their pidfds: a number may be reused, a descriptor never is.

The nursery is started by exec: nothing of the supervisor's memory, threads or locks is in it, and of its descriptors
only its end of a channel. All others are forked by the nursery, which holds nothing either, and are the supervisor's
own children to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Final

from sidecar.processes import privacy
from sidecar.processes.channel import Channel
from sidecar.processes.messages import Bear, Born, Message

# What `multiprocessing` hands down as well: a child must run the code that its supervisor runs, wherever that lies.
# -P: the working directory is no place to import from unless it already was one.
BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; from sidecar.processes.nursery import main; main(int(sys.argv[1]))"
)
# In a terminal, Ctrl-C and a hang-up go to the whole process group; they are the supervisor's to act on.
TERMINAL: Final = frozenset((signal.SIGINT, signal.SIGHUP))
# The nursery ends with its supervisor, not before.
HEEDLESS: Final = TERMINAL | {signal.SIGTERM}


class Spawned:
    """A running child. control: our end of its control channel, which is ours to close."""

    def __init__(self, pid: int, pidfd: int, control: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.control = control

    def kill(self) -> None:
        """Fine where it has ended and is not reaped."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit status, the number of the signal that ended it as a negative one. Call it once pidfd is readable."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        return status


Heir = Callable[[Spawned | str], None]  # given a child, or why there is none


class Nursery:
    """The supervisor's side of the nursery. It is started at once, and may be asked before it has imported anything.

    Raises OSError where no process or descriptor can be had.
    """

    def __init__(self) -> None:
        privacy.adopt_orphans()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Callable[[int], None] | None = None
        self._asked: dict[str, tuple[socket.socket, Heir]] = {}
        self._strangers: set[int] = set()  # orphans that had ended at the last look
        self._exec()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def there(self) -> bool:
        """Whether it has a process, be that one that was killed and is not gone yet."""
        return self._process is not None

    @property
    def up(self) -> bool:
        """Whether it may be asked."""
        return self._process is not None and not self._killed

    def attach(self, loop: asyncio.AbstractEventLoop, ended: Callable[[int], None]) -> None:
        """ended: called with the exit status of a nursery that has ended, once all who asked it have been told."""
        self._loop, self._ended = loop, ended
        self._follow(loop)

    def start(self) -> None:
        """Another, after one has ended. Raises OSError."""
        assert self._loop is not None
        self._exec()
        self._follow(self._loop)

    def bear(self, name: str, heir: Heir) -> None:
        """Ask for a child; `heir` is told, once and later. Raises OSError where no descriptor can be had."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._channel.send(Bear(name), [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._asked[name] = ours, heir

    def kill(self) -> None:
        """Fine where it has ended."""
        if self._process is not None:
            self._killed = True
            self._process.kill()

    def close(self) -> None:
        """End it without telling anybody."""
        if self._process is not None:
            self.kill()
            self._reap(self._process)

    def reap_strangers(self, known: Collection[int]) -> None:
        """Reap orphans that were adopted and have ended; to be called every second or so. known: children in use.

        What has ended since the last call may be waited for by whoever started it, such as an interceptor.
        """
        if self._process is None or self._asked:
            return  # one that was just born is not known yet
        ended = {pid for pid in _children() - {self._process.pid, *known} if _has_ended(pid)}
        for pid in ended & self._strangers:
            with contextlib.suppress(ChildProcessError):  # it has been waited for after all
                os.waitpid(pid, 0)
        self._strangers = ended - self._strangers

    def _exec(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-P", "-c", BOOT, str(theirs.fileno()), *sys.path]
        # It begins with these signals blocked, until it ignores them: none may end it while it imports.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDLESS)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._process, self._channel = process, Channel(ours)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        self._channel.attach(loop, self._hear, self.kill)
        loop.add_reader(self._pidfd, self._exited)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        if not isinstance(message, Born) or message.name not in self._asked or len(descriptors) != bool(message.pid):
            for number in descriptors:
                os.close(number)
            self.kill()
            return
        control, heir = self._asked.pop(message.name)
        if message.pid:
            heir(Spawned(message.pid, descriptors[0], control))
        else:
            control.close()
            heir(message.fault)

    def _exited(self) -> None:
        assert self._process is not None
        assert self._ended is not None
        status = self._reap(self._process)
        asked, self._asked = self._asked, {}
        for control, heir in asked.values():
            control.close()  # a child that was made nonetheless ends when it sees this
            heir(f"the nursery ended with status {status}")
        self._ended(status)

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        status = process.wait()
        if self._loop is not None:
            self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._channel.close()
        self._process = None
        return status


def _children() -> set[int]:
    """Process ids of this process's children, those that have ended included."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False  # whoever started it has waited for it
