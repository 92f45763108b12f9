"""Child processes that cannot outlive the benchmark, whichever way it ends.

Each child leads a session of its own, so that Ctrl-C reaches the benchmark alone and it stops the children in
order; the kernel kills them should the benchmark itself be killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, TypeVar

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT

T = TypeVar("T")
POLL_S = 0.02


def program(name: str, package: str) -> str:
    """The path of an installed program. Raises BenchError naming the Debian package that brings it."""
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is not installed: apt-get install {package}")
    return found


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that children are stopped."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


class Process:
    """A running child: its name, pid, and the file that has its stdout and stderr."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Path, stop_s: float) -> None:
        self.name = name
        self.log = log
        self.stop_s = stop_s
        self.pid = child.pid
        self._child = child

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def exit_status(self) -> int | None:
        return self._child.poll()

    def wait_for(self, ready: Callable[[], T | None], what: str, within_s: float = 30.0) -> T:
        """What `ready` gives as soon as it gives something.

        Raises BenchError, with the end of the log, when the process ends first or the time passes.
        """
        until = time.monotonic() + within_s
        while True:
            answer = ready()
            if answer is not None:
                return answer
            ended = self.exit_status()
            if ended is not None or time.monotonic() > until:
                state = f"ended with status {ended}" if ended is not None else f"did not within {within_s:g} s"
                raise BenchError(f"{self.name}: expected it to {what}, it {state}; its last lines:\n{self.tail()}")
            time.sleep(POLL_S)

    def ended(self, within_s: float) -> int:
        """The exit status, once it has ended. Raises BenchError when the time passes first."""
        try:
            return self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            raise BenchError(
                f"{self.name} has not ended after {within_s:g} s; its last lines:\n{self.tail()}"
            ) from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process and everything in its session; kill what has not ended after `stop_s` seconds."""
        try:
            self._signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(self.stop_s)
        finally:
            self._signal(signal.SIGKILL)
            self._child.wait(self.stop_s)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def tail(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])


class Processes:
    """Starts children in a folder for this run; stops them all, last first, and removes it when the block ends.

    stop_s: seconds that a child may take to end before it is killed.
    """

    def __init__(self, folder: Path, stop_s: float = 10.0) -> None:
        self.folder = folder
        self.stop_s = stop_s
        self._running: list[Process] = []

    def __enter__(self) -> Processes:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._running:
            self._running.pop().stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str, command: Sequence[str], core: int | None = None, cwd: Path = ROOT) -> Process:
        """Start `command`, on `core` where one is given, else where the benchmark itself runs."""
        pinned = [] if core is None else [program("taskset", "util-linux"), "-c", str(core)]
        bound = [program("setpriv", "util-linux"), "--pdeathsig", "KILL", "--"]
        log = self.folder / f"{name}.log"
        with log.open("wb") as sink:
            child = subprocess.Popen(
                [*pinned, *bound, *command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        running = Process(name, child, log, self.stop_s)
        self._running.append(running)
        return running

    def run(self, name: str, command: Sequence[str], within_s: float) -> str:
        """Run `command` to its end and give its stdout and stderr.

        Raises BenchError when it fails or has not ended after `within_s` seconds.
        """
        child = self.start(name, command)
        try:
            status = child.ended(within_s)
        finally:
            self.stop(child)
        if status != 0:
            raise BenchError(f"{name} ended with status {status}; its last lines:\n{child.tail()}")
        return child.output()

    def stop(self, child: Process) -> None:
        """Stop one child before the block ends."""
        child.stop()
        self._running.remove(child)
