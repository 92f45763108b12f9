"""The recorder: what it acknowledged is in the file, and it says so before anything is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interceptors.events import Durability, Event
from sidecar.audit.fold import Fold
from sidecar.audit.ports import AuditError, Recorder
from sidecar.audit.recorder_jsonl import CLOSED, JsonlRecorder, Pace
from tests.audit.pump import Pump

ROOT = Path(__file__).parents[2]
QUICK = Pace(interval_s=0.01)


class Disk:
    """os.fdatasync whose syncs wait while `gate` is shut and fail while `failure` is set."""

    def __init__(self) -> None:
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()
        self.failure: OSError | None = None

    def sync(self, fd: int) -> None:
        assert self.gate.wait(20)
        self.syncs += 1
        if self.failure is not None:
            raise self.failure
        os.fdatasync(fd)


class Bench:
    """A recorder on a file of its own, its loop and its disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pump = Pump()
        self.disk = Disk()
        self.recorders: list[JsonlRecorder] = []

    def open(self, pace: Pace = QUICK, **options: Any) -> JsonlRecorder:
        self.recorders.append(JsonlRecorder(self.path, self.pump.call_soon, pace=pace, sync=self.disk.sync, **options))
        return self.recorders[-1]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "audit" / "events.jsonl")
    yield bench
    bench.disk.gate.set()
    for recorder in bench.recorders:
        recorder.close()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    [record] = [record for record in caplog.records if record.message == event]
    fields: dict[str, Any] = record.__dict__["fields"]
    return fields


def commit(number: int = 0) -> Event:
    return Event("call.denied", 1.0, Durability.COMMIT, requests=number)


def batch(number: int = 0) -> Event:
    return Event("call.allowed", 1.0, requests=number)


def test_is_a_recorder(bench: Bench) -> None:
    recorder: Recorder = bench.open()
    assert recorder.failed is None


def test_batch_events_are_written_in_order_without_being_asked(bench: Bench) -> None:
    recorder = bench.open()
    for number in range(1000):
        recorder.record(batch(number))
    bench.pump.until(lambda: bench.path.read_bytes().count(b"\n") == 1000)
    assert [line["requests"] for line in bench.lines()] == list(range(1000))
    assert bench.disk.syncs < 100
    ids = [line["id"] for line in bench.lines()]
    assert ids == sorted(set(ids))


def test_a_commit_does_not_wait_for_company(bench: Bench) -> None:
    recorder = bench.open(Pace(interval_s=3600))
    told: list[BaseException | None] = []
    recorder.record(batch(1))
    recorder.record(commit(2), told.append)
    assert told == []  # never from inside record()
    bench.pump.until(lambda: told)
    assert told == [None]
    assert [line["requests"] for line in bench.lines()] == [1, 2]


def test_many_batch_events_do_not_wait_for_more(bench: Bench) -> None:
    recorder = bench.open(Pace(interval_s=3600, many=8))
    for number in range(10):
        recorder.record(batch(number))
    bench.pump.until(lambda: len(bench.lines()) == 10)


def test_a_long_queue_takes_several_groups(bench: Bench) -> None:
    recorder = bench.open(Pace(interval_s=0.01, group=3))
    bench.disk.gate.clear()
    for number in range(10):
        recorder.record(batch(number))
    bench.disk.gate.set()
    bench.pump.until(lambda: len(bench.lines()) == 10)
    recorder.close()
    assert bench.disk.syncs >= 4
    assert [line["requests"] for line in bench.lines()] == list(range(10))


def test_commits_that_wait_together_share_a_sync(bench: Bench) -> None:
    recorder = bench.open()
    bench.disk.gate.clear()
    told: list[BaseException | None] = []
    for number in range(200):
        recorder.record(commit(number), told.append)
    bench.disk.gate.set()
    bench.pump.until(lambda: len(told) == 200)
    assert told == [None] * 200
    # Those that came while the first group was on its way to the disk are the second.
    assert bench.disk.syncs <= 3


def test_done_follows_its_own_sync(bench: Bench) -> None:
    recorder = bench.open()
    bench.disk.gate.clear()
    durable_at: list[int] = []
    recorder.record(commit(), lambda error: durable_at.append(bench.disk.syncs))
    assert bench.disk.syncs == 0
    assert durable_at == []
    bench.disk.gate.set()
    bench.pump.until(lambda: durable_at)
    assert durable_at == [1]


