"""The shared ledger in one process: what is granted, what a full table means, what survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from interceptors.ledger import Bucket
from sidecar.limits.ledger_mmap import SET, MmapLedger
from tests.limits.ledgers import DAY_S, HUNDRED_A_DAY, Host, charge, drain, refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.bin"


def test_a_bucket_is_drained_and_refills_evenly(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path)
    assert drain(ledger) == 100
    taken = ledger.take_all([charge()])
    assert (taken.refusal, taken.at, taken.remaining, taken.retry_after_s) == ("exceeded", 0, 0, 864.0)
    host.passes(863.9)
    assert drain(ledger) == 0
    host.passes(0.1)
    assert drain(ledger) == 1
    host.passes(10 * DAY_S)
    assert drain(ledger) == 100
    ledger.close()


def test_all_are_taken_or_none(path: Path) -> None:
    ledger = Host().ledger(path)
    few = Bucket(3, DAY_S, 3)
    for _ in range(3):
        assert refusal(ledger, charge("a"), charge("few", few)) == ""
    for _ in range(500):
        taken = ledger.take_all([charge("a"), charge("b"), charge("few", few)])
        assert (taken.refusal, taken.at) == ("exceeded", 2)
    assert (drain(ledger, "a"), drain(ledger, "b")) == (97, 100)
    ledger.close()


def test_of_several_refusals_the_longest_wait_is_told(path: Path) -> None:
    ledger = Host().ledger(path)
    soon, late = Bucket(1, 60, 1), Bucket(1, DAY_S, 1)
    assert refusal(ledger, charge("soon", soon), charge("late", late)) == ""
    for order in ((0, 1), (1, 0)):
        both = [charge("soon", soon), charge("late", late)]
        taken = ledger.take_all([both[at] for at in order])
        assert both[order[taken.at]].key == b"late"
        assert taken.retry_after_s == DAY_S
    ledger.close()


def test_what_never_fits_is_told_apart_and_takes_nothing(path: Path) -> None:
    ledger = Host().ledger(path)
    assert refusal(ledger, charge("a"), charge("b", cost=101)) == "too_large"
    assert refusal(ledger, charge("b", cost=1 << 80)) == "too_large"
    assert (drain(ledger, "a"), drain(ledger, "b")) == (100, 100)
    ledger.close()


def test_a_full_table_refuses_the_new_and_forgets_nobody(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path, slots=SET)
    for number in range(SET):
        assert refusal(ledger, charge(f"k{number}")) == ""
    assert [refusal(ledger, charge(f"new{number}")) for number in range(100)] == ["ledger_full"] * 100
    assert host.troubles == ["ledger_full"]  # told once, not with every call
    assert refusal(ledger, charge("k0"), charge("new")) == "ledger_full"
    assert drain(ledger, "k0") == 99
    host.passes(864)  # all but k0 are full again
    assert [drain(ledger, f"new{number}") for number in range(SET - 1)] == [100] * (SET - 1)
    assert drain(ledger, "k0") == 1
    assert refusal(ledger, charge("k1")) == "ledger_full"
    assert host.troubles == ["ledger_full", "ledger_full"]
    ledger.close()


def test_two_new_buckets_of_one_set_get_a_slot_each(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path, slots=SET)
    for number in range(SET - 1):
        refusal(ledger, charge(f"k{number}"))
    assert refusal(ledger, charge("a"), charge("b")) == "ledger_full"
    assert refusal(ledger, charge("a")) == ""
    host.passes(864)
    refusal(ledger, charge("x"))
    assert refusal(ledger, charge("x"), charge("y"), charge("z")) == ""
    assert [drain(ledger, key) for key in "xyz"] == [98, 99, 99]
    ledger.close()


def test_a_rate_that_changes_leaves_what_was_taken(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path)
    drain(ledger)
    more = Bucket(1000, 1, 200)
    assert drain(ledger, bucket=more) == 0  # no full bucket comes with it
    host.passes(0.1)
    assert drain(ledger, bucket=more) == 100  # and nobody waits for the old rate's day
    assert drain(ledger, "other", HUNDRED_A_DAY) == 100
    ledger.close()


def test_a_restart_keeps_what_was_taken(path: Path) -> None:
    host = Host()
    for granted in (100, 0, 0):
        ledger = host.ledger(path)
        assert drain(ledger) == granted
        ledger.close()
    host.passes(864)
    ledger = host.ledger(path)
    assert drain(ledger) == 1
    ledger.close()


def test_a_reboot_after_an_orderly_close_goes_on_where_it_was(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path)
    drain(ledger, "empty")
    for _ in range(60):
        ledger.take_all([charge("less")])
    ledger.close()
    host.reboot()
    ledger = host.ledger(path)
    assert [drain(ledger, key) for key in ("empty", "less", "new")] == [0, 40, 100]
    host.passes(864)
    assert drain(ledger, "empty") == 1
    ledger.close()


def test_a_reboot_without_one_finds_every_bucket_empty(path: Path) -> None:
    host = Host()
    lost = host.ledger(path)
    drain(lost, "empty")
    host.reboot()
    path.write_bytes(path.read_bytes())  # what the disk had; the process that mapped it is gone
    del lost
    copy = path.with_name("copy.bin")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    ledger = host.ledger(copy)
    assert [drain(ledger, key) for key in ("empty", "new")] == [0, 0]
    host.passes(8640)
    assert [drain(ledger, key) for key in ("empty", "new", "newer")] == [10, 10, 10]
    ledger.close()
    ledger = host.ledger(copy)  # a restart in the same boot changes nothing of it
    assert [drain(ledger, key) for key in ("empty", "newest")] == [0, 10]
    ledger.close()


def test_a_clock_that_went_back_is_another_clock(path: Path) -> None:
    host = Host()
    ledger = host.ledger(path)
    drain(ledger)
    ledger.close()
    host.passes(-3600)
    ledger = host.ledger(path)
    assert drain(ledger) == 0
    ledger.close()


def test_folding_is_the_same_for_all_and_stays_below(path: Path) -> None:
    host = Host()
    one, other = host.ledger(path), host.ledger(path)
    names = [f"model-{number}".encode() for number in range(5000)]
    folded = [one.fold(name, 64) for name in names]
    assert folded == [other.fold(name, 64) for name in names]
    assert set(folded) == set(range(64))
    one.close()
    other.close()


def test_two_ledgers_of_one_file_see_each_other(path: Path) -> None:
    host = Host()
    ledgers = [host.ledger(path) for _ in range(3)]
    granted = sum(not ledgers[number % 3].take_all([charge()]).refusal for number in range(300))
    assert granted == 100
    for ledger in ledgers:
        ledger.close()


def test_the_usual_ledger_opens(path: Path) -> None:
    ledger = MmapLedger(path, lambda reason: None)
    assert drain(ledger) == 100
    ledger.close()
