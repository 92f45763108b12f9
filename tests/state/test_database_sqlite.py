"""SQLite's file: ours alone, and refused when it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.state.database_sqlite import FILE, LOCK, SqliteDatabase
from sidecar.state.ports import LostError, StateError, Transaction
from tests.state.engines import Sqlite, opened
from tests.state.test_store import put

OTHER_PROCESS = "import sys; from pathlib import Path; from sidecar.state.opening import open_store; open_store(Path(sys.argv[1]), 'sqlite').close()"  # noqa: E501


def open_elsewhere(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, directory], capture_output=True, text=True, timeout=60, check=False
    )


def test_files_are_ours_alone(on_sqlite: Sqlite) -> None:
    before = os.umask(0)
    try:
        with opened(on_sqlite) as store:
            store.write(put("a"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in on_sqlite.directory.iterdir()}
    finally:
        os.umask(before)
    assert modes == {FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600, LOCK: 0o600}
    assert on_sqlite.directory.stat().st_mode & 0o777 == 0o700


def test_a_second_process_is_refused_until_the_first_has_ended(on_sqlite: Sqlite) -> None:
    with opened(on_sqlite) as store:
        refused = open_elsewhere(on_sqlite.directory)
        assert refused.returncode == 1
        assert "state.lock is held by another process" in refused.stderr
        store.write(put("a"))
    assert "of a later version" in open_elsewhere(on_sqlite.directory).stderr


def test_the_log_is_on_disk_before_a_commit_returns(on_sqlite: Sqlite) -> None:
    """2 is FULL (sqlite.org/pragma.html)."""
    with opened(on_sqlite) as store:
        assert store.write(lambda transaction: transaction.row("PRAGMA synchronous")) == (2,)
        assert store.read(lambda reading: reading.row("PRAGMA journal_mode")) == ("wal",)


def test_what_is_too_much_for_the_disk_fails_by_itself_and_keeps_nobody_waiting(on_sqlite: Sqlite) -> None:
    """The bound on pages stands for a full disk: SQLite gives up the whole transaction in either case."""

    def fill(transaction: Transaction) -> None:
        transaction.rows("PRAGMA max_page_count = 30")
        for number in range(30):
            transaction.run("INSERT INTO things (name, body) VALUES (?, ?)", f"full {number}", bytes(8192))

    with opened(on_sqlite) as store, ThreadPoolExecutor(9) as threads:
        full = [threads.submit(store.write, fill, 600.0) for _ in range(2)]
        others = [threads.submit(store.write, put(f"thing {number}"), 600.0) for number in range(20)]
        assert sorted(other.result() for other in others) == list(range(1, 21))
        for each in full:
            with pytest.raises(LostError, match="full"):
                each.result()
        assert store.read(lambda reading: reading.row("SELECT count(*) FROM things")) == (20,)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_directory_that_is_open_to_others_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(StateError, match=f"open to others: mode {mode:04o}, expected 0700"):
        SqliteDatabase(directory)


@pytest.mark.parametrize("name", [FILE, LOCK])
def test_a_file_that_is_open_to_others_or_elsewhere_is_refused(directory: Path, name: str) -> None:
    directory.mkdir(0o700)
    file = directory / name
    file.touch(0o600)
    file.chmod(0o640)
    with pytest.raises(StateError, match=f"{name} is open to others: mode 0640, expected 0600"):
        SqliteDatabase(directory)
    file.unlink()
    file.symlink_to("/dev/null")
    with pytest.raises(StateError, match=f"{name} is a symbolic link"):
        SqliteDatabase(directory)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(StateError, match=name):
        SqliteDatabase(directory)


def test_what_is_no_database_is_refused(directory: Path) -> None:
    directory.mkdir(0o700)
    file = directory / FILE
    file.touch(0o600)
    file.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StateError, match="not a database"):
        SqliteDatabase(directory)


def test_a_damaged_page_is_found_at_the_start(on_sqlite: Sqlite) -> None:
    with opened(on_sqlite) as store:
        for number in range(200):
            store.write(put(f"thing {number:040}"))
    file = on_sqlite.directory / FILE
    octets = bytearray(file.read_bytes())
    for page in range(2, len(octets) // 4096):
        octets[page * 4096 : page * 4096 + 200] = os.urandom(200)
    file.write_bytes(octets)
    with pytest.raises(StateError, match=r"damaged|malformed"):
        SqliteDatabase(on_sqlite.directory)