def test_a_callback_that_raises_keeps_nobody_else_waiting(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: BaseException | None) -> None:
        raise RuntimeError("broken")

    recorder, told = bench.open(), list[BaseException | None]()
    recorder.record(commit(), broken)
    recorder.record(commit(), told.append)
    bench.pump.until(lambda: told)
    assert "audit_callback_failed" in caplog.messages


def test_folded_events_come_out_when_their_window_ends(bench: Bench) -> None:
    now = 0.0
    recorder = bench.open(fold=Fold(window=10), tick=lambda: now)
    for _ in range(50):
        recorder.record(Event("connection.refused", 1.0, source="10.0.0.1", reason="no certificate", fold=True))
    bench.pump.until(lambda: len(bench.lines()) == 1)
    now = 11.0
    bench.pump.until(lambda: len(bench.lines()) == 2)
    assert [line["count"] for line in bench.lines()] == [1, 49]


def test_folded_events_come_out_on_closing(bench: Bench) -> None:
    recorder = bench.open()
    for _ in range(50):
        recorder.record(Event("connection.refused", 1.0, source="10.0.0.1", reason="no certificate", fold=True))
    recorder.close()
    assert [line["count"] for line in bench.lines()] == [1, 49]


def test_what_someone_waits_for_is_not_folded(bench: Bench) -> None:
    recorder, told = bench.open(), list[BaseException | None]()
    for _ in range(3):
        recorder.record(Event("call.denied", 1.0, fold=True), told.append)
        recorder.record(Event("call.denied", 1.0, Durability.COMMIT, fold=True))
    bench.pump.until(lambda: len(told) == 3)
    recorder.close()
    assert [line["count"] for line in bench.lines()] == [1] * 6


def test_closing_writes_all_and_ends_recording(bench: Bench) -> None:
    recorder, told = bench.open(Pace(interval_s=3600)), list[BaseException | None]()
    for number in range(1000):
        recorder.record(batch(number))
    recorder.close()
    recorder.close()
    assert len(bench.lines()) == 1000
    assert recorder.failed == CLOSED
    recorder.record(commit(), told.append)
    bench.pump.until(lambda: told)
    assert str(told[0]) == CLOSED
    assert len(bench.lines()) == 1000
    bench.open()  # the file is free again


