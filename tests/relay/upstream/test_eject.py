from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.settings import EjectionSettings
from sidecar.relay.upstream.eject import Record, room

RULES = EjectionSettings(failures=5, ratio=0.5, calls=20, interval_s=10, base_s=10, most_s=25, share=0.5)


def after(calls: str, settings: EjectionSettings = RULES) -> Record:
    """A record of calls, "." for one that went well and "x" for one that failed."""
    record = Record(settings, 0)
    for call in calls:
        if call == "x":
            record.fail()
        else:
            record.succeed()
    return record


@pytest.mark.parametrize(
    ("calls", "bad"),
    [
        ("", False), ("....", False), ("xxxx", False), ("xxxxx", True), ("xxxx.x", False), (".xxxxx", True),
        ("x." * 9, False), ("x." * 10, True), ("x.." * 10, False),
    ],
)  # fmt: skip
def test_too_many_in_a_row_or_too_large_a_share(calls: str, bad: bool) -> None:
    assert after(calls).bad(1) is bad


def test_rules_that_are_off() -> None:
    off = EjectionSettings(failures=0, ratio=0)
    assert not after("x" * 1000, off).bad(1)


def test_the_share_is_of_an_interval() -> None:
    record = after("x." * 9)
    assert not record.bad(11)  # the interval is over
    record.succeed()
    record.fail()
    assert not record.bad(12)


def test_each_time_out_is_longer_until_the_longest() -> None:
    record, now, times = after("xxxxx"), 0.0, []
    for _ in range(4):
        times.append(record.eject(now))
        assert not record.readmit(now + times[-1] - 0.001)
        now += times[-1]
        assert record.readmit(now)
        assert record.until is None
        record.fail()  # back on trial: one is enough
        assert record.bad(now)
    assert times == [10, 20, 25, 25]


def test_good_whiles_count_in_its_favour() -> None:
    record = after("xxxxx")
    record.eject(0)
    record.readmit(10)
    record.fail()
    assert not record.bad(20)  # no longer on trial
    assert record.eject(31) == 10  # two good whiles: the first time again


@given(st.integers(1, 100), st.floats(0, 0.99))
def test_never_all_and_never_more_than_the_share(endpoints: int, share: float) -> None:
    out = 0
    while room(out, endpoints, share):
        out += 1
    assert out < endpoints
    assert out <= max(1, share * endpoints)
    assert out >= min(1, endpoints - 1)
