"""Events as lines: what a reader gets back is what was recorded, whatever the caller put into it."""

from __future__ import annotations

import json
import math
import sys
import uuid
from dataclasses import fields
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.events import Event
from sidecar.audit.frames import plain
from sidecar.audit.ids import Ids
from sidecar.audit.lines import Lines, printable

TEXT_FIELDS = ("kind", "tenant", "principal", "source", "method", "model", "reason", "would_deny", "trace_id")
NOW = 1_763_899_999.5
# Every code point, lone surrogates too; the usual strategy reads Unicode's tables first, which takes a second.
any_text = st.lists(st.one_of(st.integers(0, 0x7F), st.integers(0, sys.maxunicode)).map(chr), max_size=40).map("".join)


def lines() -> Lines:
    return Lines(Random(1).getrandbits)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_763_899_999.123456, "2025-11-23T12:13:19.123456Z"),
        (1_763_899_999.9999999, "2025-11-23T12:13:20.000000Z"),
        (1_709_164_800.0, "2024-02-29T00:00:00.000000Z"),
        (-1.0, "1970-01-01T00:00:00.000000Z"),
        (math.nan, "1970-01-01T00:00:00.000000Z"),
        (math.inf, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_time_is_rfc_3339_utc_with_microseconds(moment: float, text: str) -> None:
    assert json.loads(lines().line(plain(Event("call.allowed", moment)), NOW))["time"] == text


def test_a_line_holds_every_field_in_one_order() -> None:
    event = Event("call.denied", NOW, principal="dns:a", source="10.0.0.1", method="/a.B/C", model="m", status=7)
    event.reason, event.seconds, event.requests, event.responses, event.count = "no rule", 0.25, 2, 1, 3
    written = json.loads(lines().line(plain(event), NOW))
    assert list(written) == ["id", "time", "kind", *TEXT_FIELDS[1:6], "status", "reason", "would_deny", "seconds",
                             "requests", "responses", "trace_id", "count", "process", "sequence"]  # fmt: skip
    # How it was to be written is no news to a reader of the file; every other field of an event is there.
    assert {"durability", "fold", *written} == {"id", "process", "sequence", *(field.name for field in fields(Event))}
    assert all(written[name] == getattr(event, name) for name in list(written)[2:-2])


@given(st.lists(any_text, min_size=len(TEXT_FIELDS), max_size=len(TEXT_FIELDS)))
def test_any_text_comes_back_from_one_line_of_ascii(texts: list[str]) -> None:
    event = Event("", NOW)
    for name, text in zip(TEXT_FIELDS, texts, strict=True):
        setattr(event, name, text)
    line = lines().line(plain(event), NOW)
    assert line.isascii()
    assert line.count("\n") == 1
    assert not any(ord(c) < 0x20 for c in line[:-1])
    written = json.loads(line)
    assert [written[name] for name in TEXT_FIELDS] == [printable(text) for text in texts]


def test_printable_leaves_all_but_lone_surrogates() -> None:
    assert printable('é\u2028\x00"\U0001f600') == 'é\u2028\x00"\U0001f600'
    assert printable("a\udc80b") == r"a\udc80b"


@given(st.floats(), st.floats())
def test_any_number_gives_json_without_nan(moment: float, seconds: float) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    written = json.loads(lines().line(plain(Event("k", moment, seconds=seconds)), NOW), parse_constant=refuse)
    expected = seconds if math.isfinite(seconds) and abs(seconds) < 1e12 else 0.0
    assert written["seconds"] == pytest.approx(expected, abs=1e-6)


def test_a_field_of_a_wrong_type_raises() -> None:
    with pytest.raises(TypeError):
        lines().line(plain(Event("k", NOW, model=None)), NOW)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=50), st.integers(0, 2**32))
def test_ids_are_uuid_7_and_rise_whatever_the_clock_does(moments: list[float], seed: int) -> None:
    ids = Ids(Random(seed).getrandbits)
    named = [ids.next(moment) for moment in moments]
    assert all(uuid.UUID(name).version == 7 and uuid.UUID(name).variant == uuid.RFC_4122 for name in named)
    assert all(str(uuid.UUID(name)) == name for name in named)
    assert named == sorted(set(named))
    assert uuid.UUID(named[0]).int >> 80 == int(moments[0] * 1000)


def test_ids_rise_when_the_random_part_overflows() -> None:
    ids = Ids(lambda n: (1 << n) - 1)
    named = [ids.next(1.0)]
    ids._high, ids._low = (1 << 12) - 1, (1 << 62) - 2  # as after some 2**42 ids within one millisecond
    named += [ids.next(1.0), ids.next(1.0)]
    assert named == sorted(set(named))
    assert uuid.UUID(named[1]).int >> 80 == 1001
