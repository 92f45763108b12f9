"""A thread that does what waits in a line, over a connection of its own, which it makes anew whenever it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from sidecar.logs import Log
from sidecar.state.database import Connection
from sidecar.state.jobs import Job, Jobs
from sidecar.state.ports import StateError
from sidecar.state.reaching import FIRST_PAUSE_S, LONGEST_PAUSE_S

log = Log("state")

Attempt: TypeAlias = Callable[[Connection, Sequence[Job]], None]


class Worker:
    """attempt: does jobs; those still wanted after it, or after a StateError that it raised, it is given again.

    most: jobs that it may be given at once.  connect: raises StateError.
    """

    def __init__(
        self,
        name: str,
        jobs: Jobs,
        most: int,
        connect: Callable[[], Connection],
        attempt: Attempt,
        closing: threading.Event,
    ) -> None:
        self.trouble = ""
        self._jobs = jobs
        self._most = most
        self._connect = connect
        self._attempt = attempt
        self._closing = closing
        self._connection: Connection | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while jobs := self._jobs.take(self._most):
            self._do(jobs)
        self._disconnect()

    def _do(self, jobs: Sequence[Job]) -> None:
        pause_s = FIRST_PAUSE_S
        while jobs := [job for job in jobs if job.wanted]:
            try:
                self._attempt(self._connected(), jobs)
                continue
            except StateError as error:
                self._lost(error)
                for job in jobs:
                    job.again()
                if len(jobs) > 1:
                    # Whichever of them was too much for the database is not to take the others along.
                    for job in jobs:
                        self._do([job])
                    return
            except Exception as error:
                log.error("state_work_failed", error)
                self._disconnect()
                for job in jobs:
                    job.fail(error)
                return
            if self._closing.wait(pause_s):
                for job in jobs:
                    job.fail(StateError(self.trouble))
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
            if self.trouble:
                log.info("state_found_again", after=self.trouble)
                self.trouble = ""
        return self._connection

    def _lost(self, error: StateError) -> None:
        if str(error) != self.trouble:
            log.error("state_lost", error)
        self.trouble = str(error)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
