"""A PostgreSQL server of the bench's own: on a Unix socket, as a user without privileges, for root it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.harness.errors import BenchError
from bench.harness.processes import Process, Processes

FOLDER: Final = Path("/usr/lib/postgresql/15/bin")  # as Debian has it, off the PATH
NOBODY: Final = 65534
START_S: Final = 60.0


class Postgres:
    """Started when it is made; `sidecar` may do all in its database `sidecar`."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._folder = Path(tempfile.mkdtemp(prefix="lt-postgres-"))  # a Unix socket's path is short
        self._as: tuple[str, ...] = ("env", "--chdir=/")
        if os.geteuid() == 0:
            # A process that gives up privileges is not told of its parent's death any more, unless it asks anew.
            self._as += (
                "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig=KILL", "--",
            )  # fmt: skip
            os.chown(self._folder, NOBODY, NOBODY)
        data = str(self._folder / "data")
        processes.run(
            "initdb", [*self._as, _binary("initdb"), "-D", data, "-U", "sidecar", "--auth=trust", "--no-sync",
                       "--encoding=UTF8", "--locale=C.UTF-8"], START_S,
        )  # fmt: skip
        self._process: Process
        self.start()
        self.run("CREATE DATABASE sidecar", database="postgres")

    @property
    def url(self) -> str:
        return self._address("sidecar")

    def start(self) -> None:
        words = [_binary("postgres"), "-D", str(self._folder / "data"), "-k", str(self._folder)]
        self._process = self._processes.start("postgres", [*self._as, *words, "-c", "listen_addresses="])
        self._process.wait_for(self._answers, "answer", START_S)

    def run(self, sql: str, database: str = "sidecar") -> list[tuple[Any, ...]]:
        """The rows of the last statement, where it has any."""
        with psycopg.connect(self._address(database), autocommit=True) as connection:
            found = connection.execute(sql.encode())
            while found.nextset():
                pass
            return found.fetchall() if found.description else []

    def signal(self, number: signal.Signals) -> None:
        """To each of its processes, before another is there."""
        first = self._process.pid
        os.kill(first, signal.SIGSTOP)
        pids = [*map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split()), first]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, immediately: bool) -> None:
        """By an immediate shutdown, or by kill -9 of all its processes."""
        if immediately:
            self._process.stop(signal.SIGQUIT)
        else:
            self.signal(signal.SIGKILL)
        self._processes.stop(self._process)

    def backends(self) -> Sequence[int]:
        """Process ids of those that serve the sidecar, once some do."""

        def found() -> list[int] | None:
            try:
                rows = self.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'langtrain-sidecar'")
            except psycopg.OperationalError:
                return None  # it begins anew
            return [pid for (pid,) in rows] or None

        return self._process.wait_for(found, "serve the sidecar", START_S)

    def close(self) -> None:
        self.end(immediately=True)
        shutil.rmtree(self._folder)

    def _answers(self) -> bool | None:
        try:
            self.run("SELECT 1", database="postgres")
        except psycopg.OperationalError:
            return None
        return True

    def _address(self, database: str) -> str:
        return f"postgresql://sidecar@/{database}?host={self._folder}"


@contextmanager
def postgres(processes: Processes) -> Iterator[Postgres]:
    server = Postgres(processes)
    try:
        yield server
    finally:
        server.close()


def _binary(name: str) -> str:
    found = shutil.which(name, path=str(FOLDER)) or shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is not installed: apt-get install postgresql-15")
    return found
