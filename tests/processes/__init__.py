"""Child processes of tests: started, waited for with a deadline, and always reaped. Nothing here knows the sidecar."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]


class ProcessError(AssertionError):
    """A child did not do what its test waited for; the message ends with what the child said last."""


class Process:
    """One child with both its outputs read into `lines`; leaving the `with` block kills what still runs.

    command: argument vector.  directory: where it runs.  environment: added to ours.
    """

    def __init__(
        self, command: Sequence[str], *, directory: Path = REPOSITORY, environment: Mapping[str, str] | None = None
    ) -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._closed = False
        self._child = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True)
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                with self._said:
                    self.lines.append(line.rstrip("\n"))
                    self._said.notify_all()
        with self._said:
            self._closed = True
            self._said.notify_all()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def tail(self, count: int = 40) -> str:
        return "\n".join(self.lines[-count:])

    def wait_line(self, wanted: Callable[[str], bool], timeout: float = 30.0) -> str:
        """The first line of output that is wanted. Raises ProcessError after `timeout` seconds or at its end."""
        limit = monotonic() + timeout
        seen = 0
        with self._said:
            while True:
                for line in self.lines[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.lines)
                left = limit - monotonic()
                if self._closed or left <= 0:
                    why = "ended" if self._closed else f"said nothing of the kind within {timeout} s"
                    raise ProcessError(f"{self._child.args!r} {why}:\n{self.tail()}")
                self._said.wait(left)

    def wait(self, timeout: float = 30.0) -> int:
        """Its exit status. Raises ProcessError where it still runs after `timeout` seconds."""
        try:
            status = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self._child.args!r} still runs after {timeout} s:\n{self.tail()}") from None
        self._reader.join(timeout)
        return status

    def terminate(self, timeout: float = 30.0) -> int:
        """Send SIGTERM and return the exit status. Raises ProcessError where it does not end in time."""
        self._child.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it and its descendants in its session, and reap it; fine when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._reader.join(5)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
