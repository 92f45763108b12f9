"""The access log: what a line says, rotation, and what happens where it cannot be written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interceptors.events import CallDetail, SpanFact
from sidecar.telemetry import metrics
from sidecar.telemetry.access_log import MOST_KNOWN, AccessLog, LineFile, Lines
from sidecar.telemetry.feed import Plain, plain
from tests.telemetry.boards import Slot, number, slot
from tests.waiting import eventually

line = Lines().line
DETAIL = CallDetail("10.0.0.1", 1, 2, 100, 200, 0.0001, 0.0151234567, 0.01, True)


def fact(name: str = "a.B/C") -> Plain:
    start, end = 1763899999.25, 1763899999.5
    return plain(SpanFact("0a" * 16, "", "", name, start, end, 7, "spiffe://d/a", "m/2", "authorize.no_rule", DETAIL))


@pytest.fixture
def place() -> Slot:
    return slot()


Opened = Callable[..., AccessLog]


@pytest.fixture
def opened(place: Slot) -> Iterator[Opened]:
    logs: list[AccessLog] = []

    def make(path: Path | None, capacity: int = 8192) -> AccessLog:
        logs.append(AccessLog(path, place.taken(), capacity))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def names(path: Path) -> list[str]:
    return [json.loads(each)["method"] for each in path.read_text("ascii").splitlines()]


def test_a_line_says_who_called_what_and_how_it_ended() -> None:
    assert json.loads(line(fact())) == {
        "time": "2025-11-23T12:13:19.500+00:00",
        "method": "a.B/C",
        "status": "PERMISSION_DENIED",
        "decision": "authorize.no_rule",
        "principal": "spiffe://d/a",
        "model": "m/2",
        "trace_id": "0a" * 16,
        "seconds": 0.25,
        "source": "10.0.0.1",
        "requests": 1,
        "responses": 2,
        "request_bytes": 100,
        "response_bytes": 200,
        "chain_seconds": 0.0001,
        "upstream_seconds": 0.015123,
    }


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\x7f", "\u2028", '"}'])
def test_nothing_in_a_line_acts_on_terminals_or_ends_it(name: str) -> None:
    text = line(fact(name))
    assert text.endswith("\n")
    assert text[:-1].isascii()
    assert text[:-1].isprintable()
    assert json.loads(text)["method"] == name


def test_what_is_kept_of_names_is_bounded_and_each_line_has_its_own() -> None:
    lines = Lines()
    found = [json.loads(lines.line(fact(str(number))))["method"] for number in (*range(2 * MOST_KNOWN), 0, 7)]
    assert found == [*map(str, range(2 * MOST_KNOWN)), "0", "7"]
    assert len(lines._known) <= MOST_KNOWN


def test_every_call_has_its_line(tmp_path: Path, opened: Opened, place: Slot) -> None:
    path = tmp_path / "access.jsonl"
    log = opened(path)
    for n in range(3000):
        log.offer([fact(str(n))])
    log.close()
    assert names(path) == [str(n) for n in range(3000)]
    assert number(place, metrics.LINES_WRITTEN) == 3000
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_renamed_under_load_is_followed_by_a_new_one(tmp_path: Path, opened: Opened, place: Slot) -> None:
    path = tmp_path / "access.jsonl"
    log = opened(path, 100_000)
    sent = 0
    for turn in range(10):
        for _ in range(700):
            log.offer([fact(str(sent))])
            sent += 1
        eventually(path.exists, "the log is written")
        path.rename(tmp_path / f"access.{turn}")
    log.close()
    parts = sorted(tmp_path.iterdir(), key=lambda part: int(names(part)[0]))
    assert [name for part in parts for name in names(part)] == [str(n) for n in range(sent)]
    assert len(parts) >= 10
    assert number(place, metrics.LINES_WRITTEN) == sent


def test_a_file_cut_in_place_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    file = LineFile(path)
    file.write(b"one\n")
    os.truncate(path, 0)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_reopening_lets_go_of_the_file(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "access.jsonl"
    log = opened(path)
    log.offer([fact("one")])
    eventually(path.exists, "the log is written")
    held = f"/proc/self/fd/{next(fd for fd in os.listdir('/proc/self/fd') if leads_to(fd, path))}"
    log.reopen()

    def let_go() -> bool:
        try:
            return not os.path.samefile(held, path)
        except FileNotFoundError:
            return True

    eventually(let_go, "the file is let go")
    log.offer([fact("two")])
    log.close()
    assert names(path) == ["one", "two"]


def leads_to(fd: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == str(path)
    except OSError:
        return False


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.jsonl"
    file = LineFile(path)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if data == b"whole\n":
            return real(fd, b"who")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.write(b"whole\n")
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == b"who\nnext\n"


def test_what_cannot_be_written_is_counted_and_said_once(
    tmp_path: Path, opened: Opened, place: Slot, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "away"
    log = opened(directory / "access.jsonl")
    for turn in range(3):
        log.offer([fact()])
        eventually(lambda: number(place, metrics.LINES_DROPPED, ("write",)) == turn + 1, "it is counted")  # noqa: B023
    assert caplog.messages == ["access_log_unwritten"]
    directory.mkdir()
    log.offer([fact("there")])
    log.close()
    assert names(directory / "access.jsonl") == ["there"]


@pytest.mark.parametrize("name", [b"a", None, ["a"], 5])
def test_a_call_that_cannot_be_spelt_keeps_no_other_from_its_line(
    tmp_path: Path, opened: Opened, place: Slot, name: Any
) -> None:
    path = tmp_path / "access.jsonl"
    log = opened(path)
    log.offer([fact("a"), (*fact()[:3], name, *fact()[4:]), fact("b")])
    log.close()
    assert names(path) == ["a", "b"]
    assert number(place, metrics.LINES_WRITTEN) == 2
    assert number(place, metrics.LINES_DROPPED, ("write",)) == 1


def test_a_disk_that_stands_still_costs_a_bounded_queue(tmp_path: Path, opened: Opened, place: Slot) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = opened(path, 100)
    for _ in range(10_000):
        log.offer([fact("x" * 1000)])
    log.close()
    os.close(reader)
    lost = sum(number(place, metrics.LINES_DROPPED, (why,)) for why in ("queue_full", "write"))
    assert lost + number(place, metrics.LINES_WRITTEN) == 10_000
    assert lost > 9_000


def test_a_link_at_the_path_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "access.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        LineFile(tmp_path / "access.jsonl").write(b"x\n")
    assert not (tmp_path / "elsewhere").exists()


def test_stderr_gets_whole_lines(opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    log = opened(None)
    log.offer([fact("one")])
    log.close()
    assert json.loads(capfd.readouterr().err)["method"] == "one"