def test_closing_takes_a_bounded_time(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    recorder = bench.open(Pace(close_s=0.05))
    bench.disk.gate.clear()
    recorder.record(commit())
    recorder.close()
    assert logged(caplog, "audit_events_unwritten") == {"file": str(bench.path), "count": 1}


def test_a_disk_that_stays_full_does_not_hold_up_closing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    recorder = bench.open(Pace(close_s=3600))
    bench.disk.failure = OSError(errno.ENOSPC, "No space left on device")
    recorder.record(batch())
    recorder.close()
    assert logged(caplog, "audit_events_unwritten") == {"file": str(bench.path), "count": 1}
    assert bench.path.read_bytes() == b""


def test_a_disk_that_fails_fails_those_who_wait_and_recovers(bench: Bench) -> None:
    recorder, told = bench.open(), list[BaseException | None]()
    bench.disk.failure = OSError(errno.ENOSPC, "No space left on device")
    recorder.record(batch(1))
    recorder.record(commit(2), told.append)
    bench.pump.until(lambda: told)
    assert isinstance(told[0], AuditError)
    assert str(told[0]) == recorder.failed == f"audit file {bench.path}: No space left on device"
    recorder.record(commit(3), told.append)
    assert len(told) == 1
    bench.pump.until(lambda: len(told) == 2)
    assert str(told[1]) == str(told[0])
    bench.disk.failure = None
    bench.pump.until(lambda: recorder.failed is None)
    recorder.record(commit(4), told.append)
    bench.pump.until(lambda: len(told) == 3)
    assert told[2] is None
    # What was refused was written later all the same, once, and before what came after.
    assert [line["requests"] for line in bench.lines()] == [1, 2, 3, 4]


def test_a_full_queue_is_told_before_anything_is_lost(bench: Bench) -> None:
    recorder, told = bench.open(Pace(interval_s=0.01, group=4, capacity=40)), list[BaseException | None]()
    bench.disk.gate.clear()
    seen: list[str | None] = []
    for number in range(50):
        seen.append(recorder.failed)
        recorder.record(batch(number))
    assert seen[29] is None
    assert seen[30] == f"audit file {bench.path}: 30 events wait for the disk"
    recorder.record(commit(99), told.append)
    bench.pump.until(lambda: told)
    assert str(told[0]) == f"audit file {bench.path}: 40 events wait for the disk"
    bench.disk.gate.set()
    bench.pump.until(lambda: recorder.failed is None)
    recorder.close()
    lines = bench.lines()
    assert [line["requests"] for line in lines if line["kind"] == "call.allowed"] == list(range(40))
    assert sum(line["count"] for line in lines if line["kind"] == "audit.lost") == 11


def test_an_event_that_no_line_can_hold_leaves_a_line(bench: Bench) -> None:
    recorder = bench.open()
    recorder.record(Event("call.allowed", 1.0, model=None))  # type: ignore[arg-type]
    recorder.record(batch(1))
    recorder.close()
    assert [(line["kind"], line["reason"]) for line in bench.lines()] == [
        ("audit.malformed", "TypeError"),
        ("call.allowed", ""),
    ]


def test_a_writer_that_dies_closes_the_gate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, told = bench.open(), list[BaseException | None]()

    def broken(data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(recorder._file, "append", broken)
    recorder.record(commit(), told.append)
    bench.pump.until(lambda: told)
    assert recorder.failed == str(told[0]) == "the audit writer has stopped: MemoryError"
    recorder.record(commit(), told.append)
    bench.pump.until(lambda: len(told) == 2)
    assert told[1] is not None


def test_a_loop_that_is_closed_stops_nothing(bench: Bench) -> None:
    def closed(function: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    recorder = JsonlRecorder(bench.path, closed, pace=QUICK)
    recorder.record(commit(), lambda error: None)
    recorder.close()
    assert len(bench.lines()) == 1


def test_a_torn_last_line_is_cut_and_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.path.parent.mkdir(0o700)
    bench.path.write_bytes(b'{"kind":"call.allowed"}\n{"kin')
    bench.path.chmod(0o600)
    bench.open().close()
    assert [line["kind"] for line in bench.lines()] == ["call.allowed", "audit.repaired"]
    assert bench.lines()[1]["reason"] == "torn last line of 5 bytes"
    assert logged(caplog, "audit_line_cut") == {"file": str(bench.path), "bytes": 5}


def test_two_recorders_never_share_a_file(bench: Bench) -> None:
    bench.open()
    with pytest.raises(AuditError, match="is in use by another sidecar"):
        bench.open()


@pytest.mark.parametrize("acknowledged", [1, 200, 1000])
def test_after_kill_9_every_acknowledged_event_is_there(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "audit" / "events.jsonl"
    command = [sys.executable, "-m", "tests.audit.commit_writer", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        durable = [int(writer.stdout.readline()) for _ in range(acknowledged)]
        writer.send_signal(signal.SIGKILL)
        durable += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    with_torn_line_cut = JsonlRecorder(path, lambda function: None)
    with_torn_line_cut.close()
    found = Counter(
        line["requests"] for line in map(json.loads, path.read_text().splitlines()) if line["kind"] == "call.denied"
    )
    assert set(durable) <= set(found)
    assert max(found.values()) == 1


def can_mount() -> bool:
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    return tried.returncode == 0


def test_a_file_system_without_space(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("mounting a small file system needs root")
    # The mount lives in a namespace of the process, so nothing can leave it behind.
    script = f"""mount -t tmpfs -o size=256k none {tmp_path} && head -c 128k /dev/zero > {tmp_path}/ballast &&
    exec {sys.executable} -m tests.audit.disk_filler {tmp_path}"""
    ran = subprocess.run(["unshare", "--mount", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["failed"].endswith("events.jsonl: No space left on device")
    assert told["refused"] == told["failed"]
    assert told["whole"]
    assert 50_000 < told["size"] < 131_072
    assert len(told["errors"]) == 2
    assert len(told["lines"]) == told["recorded"]
