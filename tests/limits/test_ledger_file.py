"""What the ledger's file must be, and what is said where it is not."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.limits.ledger_file import HEADER, LedgerError
from sidecar.limits.ledger_mmap import SET
from tests.limits.ledgers import Host, drain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.bin"


@pytest.fixture
def used(path: Path) -> Path:
    """A ledger in which something is taken."""
    ledger = Host().ledger(path)
    drain(ledger)
    ledger.close()
    return path


def test_file_and_directory_are_the_owners_alone(used: Path) -> None:
    assert (used.stat().st_mode & 0o777, used.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert used.stat().st_size == HEADER + 16 * SET * 24


def flip(at: int) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)

    return change


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (flip(0), "is no ledger of this version; remove it to start with full buckets"),
        (flip(7), "is no ledger of this version"),
        (flip(8), "has a damaged header"),
        (flip(20), "has a damaged header"),
        (flip(50), "has a damaged header"),
        (lambda path: os.truncate(path, HEADER), f"has {HEADER} bytes, expected {HEADER + 16 * SET * 24}; remove it"),
        (lambda path: path.write_bytes(b"x"), "has 1 bytes"),
        (lambda path: path.write_bytes(bytes(HEADER) + path.read_bytes()[HEADER:]), "is no ledger of this version"),
        (lambda path: path.chmod(0o640), "is open to others: mode 0640, expected 0600"),
        (lambda path: path.parent.chmod(0o770), "is in a directory that others may write to: mode 0770, expected 0700"),
        (linked, "is a symbolic link, expected a file"),
        (piped, "is not a regular file"),
    ],
)
def test_another_file_is_refused_and_left_alone(used: Path, change: Callable[[Path], object], problem: str) -> None:
    change(used)
    before = used.read_bytes() if used.is_file() else b""
    with pytest.raises(LedgerError) as raised:
        Host().ledger(used)
    assert str(raised.value).startswith(f"ledger {used} {problem}")
    assert (used.read_bytes() if used.is_file() else b"") == before


def test_a_file_that_was_not_finished_is_made_anew(used: Path) -> None:
    used.write_bytes(bytes(used.stat().st_size))
    ledger = Host().ledger(used)
    assert drain(ledger) == 100
    ledger.close()


def test_a_process_of_another_boot_is_not_joined(path: Path) -> None:
    host, other = Host(), Host()
    other.reboot()
    ledger = host.ledger(path)
    with pytest.raises(LedgerError, match="is in use by a process that has another boot id"):
        other.ledger(path)
    ledger.close()
    other.ledger(path).close()


def test_the_last_to_leave_makes_it_a_clean_close(path: Path) -> None:
    host = Host()
    one, other = host.ledger(path), host.ledger(path)
    drain(one)
    one.close()
    other.close()
    host.reboot()
    ledger = host.ledger(path)
    assert (drain(ledger), drain(ledger, "new")) == (0, 100)
    ledger.close()


def test_no_descriptor_is_left_where_it_does_not_open(used: Path) -> None:
    flip(8)(used)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(LedgerError):
            Host().ledger(used)
    assert len(os.listdir("/proc/self/fd")) == before
