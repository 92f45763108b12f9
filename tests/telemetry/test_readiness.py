"""When calls should come, by what boards and the disk say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.readiness import BoardReadiness, Needs
from tests.telemetry.boards import Slot, slot

NOW = 1_000_000.0
Turn = Callable[[Board], None]


def well(board: Board) -> None:
    board.set(metrics.UPSTREAM_UP, 1.0, ("m:1",))
    board.set(metrics.UPSTREAM_UP, 0.0, ("m:2",))
    board.set(metrics.RECORDER_UP, 1.0)
    board.set(metrics.FEED_AGE, 0.25, ("policy",))
    board.set(metrics.CERTIFICATE_EXPIRY, NOW + 1, ("listen",))
    board.set(metrics.DRAINING, 0.0)


def readiness(directory: Path, *places: Slot, boot: float = 100.0, min_free: int = 0) -> BoardReadiness:
    workers = [place.process(f"worker-{number}") for number, place in enumerate(places)]
    return BoardReadiness(workers, Needs(directory, min_free, 5.0), lambda: NOW, lambda: boot)


def failures(probe: BoardReadiness) -> dict[str, str]:
    return {check.name: check.reason for check in probe.ready() if not check.passed}


def test_a_sidecar_that_is_well_is_ready(tmp_path: Path) -> None:
    first, second = slot(), slot()
    for place in (first, second):
        well(place.taken())
    assert failures(readiness(tmp_path, first, second)) == {}


@pytest.mark.parametrize(
    ("turn", "failure"),
    [
        (lambda board: board.set(metrics.DRAINING, 1.0), {"draining": "1 workers drain"}),
        (
            lambda board: board.set(metrics.UPSTREAM_UP, 0.0, ("m:1",)),
            {"upstream": "worker-1 reaches none of 2 endpoints"},
        ),
        (lambda board: board.set(metrics.RECORDER_UP, 0.0), {"recorder": "events cannot be recorded"}),
        (lambda board: board.set(metrics.FEED_AGE, 5.5, ("policy",)), {"feed": "policy is silent for 5.5 s"}),
        (lambda board: board.set(metrics.FEED_AGE, math.inf, ("policy",)), {"feed": "policy was never heard of"}),
        (
            lambda board: board.set(metrics.CERTIFICATE_EXPIRY, NOW, ("listen",)),
            {"certificates": "expired: listen"},
        ),
    ],
)
def test_one_worker_that_is_not_well_is_enough(tmp_path: Path, turn: Turn, failure: dict[str, str]) -> None:
    first, second = slot(), slot()
    well(first.taken())
    board = second.taken()
    well(board)
    turn(board)
    assert failures(readiness(tmp_path, first, second)) == failure


def test_a_worker_that_is_gone_fails_liveness_and_not_readiness(tmp_path: Path) -> None:
    first, second = slot(), slot()
    for place in (first, second):
        well(place.taken())
    second.taken().beat(89.0)
    probe = readiness(tmp_path, first, second)
    assert failures(probe) == {}
    [check] = probe.alive()
    assert (check.passed, check.reason) == (False, "no sign of life: worker-1")


def test_a_sidecar_without_workers_is_not_ready(tmp_path: Path) -> None:
    found = failures(readiness(tmp_path, slot()))
    assert found == {"workers": "none gives a sign of life", "upstream": "not reached yet"}


def test_the_disk_must_have_room(tmp_path: Path) -> None:
    place = slot()
    well(place.taken())
    assert "MiB are needed" in failures(readiness(tmp_path, place, min_free=1 << 60))["disk"]
    assert failures(readiness(tmp_path / "away", place)) == {"disk": "state directory: No such file or directory"}
    assert failures(readiness(Path("/proc/self"), place)) != {}
