"""Trace context headers: the cases of w3c/trace-context's conformance suite (test/test.py), and the draft's own."""

from __future__ import annotations

import pytest

from interceptors.w3c import is_tracestate, read_traceparent

TRACE = b"12345678901234567890123456789012"
SPAN = b"1234567890123456"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (GOOD, 1),
        (GOOD[:-2] + b"00", 0),
        (GOOD[:-2] + b"02", 2),  # Level 2: random trace id
        (GOOD[:-2] + b"03", 3),
        (GOOD[:-2] + b"09", 1),  # a flag of the future beside the sampled one
        (GOOD[:-2] + b"ff", 3),
        (b"cc" + GOOD[2:], 1),
        (b"cc" + GOOD[2:-2] + b"03", 1),
        (b"cc" + GOOD[2:] + b"-what-the-future-will-be-like", 1),
        (b"01" + GOOD[2:] + b"-", 1),
        (b" " + GOOD, 1),
        (b"\t" + GOOD + b" \t", 1),
    ],
)
def test_read(value: bytes, flags: int) -> None:
    assert read_traceparent([value]) == (TRACE.decode(), SPAN.decode(), flags)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"ff" + GOOD[2:],
        b"FF" + GOOD[2:],
        b".0" + GOOD[2:],
        b"0." + GOOD[2:],
        b"000" + GOOD[2:],
        b"0000" + GOOD[2:],
        b"0" + GOOD[2:],
        GOOD + b".",
        GOOD + b"-what-the-future-will-be-like",
        GOOD + b"-",
        b"cc" + GOOD[2:] + b".what-the-future-will-be-like",
        b"cc" + GOOD[2:] + b"0",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"cc-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-." + TRACE[1:] + b"-" + SPAN + b"-01",
        b"00-" + TRACE[1:] + b".-" + SPAN + b"-01",
        b"00-" + TRACE + b"3-" + SPAN + b"-01",
        b"00-" + TRACE[1:] + b"-" + SPAN + b"-01",
        b"00-" + b"A" + TRACE[1:] + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE + b"-." + SPAN[1:] + b"-01",
        b"00-" + TRACE + b"-" + SPAN[1:] + b".-01",
        b"00-" + TRACE + b"-" + SPAN + b"7-01",
        b"00-" + TRACE + b"-" + SPAN[1:] + b"-01",
        b"00-" + TRACE + b"-" + b"A" + SPAN[1:] + b"-01",
        GOOD[:-2] + b".0",
        GOOD[:-2] + b"0.",
        GOOD[:-2] + b"001",
        GOOD[:-2] + b"1",
        GOOD[:-2] + b"0A",
        GOOD.replace(b"-", b"_"),
        GOOD + b"\n",
        GOOD + b", " + GOOD,
    ],
)
def test_restart(value: bytes) -> None:
    assert read_traceparent([value]) is None


def test_one_header_and_no_more() -> None:
    assert read_traceparent([]) is None
    assert read_traceparent([GOOD, GOOD]) is None


ALL_KEYS = b"abcdefghijklmnopqrstuvwxyz0123456789_-*/@"
ALL_VALUES = bytes(octet for octet in range(0x20, 0x7F) if octet not in b",=")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"foo=1"],
        [b"foo=1,bar=2"],
        [b"foo=1", b""],
        [b"", b"foo=1"],
        [b"foo=1,bar=2", b"rojo=1,congo=2", b"baz=3"],
        [b"foo=1 \t , \t bar=2, \t baz=3"],
        [b"\t foo=1 \t"],
        [b"foo=1,,bar=2,"],
        [b"foo= 1"],
        [ALL_KEYS + b"=" + ALL_VALUES],
        [ALL_KEYS + b"@a-z0-9_-*/=1"],
        [b"0digit=1"],  # Level 2
        [b"a" * 256 + b"=" + b"1" * 256],
        [b",".join(b"bar%02d=01" % number for number in range(32))],
    ],
)
def test_tracestate(values: list[bytes]) -> None:
    assert is_tracestate(values)


@pytest.mark.parametrize(
    "values",
    [
        [b"foo=1,foo=1"],
        [b"foo=1,foo=2"],
        [b"foo=1", b"foo=2"],
        [b"foo =1"],
        [b"FOO=1"],
        [b"foo.bar=1"],
        [b"@foo=1,bar=2"],
        [b"foo"],
        [b"foo="],
        [b"foo=  "],
        [b"=1"],
        [b"foo=bar=baz"],
        [b"foo=1\x002"],
        [b"foo=\t1"],
        [b"foo=\xc3\xa4"],
        [b"a" * 257 + b"=1"],
        [b"a=" + b"1" * 257],
        [b",".join(b"bar%02d=01" % number for number in range(33))],
        [b",".join(b"bar%02d=01" % number for number in range(32)), b"one=more"],
    ],
)
def test_no_tracestate(values: list[bytes]) -> None:
    assert not is_tracestate(values)
