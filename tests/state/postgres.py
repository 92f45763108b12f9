"""A PostgreSQL server of the tests' own: on a Unix socket, as a user without privileges, for root it refuses."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.waiting import eventually

FOLDER = Path("/usr/lib/postgresql/15/bin")
NEEDED = "PostgreSQL 15 is not installed (Debian: postgresql-15)"
NOBODY = 65534
START_S = 60.0


def binary(name: str) -> str | None:
    return shutil.which(name, path=str(FOLDER)) or shutil.which(name)


def there() -> bool:
    return binary("initdb") is not None and binary("postgres") is not None


class Server:
    """Started when it is made. Its databases sort as English does, so that an order that is not asked for shows."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lt-postgres-"))
        self._as: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self.folder, NOBODY, NOBODY)
        self._numbers = itertools.count(1)
        initdb = [binary("initdb"), "-D", self.folder / "data", "-U", "sidecar", "--auth=trust", "--encoding=UTF8",
                  "--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--no-sync"]  # fmt: skip
        subprocess.run(
            [str(word) for word in initdb], check=True, capture_output=True, cwd="/", timeout=120, **self._as
        )  # type: ignore[call-overload]
        self._start()

    def new_database(self) -> str:
        """The address of one that nobody has used."""
        name = f"test_{next(self._numbers)}"
        self.run("postgres", f"CREATE DATABASE {name}")
        return self.address(name)

    def drop(self, url: str) -> None:
        self.run("postgres", f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def disconnect(self, url: str) -> None:
        """Whoever uses it loses the connection."""
        name = _name(url)
        self.run("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def demand_password(self, url: str, user: str, password: str) -> None:
        """Of a new user, to whom a database is opened."""
        self.run("postgres", f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        self.run("postgres", f"GRANT ALL ON DATABASE {_name(url)} TO {user}")
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
        self.run("postgres", "SELECT pg_reload_conf()")

    def address(self, name: str) -> str:
        return f"postgresql://sidecar@/{name}?host={self.folder}"

    def run(self, name: str, sql: str) -> None:
        """name: a database's, or its address."""
        with psycopg.connect(self.address(_name(name)), autocommit=True) as connection:
            connection.execute(sql)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Every process of it stands still: connections stay, and nothing answers."""
        pids = self._all(signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Every process of it is killed, as by a crash."""
        self._all(signal.SIGKILL)
        self._process.wait()
        try:
            yield
        finally:
            self._start()

    def close(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_S)
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        words = [binary("postgres"), "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self._as
        )
        eventually(self._answers, "PostgreSQL answers", START_S)

    def _answers(self) -> bool:
        try:
            self.run("postgres", "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _all(self, number: int) -> list[int]:
        """Signal the first process, which forks no more then, and what it has forked; the ids of all."""
        first = self._process.pid
        os.kill(first, signal.SIGSTOP)
        pids = [*map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split()), first]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0] or url
