"""Boards outlive their workers: counts go on, gauges begin anew, label sets stay within their rows."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry import metrics
from sidecar.telemetry.board import LAYOUT, Board, BoardView, bury
from sidecar.telemetry.layout import ENTRY, KEY_MOST, pack, unpack
from tests.processes import Process
from tests.telemetry.boards import number, rows, scraped, slot
from tests.waiting import eventually

COUNTS_FOR_EVER = """
import os, sys
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
board = Board(os.open(sys.argv[1], os.O_RDWR))
board.set(metrics.CONNECTIONS_OPEN, 7)
while True:
    board.count(metrics.CONNECTIONS)
    board.count(metrics.DENIALS, ("authorize.no_rule",))
"""


def test_a_killed_workers_counts_are_continued(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.board"
    path.touch(0o600)
    place = slot()
    place.fd = os.open(path, os.O_RDWR)
    earlier = 0.0
    for kills in range(1, 6):
        with Process([sys.executable, "-c", COUNTS_FOR_EVER, str(path)]) as worker:
            eventually(lambda: number(place, metrics.CONNECTIONS) > earlier, "the worker counts on")  # noqa: B023
            assert number(place, metrics.CONNECTIONS_OPEN) == 7
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        counted, denied = number(place, metrics.CONNECTIONS), number(place, metrics.DENIALS, ("authorize.no_rule",))
        assert counted > earlier
        assert 0 <= counted - denied <= kills  # one kill falls between two counts at most
        earlier = counted
    Board(place.fd)
    assert number(place, metrics.CONNECTIONS) == earlier
    assert rows(place, metrics.CONNECTIONS_OPEN) == {}


def test_a_reader_sees_nothing_before_there_is_a_writer() -> None:
    place = slot()
    view = BoardView(place.fd)
    assert (list(view.rows()), view.beat()) == ([], 0.0)
    place.taken().count(metrics.CONNECTIONS)
    assert number(place, metrics.CONNECTIONS) == 1.0
    assert view.beat() == 100.0


def test_a_board_of_another_layout_begins_anew() -> None:
    place = slot()
    place.taken().count(metrics.CONNECTIONS)
    os.pwrite(place.fd, b"another version", 8)
    assert list(BoardView(place.fd).rows()) == []
    place.taken()
    assert number(place, metrics.CONNECTIONS) == 0.0


def test_labels_beyond_the_rows_are_other_and_counted() -> None:
    place = slot()
    board = place.taken()
    for reason in range(metrics.REASONS + 10):
        board.count(metrics.TLS_ERRORS, (f"tls.{reason}",))
    found = rows(place, metrics.TLS_ERRORS)
    assert len(found) == metrics.REASONS + 1
    assert found["other",] == (10.0,)
    assert number(place, metrics.OVERFLOWS, ("tls_errors_total",)) == 10.0
    board.count(metrics.TLS_ERRORS, ("tls.0",))
    assert number(place, metrics.TLS_ERRORS, ("tls.0",)) == 2.0


def test_labels_that_do_not_fit_are_other() -> None:
    place = slot()
    place.taken().count(metrics.DENIALS, ("x" * (KEY_MOST + 1),))
    assert rows(place, metrics.DENIALS) == {("other",): (1.0,)}


def test_a_gauges_row_is_free_again_once_unset() -> None:
    place = slot()
    board = place.taken()
    for turn in range(1000):
        board.set(metrics.UPSTREAM_UP, 1.0, (f"10.0.0.{turn}:1",))
        board.unset(metrics.UPSTREAM_UP, (f"10.0.0.{turn - 3}:1",))
    assert sorted(rows(place, metrics.UPSTREAM_UP)) == [(f"10.0.0.{turn}:1",) for turn in (997, 998, 999)]
    assert rows(place, metrics.OVERFLOWS) == {("other",): (0.0,)}


def test_an_info_says_one_thing_at_a_time() -> None:
    place = slot()
    board = place.taken()
    for digest in ("aa", "bb"):
        board.inform(metrics.CONFIG, (digest,))
        assert rows(place, metrics.CONFIG) == {(digest,): (1.0,)}


def test_a_row_half_made_by_a_killed_writer_is_made_anew() -> None:
    place = slot()
    place.taken().count(metrics.DENIALS, ("a",))
    region = LAYOUT.regions[metrics.DENIALS]
    os.pwrite(place.fd, b"\x00\x00", LAYOUT.entry_at(region, 1) + 4)  # as if the end of the entry had not come
    assert rows(place, metrics.DENIALS) == {("other",): (0.0,)}
    place.taken().count(metrics.DENIALS, ("b",))
    assert ("b",) in rows(place, metrics.DENIALS)


def test_the_gauges_of_a_process_that_is_gone_do_not_count() -> None:
    first, second = slot(), slot()
    for place in (first, second):
        board = place.taken()
        board.set(metrics.CONNECTIONS_OPEN, 3)
        board.count(metrics.CONNECTIONS)
    assert scraped(first, second)["connections_open"] == 6
    bury(first.fd)
    assert scraped(first, second)["connections_open"] == 3
    assert "connections_open" not in scraped(first, second, now=111.0)
    assert scraped(first, second)["connections_total"] == 2


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_labels_are_read_as_written(labels: list[str]) -> None:
    packed = pack(tuple(labels))
    clean = tuple(label.replace("\x00", "?").encode("utf-8", "replace").decode() for label in labels)
    fits = len("\0".join(clean).encode()) <= KEY_MOST
    assert (packed is not None) == fits
    if packed is not None:
        assert unpack(packed.ljust(ENTRY, b"\xff")) == clean


@given(st.binary(min_size=ENTRY, max_size=ENTRY))
def test_what_is_no_entry_is_none(noise: bytes) -> None:
    assert unpack(noise) is None
