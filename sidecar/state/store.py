"""The `ports.Store` over a database: one thread writes, in groups that share a commit, and a few others read.

A group is one transaction, in which each work has a savepoint of its own: what one raises undoes that one. While a
group is committed the next gathers, so the more is written at once, the more each commit carries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import Final, TypeVar

from sidecar.logs import Log
from sidecar.state import migrations
from sidecar.state.database import Connection, Database
from sidecar.state.jobs import Job, Jobs
from sidecar.state.migrations import Migration
from sidecar.state.ports import DEADLINE_S, Head, LostError, OutcomeUnknownError, Reading, StateError, Transaction
from sidecar.state.reaching import Reaching
from sidecar.state.transaction import Work, head
from sidecar.state.worker import Worker

log = Log("state")

T = TypeVar("T")
GROUP: Final = 128  # works of one commit
READERS: Final = 4
CLOSE_S: Final = 5.0
ATTEMPTS: Final = 3  # in which the database was lost over one work: then it is the work's fault


class DatabaseStore:
    """Brings the database to this version first. Raises SchemaError, and StateError where it cannot be used.

    One that is remote and away is brought to it once it can be reached; until then works are told why they wait.
    committed: told the number of the last change, by the thread that wrote it and right after; it returns at once.
    clock: Unix seconds.  Closes the database when it is closed, and where it cannot be opened.
    """

    def __init__(
        self,
        database: Database,
        *,
        known: Sequence[Migration] | None = None,
        committed: Callable[[int], None] = lambda sequence: None,
        clock: Callable[[], float] = time,
        readers: int = READERS,
    ) -> None:
        self._database = database
        self._committed = committed
        self._clock = clock
        self._known = migrations.shipped() if known is None else tuple(known)
        self._head: Head | None = None  # None until it was reached once
        self._reaching = Reaching(self._connect)
        self._closing = threading.Event()
        try:
            self._reaching.connect().close()
        except BaseException as error:
            if not (database.remote and isinstance(error, LostError)):
                database.close()
                raise
            log.error("state_away", error)
        self._writes, self._reads = Jobs(database.title), Jobs(database.title)
        self._writer = self._worker("state-write", self._writes, GROUP, self._write_all)
        self._readers = [self._worker("state-read", self._reads, 1, self._read_all) for _ in range(readers)]

    def write(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        job = Job(work, monotonic() + deadline_s)
        self._writes.put(job)
        value: T = job.result(lambda: self._writer.trouble or self._database.title)
        return value

    def read(self, work: Callable[[Reading], T], deadline_s: float = DEADLINE_S) -> T:
        job = Job(work, monotonic() + deadline_s)
        self._reads.put(job)
        value: T = job.result(
            lambda: next(filter(None, (each.trouble for each in self._readers)), self._database.title)
        )
        return value

    def close(self) -> None:
        """Do what waits, where the database can be reached, and nothing more. Takes CLOSE_S at most."""
        self._writes.close()
        self._reads.close()
        self._closing.set()
        until = monotonic() + CLOSE_S
        for worker in (self._writer, *self._readers):
            worker.thread.join(max(0.0, until - monotonic()))
        self._database.close()

    def _worker(self, name: str, jobs: Jobs, most: int, attempt: Callable[[Connection, Sequence[Job]], None]) -> Worker:
        return Worker(name, jobs, most, self._reaching.connect, attempt, self._closing)

    def _connect(self) -> Connection:
        """To the same database as before, and no older one: else what was acknowledged, or revoked, is undone there."""
        if self._head is None:
            ran = migrations.migrate(self._database, self._known, self._clock())
            if ran:
                log.info("state_migrated", database=self._database.title, migrations=ran)
        connection = self._database.connect()
        try:
            migrations.verify(connection, self._database.title, self._known)
            found = head(connection)
            known = self._head = self._head or found
            if found.identity != known.identity:
                raise StateError(f"{self._database.title} is another database than it was; start anew to use it")
            if found.sequence < known.sequence:
                raise StateError(f"{self._database.title} went back to change {found.sequence}, "
                                 f"and {known.sequence} had been written; start anew to use it")  # fmt: skip
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_all(self, connection: Connection, jobs: Sequence[Job]) -> None:
        connection.begin(write=True, until=max(job.until for job in jobs))
        before, now = head(connection), self._clock()
        sequence = before.sequence
        became: list[tuple[Job, object, BaseException | None]] = []
        for job in jobs:
            work = Work(connection, sequence, now)
            connection.run("SAVEPOINT work")
            value, error = _did(job, work)
            if error is None:
                sequence = work.sequence
            else:
                connection.run("ROLLBACK TO SAVEPOINT work")
            connection.run("RELEASE SAVEPOINT work")
            became.append((job, value, error))
        if sequence != before.sequence:
            connection.run("UPDATE head SET sequence = ?", (sequence,))
        if self._commit(connection, became) and sequence != before.sequence:
            self._head = before._replace(sequence=sequence)
            self._committed(sequence)

    def _commit(self, connection: Connection, became: Sequence[tuple[Job, object, BaseException | None]]) -> bool:
        """Tell everybody what became of it, once all of it is durable; False, and nothing, where one gave it up."""
        if not all(job.commit() for job, _, failed in became if failed is None):
            connection.rollback()
            for job, _, _ in became:
                job.again()
            return False
        try:
            connection.commit()
        except StateError as error:
            for job, _, failed in became:
                unknown = OutcomeUnknownError(f"{error}: it may have been written")
                job.fail(failed or unknown)
            raise
        for job, value, failed in became:
            job.succeed(value) if failed is None else job.fail(failed)
        return True

    def _read_all(self, connection: Connection, jobs: Sequence[Job]) -> None:
        for job in jobs:
            connection.begin(write=False, until=job.until)
            value, error = _did(job, Work(connection, 0, 0.0))
            connection.rollback()
            if error is None:
                job.succeed(value)
            else:
                job.fail(error)


def _did(job: Job, work: Work) -> tuple[object, BaseException | None]:
    """What a work returned, and what it raised. Raises LostError, for that is not the work's alone."""
    try:
        value = job.work(work)
        work.end()
    except BaseException as error:
        if isinstance(work.failed, LostError):
            job.attempts += 1
            if job.attempts == ATTEMPTS:
                job.fail(work.failed)
            raise work.failed from None
        return None, error
    return value, None
