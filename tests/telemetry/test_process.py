"""The telemetry process with real receivers: what workers send arrives, or is counted and costs nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from interceptors.events import CallDetail, SpanFact
from sidecar.telemetry import metrics
from sidecar.telemetry.feed import BATCH
from sidecar.telemetry.pulse import boot_clock
from sidecar.telemetry.settings import Seats
from tests.processes import REPOSITORY
from tests.telemetry.boards import Slot, number, rows
from tests.telemetry.collector import Collector
from tests.telemetry.running import running
from tests.waiting import eventually

DETAIL = CallDetail("10.0.0.1", 1, 2, 100, 200, 0.0001, 0.015, 0.01, True)


def fact(name: str, span_id: str = "0b" * 8, detail: CallDetail | None = DETAIL) -> SpanFact:
    return SpanFact("0a" * 16, span_id, "", name, 1.0, 2.0, 0, "", "", "allowed", detail)


def test_one_fact_becomes_a_span_and_a_line(tmp_path: Path) -> None:
    collector, path = Collector(), tmp_path / "access.jsonl"
    with running(tmp_path, otlp=f"http://127.0.0.1:{collector.port}", access_log=str(path)) as process:
        process.feed.offer(fact("both"))
        process.feed.offer(fact("line", span_id=""))
        process.feed.offer(fact("span", detail=DETAIL._replace(logged=False)))
        process.feed.flush()
        spans = collector.wait(2)
        assert process.stop() == 0
    collector.stop()
    assert [span.name for span in spans] == ["both", "span"]
    attributes = {pair.key: pair.value for pair in spans[0].attributes}
    assert attributes["client.address"].string_value == "10.0.0.1"
    assert attributes["langtrain.upstream.duration"].double_value == 0.015
    assert attributes["langtrain.response.messages"].int_value == 2
    assert [json.loads(line)["method"] for line in path.read_text().splitlines()] == ["both", "line"]


def test_stopping_sends_and_writes_what_is_held(tmp_path: Path) -> None:
    collector, path = Collector(), tmp_path / "access.jsonl"
    with running(tmp_path, otlp=f"http://127.0.0.1:{collector.port}", access_log=str(path)) as process:
        eventually(lambda: process.serves, "it serves")
        for turn in range(500):
            process.feed.offer(fact(str(turn)))
        assert process.stop() == 0
        assert len(collector.spans()) == 500
        assert len(path.read_text().splitlines()) == 500
    collector.stop()


def test_a_restarted_process_finds_what_was_sent_meanwhile(tmp_path: Path) -> None:
    collector = Collector()
    with running(tmp_path, otlp=f"http://127.0.0.1:{collector.port}") as process:
        process.feed.offer(fact("first"))
        process.feed.flush()
        collector.wait(1)
        eventually(lambda: number(process.own, metrics.SPANS_EXPORTED) == 1, "it is counted")
        process.child.kill()
        for turn in range(BATCH):
            process.feed.offer(fact(str(turn)))
        process.restart()
        collector.wait(1 + BATCH)
        eventually(lambda: number(process.own, metrics.SPANS_EXPORTED) == 1 + BATCH, "totals go on")
    collector.stop()


def dropped(process_rows: dict[tuple[str, ...], tuple[float, ...]]) -> float:
    return sum(values[0] for values in process_rows.values())


def test_an_exporter_that_is_down_loses_spans_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with running(tmp_path, otlp=endpoint, access_log=str(path)) as process:
            sent = 30_000
            for turn in range(sent):
                process.feed.offer(fact(str(turn)))
            process.feed.flush()
            eventually(lambda: number(process.own, metrics.LINES_WRITTEN) > 0, "the access log goes on", 30)
            eventually(lambda: process.serves, "probes are answered")
            assert process.stop() == 0
            lost_here = dropped(rows(process.worker, metrics.SPANS_DROPPED))
            lost_there = dropped(rows(process.own, metrics.SPANS_DROPPED))
            assert lost_here == process.feed.dropped
            assert lost_here + lost_there == sent


def test_a_receiver_that_stands_still_does_not_hold_up_probes_or_the_worker(tmp_path: Path) -> None:
    sent = 30_000
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(tmp_path, otlp=f"http://127.0.0.1:{silent.getsockname()[1]}") as process,
    ):
        for turn in range(sent):
            process.feed.offer(fact(str(turn)))
        process.feed.flush()
        connection, _ = silent.accept()
        with connection:
            assert process.serves
            assert process.stop() == 0
        lost_here = dropped(rows(process.worker, metrics.SPANS_DROPPED))
        lost_there = dropped(rows(process.own, metrics.SPANS_DROPPED))
        assert lost_here == process.feed.dropped
        assert lost_here + lost_there == sent


def test_two_processes_of_one_place_have_a_board_each() -> None:
    """While one is being replaced, its successor counts elsewhere; a third finds the first's, once that has ended."""
    seats = Seats(1)
    place = seats.worker(0)
    holds = (
        "import sys, fcntl; from sidecar.telemetry.watched import free; from sidecar.telemetry import metrics;"
        "free({'board-a': int(sys.argv[1]), 'board-b': int(sys.argv[2])}).count(metrics.CONNECTIONS);"
        "print(flush=True); sys.stdin.read()"
    )
    numbers = [place["board-a"], place["board-b"]]
    command = [sys.executable, "-c", holds, *map(str, numbers)]

    def begun() -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            command, cwd=REPOSITORY, pass_fds=numbers, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        return child

    def counted() -> list[float]:
        return [number(Slot(each), metrics.CONNECTIONS) for each in numbers]

    first, second = begun(), begun()
    assert counted() == [1.0, 1.0]
    first.kill()
    first.communicate()
    third = begun()
    assert counted() == [2.0, 1.0]
    for child in (second, third):
        child.communicate()
    seats.close()


def test_hangup_opens_the_access_log_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    with running(tmp_path, access_log=str(path)) as process:
        process.feed.offer(fact("one"))
        process.feed.flush()
        eventually(lambda: number(process.own, metrics.LINES_WRITTEN) == 1, "a line is written")
        path.rename(tmp_path / "access.1")
        process.child.send_signal(signal.SIGHUP)
        process.feed.offer(fact("two"))
        process.feed.flush()
        eventually(lambda: path.exists() and "two" in path.read_text(), "the new file is written")
        assert process.stop() == 0


def test_probes_tell_of_the_worker(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        eventually(lambda: process.serves, "it serves")
        assert process.get("/readyz")[0] == 503
        board = process.worker.taken()
        board.beat(boot_clock())
        board.set(metrics.UPSTREAM_UP, 1.0, ("m:1",))
        board.set(metrics.RECORDER_UP, 1.0)
        assert process.get("/readyz")[0] == 200
        board.set(metrics.RECORDER_UP, 0.0)
        status, text = process.get("/readyz")
        assert (status, text) == (503, "[-]recorder failed: events cannot be recorded\nfailed\n")
        eventually(lambda: process.scrape().get("workers_alive") == 1, "the worker counts as alive")
        board.beat(1.0)
        assert process.get("/livez") == (503, "[-]workers failed: no sign of life: worker-0\nfailed\n")
        eventually(lambda: process.scrape()["workers_alive"] == 0, "the worker counts as dead")
