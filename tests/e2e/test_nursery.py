"""The nursery, which makes every child: what a child has of it, and what follows when it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.processes.nursery import NAME
from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.peers.targets import Target, plain_stream, plain_unary
from tests.processes import Process
from tests.sidecars import Sidecar, children_of, descriptors, guarded, name_of, write
from tests.waiting import eventually

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with echo() as (_, address):
        yield address


def config(certificates: Certificates, upstream: str, **more: Any) -> dict[str, Any]:
    made = guarded(certificates, upstream)
    # The service lives in this process, which opens other ports too.
    made["upstream"]["unsafe_open_upstream"] = True
    return {**made, "workers": 1, **more}


def answers(sidecar: Sidecar, certificates: Certificates) -> bool:
    with Target(sidecar.address, certificates).channel() as channel:
        return bool(plain_unary(channel, UNARY)(b"hello", timeout=DEADLINE_S) == b"hello")


def replaced(sidecar: Sidecar, nursery: int) -> None:
    eventually(lambda: sidecar.nursery not in (0, nursery), "another nursery", DEADLINE_S)


def end(sidecar: Sidecar, number: signal.Signals = signal.SIGKILL) -> str:
    """End the worker; its name."""
    [(name, pid)] = sidecar.children("worker").items()
    os.kill(pid, number)
    return name


def succeeded(sidecar: Sidecar, name: str) -> None:
    eventually(lambda: set(sidecar.children("worker")) - {name} != set(), "another worker", DEADLINE_S)


def ask(sidecar: Sidecar) -> None:
    """Have a worker asked for of a nursery that is stopped."""
    os.kill(sidecar.nursery, signal.SIGSTOP)
    held = len(descriptors(sidecar.process.pid))
    end(sidecar)
    # Its pidfd and control channel are closed; the end of a new one is held, and a copy of the listening socket.
    eventually(lambda: sidecar.logged("child_ended") != [], "the worker has ended")
    eventually(lambda: len(descriptors(sidecar.process.pid)) == held, "another is asked for")


def test_killed_while_children_run(start_sidecar: StartSidecar, certificates: Certificates, upstream: str) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        nursery, workers = sidecar.nursery, sidecar.children("worker")
        with Target(sidecar.address, certificates).channel() as channel:
            stream = plain_stream(channel, STREAM)(iter([b"first", b"last"]), timeout=DEADLINE_S)
            assert next(stream) == b"first"
            os.kill(nursery, signal.SIGKILL)
            replaced(sidecar, nursery)
            assert list(stream) == [b"last"]
        assert sidecar.children("worker") == workers
        name = end(sidecar)
        succeeded(sidecar, name)
        assert answers(sidecar, certificates)
        assert [line["status"] for line in sidecar.logged("nursery_ended")] == [-signal.SIGKILL]


def test_killed_while_it_is_asked_for_a_child(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    faults = frozenset({"child_not_started"})
    with start_sidecar(config(certificates, upstream), faults=faults) as sidecar:
        nursery = sidecar.nursery
        ask(sidecar)
        os.kill(nursery, signal.SIGKILL)
        replaced(sidecar, nursery)
        assert answers(sidecar, certificates)
        assert [line["detail"] for line in sidecar.logged("child_not_started")] == ["the nursery ended with status -9"]


def test_stopped_while_it_is_asked_for_a_child_it_does_not_hold_up_the_end(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    made = config(certificates, upstream)
    made["listen"]["grace"] = "1s"
    faults = frozenset({"child_not_started", "child_killed"})
    with start_sidecar(made, faults=faults) as sidecar:
        ask(sidecar)
        os.kill(sidecar.process.pid, signal.SIGTERM)
        assert sidecar.process.wait(30) == 0


def test_a_worker_that_is_born_while_the_sidecar_stops_serves_who_waits(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        ask(sidecar)
        with Target(sidecar.address, certificates).channel() as channel:
            call = plain_unary(channel, UNARY).future(b"hello", timeout=DEADLINE_S)
            eventually(lambda: connections_to(sidecar) == 1, "the call waits at the listening socket")
            os.kill(sidecar.process.pid, signal.SIGTERM)
            eventually(lambda: sidecar.logged("stopping") != [], "the sidecar stops")
            os.kill(sidecar.nursery, signal.SIGCONT)
            assert call.result() == b"hello"
        assert sidecar.process.wait(DEADLINE_S) == 0
        assert connections_to(sidecar) == 0


def connections_to(sidecar: Sidecar) -> int:
    """TCP connections, established, at the sidecar's end."""
    port = int(sidecar.address.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


@pytest.mark.parametrize("nursery_too", [False, True], ids=["the recorder", "the recorder and the nursery"])
def test_crashed_while_the_sidecar_drains(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, nursery_too: bool
) -> None:
    faults = frozenset({"child_not_started"} if nursery_too else ())  # where it is asked before its end is noticed
    with start_sidecar(config(certificates, upstream), faults=faults, status=1) as sidecar:  # a child has crashed
        [(name, recorder)] = sidecar.children("recorder").items()
        finish = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"first"
            finish.wait(DEADLINE_S)
            yield b"last"

        with Target(sidecar.address, certificates).channel() as channel:
            stream = plain_stream(channel, STREAM)(requests(), timeout=DEADLINE_S)
            assert next(stream) == b"first"
            os.kill(sidecar.process.pid, signal.SIGTERM)
            eventually(lambda: sidecar.logged("draining") != [], "the worker drains")
            if nursery_too:
                os.kill(sidecar.nursery, signal.SIGKILL)
            os.kill(recorder, signal.SIGSEGV)
            eventually(lambda: set(sidecar.children("recorder")) - {name} != set(), "another recorder", DEADLINE_S)
            finish.set()
            assert list(stream) == [b"last"]
        assert sidecar.process.wait(DEADLINE_S) == 1
        assert len(sidecar.logged("nursery_ended")) == nursery_too
        assert [event["kind"] for event in sidecar.events()][-1] == "sidecar.stopped"


def test_killed_before_anything_serves_it_ends_the_start(
    certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    file = tmp_path / "sidecar.yaml"
    write(file, {**config(certificates, upstream), "state": {"directory": str(tmp_path / "state")}})
    with Process([sys.executable, "-m", "sidecar", "serve", "--config", str(file)]) as process:
        eventually(lambda: NAME in map(name_of, children_of(process.pid)), "the nursery is there")
        for pid in children_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        assert process.wait(30) == 1
        assert "the nursery ended with status -9 before everything was ready" in process.log
        assert "listening" not in process.log


def test_it_is_told_to_end_by_its_supervisor_alone(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        nursery = sidecar.nursery
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(nursery, number)
        name = end(sidecar)
        succeeded(sidecar, name)
        assert sidecar.nursery == nursery
        assert os.listdir(f"/proc/{nursery}/task") == [str(nursery)]  # one thread


def test_a_child_that_crashes_is_succeeded_by_one_of_another_nursery(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        nursery, name = sidecar.nursery, end(sidecar, signal.SIGSEGV)
        replaced(sidecar, nursery)
        succeeded(sidecar, name)
        assert answers(sidecar, certificates)
        assert sidecar.logged("child_not_started") == []


def test_a_child_that_crashes_while_another_is_asked_for_holds_nobody_back(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        nursery, workers = sidecar.nursery, set(sidecar.children("worker"))
        [(name, recorder)] = sidecar.children("recorder").items()
        ask(sidecar)
        os.kill(recorder, signal.SIGSEGV)
        replaced(sidecar, nursery)
        eventually(lambda: set(sidecar.children("worker")) - workers != set(), "another worker", DEADLINE_S)
        eventually(lambda: set(sidecar.children("recorder")) - {name} != set(), "another recorder", DEADLINE_S)
        assert answers(sidecar, certificates)
        assert sidecar.logged("child_not_started") == []


TELLER = """
import json, os, random, secrets, signal, ssl, subprocess, tempfile
from interceptors.contract import Interceptor

class Teller(Interceptor):
    name = "teller"

    def __init__(self):
        start = "for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 >&- 2>&- & echo $!; done"
        orphans = subprocess.run(["sh", "-c", start], stdout=subprocess.PIPE).stdout
        os.write(2, (json.dumps({
            "event": "told", "pid": os.getpid(), "environment": sorted(os.environ),
            "orphans": [int(pid) for pid in orphans.split()],
            "random": [random.random(), ssl.RAND_bytes(8).hex(), secrets.token_hex(8),
                       next(tempfile._get_candidate_names())],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "terminated": str(signal.getsignal(signal.SIGTERM)),
        }) + "\\n").encode())
"""


def test_children_begin_alike_and_draw_other_numbers(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    (tmp_path / "teller.py").write_text(TELLER)
    made = config(certificates, upstream, workers=2, interceptors=[{"use": f"{tmp_path}/teller.py:Teller"}])
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000000"}
    with start_sidecar(made, environment=told) as sidecar:
        said = {line["pid"]: line for line in sidecar.logged("told")}
        orphans = {orphan for line in said.values() for orphan in line["orphans"]}
        adopted = orphans & set(children_of(sidecar.process.pid))
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
        assert adopted == orphans
        eventually(lambda: not any(map(name_of, orphans)), "orphans that have ended are reaped")
        own = said.pop(sidecar.process.pid)
        assert sorted(said) == sorted(sidecar.children("worker").values())
        for line in said.values():
            assert line["environment"] == own["environment"]
            assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"}.isdisjoint(line["environment"])
            assert line["blocked"] == []
            assert line["terminated"] == str(signal.Handlers.SIG_DFL)
        one, other = (line["random"] for line in said.values())
        assert all(mine != theirs for mine, theirs in zip(one, other, strict=True)), json.dumps([one, other])
