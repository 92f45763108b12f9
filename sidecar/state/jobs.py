"""Works that wait for a thread of the store, and those who wait for them, each until its own deadline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import Any, Final

from sidecar.state.ports import OutcomeUnknownError, StateError, StateTimeoutError

MOST: Final = 10_000  # that wait; beyond it the database is far too slow for what is asked


class Stage(Enum):
    WAITING = auto()  # whatever was done for it so far is not written
    COMMITTING = auto()
    DONE = auto()
    GIVEN_UP = auto()


class Job:
    """One work, and one thread that waits for it. until: monotonic seconds.  attempts: that lost the database."""

    def __init__(self, work: Callable[[Any], Any], until: float) -> None:
        self.work = work
        self.until = until
        self.attempts = 0
        self._stage = Stage.WAITING
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    @property
    def wanted(self) -> bool:
        return self._stage is Stage.WAITING

    def commit(self) -> bool:
        """It is about to be written. False where nobody waits for it any more: then it must not be."""
        return self._move(Stage.WAITING, Stage.COMMITTING)

    def again(self) -> None:
        """It was not written after all."""
        self._move(Stage.COMMITTING, Stage.WAITING)

    def succeed(self, value: Any) -> None:
        self._value = value
        self._end()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def result(self, trouble: Callable[[], str]) -> Any:
        """Wait for it. Raises what the work raised, and StateError at the deadline. trouble: why it may come so far."""
        if not self._done.wait(max(0.0, self.until - monotonic())):
            with self._lock:
                stage = self._stage
                if stage is not Stage.DONE:
                    self._stage = Stage.GIVEN_UP
            if stage is Stage.COMMITTING:
                raise OutcomeUnknownError(f"{trouble()}: no answer in time, it may have been written")
            if stage is not Stage.DONE:
                raise StateTimeoutError(f"{trouble()}: not done in time")
        if self._error is not None:
            raise self._error
        return self._value

    def _move(self, before: Stage, after: Stage) -> bool:
        with self._lock:
            if self._stage is not before:
                return False
            self._stage = after
            return True

    def _end(self) -> None:
        with self._lock:
            if self._stage is not Stage.GIVEN_UP:
                self._stage = Stage.DONE
        self._done.set()


class Jobs:
    """A line of jobs, first come first served, for any number of threads."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise StateError(f"{self._title} is closed")
            if len(self._waiting) >= MOST:
                raise StateError(f"{self._title}: {MOST} works wait already")
            self._waiting.append(job)
            self._changed.notify()

    def take(self, most: int) -> list[Job]:
        """From one to so many, as soon as there are any; none once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
