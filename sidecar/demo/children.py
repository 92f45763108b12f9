"""Child processes that never outlive the demo: each in a session of its own, its output in a log file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sidecar.demo.errors import DemoError

T = TypeVar("T")
# A proxy that is set for the outside must not stand between the demo's own parts.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "no_grpc_proxy": "127.0.0.1,localhost"}
STOP_S = 10.0  # from SIGTERM to SIGKILL
POLL_S = 0.05


class Child:
    """One process.  name: as messages call it.  log: file with both its outputs."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def said(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def wait_for(self, what: str, ready: Callable[[], T | None], seconds: float) -> T:
        """What `ready` returns once that is not None. Raises DemoError where the process ends or time runs out."""
        deadline = time.monotonic() + seconds
        while True:
            if (found := ready()) is not None:
                return found
            if (status := self.process.poll()) is not None:
                raise DemoError(f"{self.name} ended with status {status}, before {what}. It said last:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {seconds:.0f} s. {self.name} said last:\n{self.tail()}")
            time.sleep(POLL_S)

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.said().splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Send a signal to the process and all its descendants; fine when they have ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Children:
    """Processes that end with the `with` block, the youngest first.  directory: where their logs lie."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all: list[Child] = []

    def start(
        self, name: str, command: Sequence[str], *, directory: Path, environment: Mapping[str, str] | None = None
    ) -> Child:
        """directory: where it runs.  environment: added to ours."""
        log = self._directory / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **ENVIRONMENT, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the demo alone, which then ends them in order
            )
        child = Child(name, process, log)
        self._all.append(child)
        return child

    def stop(self, child: Child) -> None:
        """End it and reap it; fine when it has ended."""
        child.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(STOP_S)
        child.signal(signal.SIGKILL)  # descendants that are left, or the process itself
        child.process.wait()
        if child in self._all:
            self._all.remove(child)

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        impatient = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them
        try:
            while self._all:
                self.stop(self._all[-1])
        finally:
            signal.signal(signal.SIGINT, impatient)
