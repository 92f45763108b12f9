"""Processes that end: whoever is killed, only what it was doing is lost, and what waited is served by its successor."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.e2e.load import load
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.peers.targets import Target, plain_stream, plain_unary
from tests.sidecars import Sidecar, children_of, descriptors, guarded, name_of, write
from tests.waiting import eventually

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with echo() as (_, address):
        yield address


def config(certificates: Certificates, upstream: str, **more: Any) -> dict[str, Any]:
    made = guarded(certificates, upstream)
    # The service lives in this process, which opens other ports too.
    made["upstream"]["unsafe_open_upstream"] = True
    return {**made, "workers": 2, **more}


def connector(sidecar: Sidecar, certificates: Certificates) -> Callable[[], grpc.Channel]:
    return Target(sidecar.address, certificates).channel


def kill(sidecar: Sidecar, role: str, number: int = 0) -> str:
    """Kill one process of a role; its name."""
    name, pid = sorted(sidecar.children(role).items())[number]
    os.kill(pid, signal.SIGKILL)
    return name


def restarted(sidecar: Sidecar, role: str, without: str, count: int) -> None:
    eventually(
        lambda: without not in (now := sidecar.children(role)) and len(now) == count, f"{role} {without} replaced"
    )


def both_served(sidecar: Sidecar, times: int) -> None:
    """A successor serves its place for the times-th time: the other has let go of it."""
    eventually(lambda: len(sidecar.logged("place_left")) == times, "a successor serves", 30)


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.soak)])
def test_a_killed_worker_loses_only_its_own_calls(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, kills: int
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        with load(connector(sidecar, certificates), unary=4, streams=4) as running:
            for number in range(kills):
                name = kill(sidecar, "worker", number % 2)
                restarted(sidecar, "worker", name, 2)
                both_served(sidecar, number + 1)
                running.more()
        # A client loses the call that it had open, if it was with the worker that was killed, and perhaps one more that
        # it began on that connection before it saw its end.
        lost = Counter(client for client, _, _ in running.errors)
        assert all(runs <= kills for runs in running.runs.values()), running.errors
        assert all(count <= 2 * running.runs[client] for client, count in lost.items()), running.errors
        assert {status for _, status, _ in running.errors} <= {grpc.StatusCode.UNAVAILABLE}, running.errors
        assert sum(lost.values()) >= kills // 2
        assert len(sidecar.logged("child_ended")) == kills


def test_a_connection_that_waits_for_a_killed_worker_is_served_by_its_successor(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream, workers=1)) as sidecar:
        [(name, pid)] = sidecar.children("worker").items()
        os.kill(pid, signal.SIGSTOP)
        waiting = connections(sidecar, 20)
        os.kill(pid, signal.SIGKILL)
        greeted(waiting, certificates)
        restarted(sidecar, "worker", name, 1)


def test_connections_that_wait_for_a_killed_worker_are_served_by_another_until_its_successor_is_up(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        (name, pid), (other, keeper) = sorted(sidecar.children("worker").items())
        os.kill(pid, signal.SIGSTOP)
        early = connections(sidecar, 20)
        os.kill(sidecar.nursery, signal.SIGSTOP)  # the successor takes its time
        os.kill(pid, signal.SIGKILL)
        greeted(early, certificates)
        greeted(connections(sidecar, 20), certificates)
        [tended] = sidecar.logged("place_tended")
        assert (tended["place"], tended["process"]) == ("worker-0", other)
        os.kill(sidecar.nursery, signal.SIGCONT)
        both_served(sidecar, 1)
        greeted(connections(sidecar, 20), certificates)
        [successor] = successors(sidecar, name, other)
        eventually(lambda: sockets(successor) & sockets(keeper) == set(), "the other has let go of it")


def successors(sidecar: Sidecar, name: str, other: str) -> list[int]:
    return [pid for each, pid in sidecar.children("worker").items() if each not in (name, other)]


def connections(sidecar: Sidecar, count: int) -> list[socket.socket]:
    host, _, port = sidecar.address.rpartition(":")
    return [socket.create_connection((host, int(port)), DEADLINE_S) for _ in range(count)]


def greeted(waiting: list[socket.socket], certificates: Certificates) -> None:
    """Each gets its handshake and the first frame."""
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificates.client.certificate, certificates.client.key)
    for each in waiting:
        with context.wrap_socket(each, server_hostname="localhost") as secured:
            assert secured.recv(9)


def test_a_worker_that_hangs_is_replaced(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream), faults=frozenset({"child_killed"})) as sidecar:
        name, pid = sorted(sidecar.children("worker").items())[0]
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: sidecar.logged("child_killed") != [], "the worker that hangs is killed", 30)
        restarted(sidecar, "worker", name, 2)
        with connector(sidecar, certificates)() as channel:
            assert plain_unary(channel, UNARY)(b"hello", timeout=DEADLINE_S) == b"hello"


def test_a_worker_over_its_memory_is_replaced_and_finishes_its_calls(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    (tmp_path / "hoard.py").write_text(HOARD)
    hoards = [{"use": f"{tmp_path}/hoard.py:Hoard"}]
    with start_sidecar(
        config(certificates, upstream, workers=1, worker_memory="256MiB", interceptors=hoards)
    ) as sidecar:
        [name] = sidecar.children("worker")
        with connector(sidecar, certificates)() as channel:
            send = threading.Semaphore(0)

            def requests() -> Iterator[bytes]:
                for _ in range(2):
                    send.acquire()
                    yield b"message"

            stream = plain_stream(channel, STREAM)(requests(), timeout=60)
            send.release()
            assert next(stream) == b"message"
            with connector(sidecar, certificates)() as other:
                plain_unary(other, UNARY)(b"hoard", timeout=DEADLINE_S)
            eventually(lambda: set(sidecar.children("worker")) - {name} != set(), "a successor")
            eventually(lambda: sidecar.logged("draining") != [], "the worker drains")
            send.release()
            assert next(stream) == b"message"
            assert list(stream) == []
        eventually(lambda: sidecar.logged("child_ended") != [], "the worker has ended")
        assert [line["status"] for line in sidecar.logged("child_ended")] == [0]


def test_a_worker_over_its_memory_that_ends_before_its_successor_is_up_leaves_its_place_tended(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    (tmp_path / "hoard.py").write_text(HOARD)
    hoards = [{"use": f"{tmp_path}/hoard.py:Hoard"}]
    with start_sidecar(config(certificates, upstream, worker_memory="256MiB", interceptors=hoards)) as sidecar:
        os.kill(sidecar.nursery, signal.SIGSTOP)  # the successor takes its time
        with connector(sidecar, certificates)() as channel:
            plain_unary(channel, UNARY)(b"hoard", timeout=DEADLINE_S)
        eventually(lambda: sidecar.logged("child_outgrown") != [], "a successor is wanted")
        name = sidecar.logged("child_outgrown")[0]["process"]
        os.kill(sidecar.children("worker")[name], signal.SIGKILL)
        eventually(lambda: sidecar.logged("place_tended") != [], "another worker takes care of its place")
        greeted(connections(sidecar, 20), certificates)
        os.kill(sidecar.nursery, signal.SIGCONT)
        both_served(sidecar, 1)
        greeted(connections(sidecar, 20), certificates)


HOARD = """
from interceptors.contract import PASS, Call, Interceptor, Message, Verdict, View

HELD = []


class Hoard(Interceptor):
    name = "hoard"
    view = View.BYTES

    def on_request(self, call: Call, message: Message) -> Verdict:
        if message.raw == b"hoard":
            HELD.append(bytearray(300 << 20))
        return PASS
"""


def test_terminated_under_load_every_open_call_ends(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    for _ in range(3):
        with start_sidecar(config(certificates, upstream)) as sidecar:
            finish_open_calls(sidecar, certificates)


@pytest.mark.soak
def test_terminated_fifty_times_under_load(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    for _ in range(50):
        with start_sidecar(config(certificates, upstream)) as sidecar:
            finish_open_calls(sidecar, certificates)


def finish_open_calls(sidecar: Sidecar, certificates: Certificates) -> None:
    """SIGTERM while streams are open: each goes on and ends well, and the sidecar exits with status 0."""
    channels = [connector(sidecar, certificates)() for _ in range(8)]
    sends = [threading.Event() for _ in channels]
    try:
        streams = [
            plain_stream(channel, STREAM)(two(send), timeout=DEADLINE_S)
            for channel, send in zip(channels, sends, strict=True)
        ]
        for stream in streams:
            assert next(stream) == b"first"
        os.kill(sidecar.process.pid, signal.SIGTERM)
        eventually(lambda: len(sidecar.logged("draining")) == 2, "both workers drain")
        for stream, send in zip(streams, sends, strict=True):
            send.set()
            assert list(stream) == [b"last"]
            assert stream.code() is grpc.StatusCode.OK
    finally:
        for channel in channels:
            channel.close()
    assert sidecar.process.wait(DEADLINE_S) == 0


def two(send: threading.Event) -> Iterator[bytes]:
    yield b"first"
    send.wait(DEADLINE_S)
    yield b"last"


def test_a_second_sigterm_ends_it_now(start_sidecar: StartSidecar, certificates: Certificates, upstream: str) -> None:
    with (
        start_sidecar(config(certificates, upstream), status=1) as sidecar,
        connector(sidecar, certificates)() as channel,
    ):
        never = threading.Event()
        stream = plain_stream(channel, STREAM)(two(never), timeout=60)
        assert next(stream) == b"first"
        os.kill(sidecar.process.pid, signal.SIGTERM)
        eventually(lambda: len(sidecar.logged("draining")) == 2, "both workers drain")
        os.kill(sidecar.process.pid, signal.SIGTERM)
        assert sidecar.process.wait(DEADLINE_S) == 1
        with pytest.raises(grpc.RpcError):
            next(stream)
        never.set()


def test_a_killed_supervisor_leaves_nothing_behind(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(
        config(certificates, upstream), status=-signal.SIGKILL, faults=frozenset({"supervisor_gone"})
    ) as sidecar:
        pids = children_of(sidecar.process.pid)
        assert {name_of(pid).partition("-")[0] for pid in pids} == {"nursery", "recorder", "services", "worker"}
        with connector(sidecar, certificates)() as channel:
            send = threading.Event()
            stream = plain_stream(channel, STREAM)(two(send), timeout=DEADLINE_S)
            assert next(stream) == b"first"
            os.kill(sidecar.process.pid, signal.SIGKILL)
            # What is open goes on: the workers drain.
            eventually(lambda: "supervisor_gone" in sidecar.process.log, "the workers notice")
            send.set()
            assert list(stream) == [b"last"]
        eventually(lambda: not any(runs(pid) for pid in pids), "every child has ended", 30)
        ended = [event for event in sidecar.events() if event["method"] == STREAM]
        assert [event["status"] for event in ended] == [0]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_recorder_loses_and_doubles_nothing(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        with load(connector(sidecar, certificates), unary=4, streams=0) as running:
            for _ in range(3):
                name = kill(sidecar, "recorder")
                restarted(sidecar, "recorder", name, 1)
                running.more()
        # Fail closed: while nothing could be recorded, calls were refused, and nothing else went wrong.
        assert {status for _, status, _ in running.errors} <= {grpc.StatusCode.UNAVAILABLE}
        assert all("cannot be recorded" in detail for _, _, detail in running.errors), running.errors[:3]
        calls = running.calls
    events = sidecar.events()
    assert len([event for event in events if event["kind"] == "call.allowed"]) == calls
    numbers = Counter((event["process"], event["sequence"]) for event in events if event["process"])
    assert max(numbers.values()) == 1
    # No gap either: what each process has numbered is there up to its last.
    last = {process: max(number for name, number in numbers if name == process) for process, _ in numbers}
    assert sum(last.values()) == len(numbers)


def test_ctrl_c_in_a_terminal_is_the_supervisors_to_act_on(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        finish = threading.Event()
        with connector(sidecar, certificates)() as channel:
            stream = plain_stream(channel, STREAM)(two(finish), timeout=DEADLINE_S)
            assert next(stream) == b"first"
            os.killpg(sidecar.process.pid, signal.SIGINT)  # it leads its session, and so its process group
            eventually(lambda: len(sidecar.logged("draining")) == 2, "both workers drain")
            finish.set()
            assert list(stream) == [b"last"]
        assert sidecar.process.wait(DEADLINE_S) == 0


def test_while_it_drains_nobody_is_let_in(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar, connector(sidecar, certificates)() as channel:
        send = threading.Event()
        stream = plain_stream(channel, STREAM)(two(send), timeout=DEADLINE_S)
        assert next(stream) == b"first"
        os.kill(sidecar.process.pid, signal.SIGTERM)
        eventually(lambda: len(sidecar.logged("draining")) == 2, "both workers drain")
        host, _, port = sidecar.address.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), DEADLINE_S)
        send.set()
        assert list(stream) == [b"last"]
        assert sidecar.process.wait(DEADLINE_S) == 0


def test_an_audit_file_in_use_is_told_and_nothing_is_served(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        file = tmp_path / "second.yaml"
        write(file, {**config(certificates, upstream), "state": {"directory": str(sidecar.state)}})
        command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert "is in use by another sidecar" in ended.stderr
        assert "listening" not in ended.stderr


def test_a_crash_loop_leaves_the_others_alone(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        others = {name for name in sidecar.children("worker") if name.startswith("worker-1")}
        for _ in range(4):
            [(name, pid)] = [each for each in sidecar.children("worker").items() if each[0].startswith("worker-0")]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda name=name: set(sidecar.children("worker")) - others - {name} != set(), "started again")  # type: ignore[misc]
        assert sidecar.logged("child_backs_off") != []
        assert others < set(sidecar.children("worker"))


def test_children_share_nothing_but_what_they_are_to(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar:
        name = kill(sidecar, "worker")
        restarted(sidecar, "worker", name, 2)
        eventually(
            lambda: {line["process"] for line in sidecar.logged("upstream_up")} >= set(sidecar.children("worker")),
            "both serve",
        )
        one, other = (sockets(pid) for pid in sidecar.children("worker").values())
        assert one & other == set()
        [recorder] = sidecar.children("recorder").values()
        assert (one | other) & sockets(recorder) == set()
        assert (one | other | sockets(recorder)) & sockets(sidecar.nursery) == set()
        for pair in combinations((sidecar.nursery, recorder, *sidecar.children("worker").values()), 2):
            assert set.intersection(*map(pipes, pair)) == pipes(sidecar.process.pid)  # their output


def sockets(pid: int) -> set[str]:
    return {link for link in descriptors(pid) if link.startswith("socket:")}


def pipes(pid: int) -> set[str]:
    return {link for link in descriptors(pid) if link.startswith("pipe:")}


def test_the_service_manager_is_told(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with start_sidecar(config(certificates, upstream, workers=1), environment=told) as sidecar:
            assert next_of(manager, b"WATCHDOG") == b"READY=1\nSTATUS=serving"
            os.kill(sidecar.process.pid, signal.SIGHUP)
            assert next_of(manager, b"WATCHDOG").startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert next_of(manager, b"WATCHDOG") == b"READY=1\nSTATUS=serving"
            assert manager.recv(100) == b"WATCHDOG=1"
            os.kill(sidecar.process.pid, signal.SIGTERM)
            assert next_of(manager, b"WATCHDOG") == b"STOPPING=1"
            assert sidecar.process.wait(DEADLINE_S) == 0


def next_of(manager: socket.socket, but: bytes) -> bytes:
    """The next datagram that does not begin so, if it comes in time; else the last that came."""
    until = monotonic() + DEADLINE_S
    while (said := manager.recv(1000)).startswith(but) and monotonic() < until:
        continue
    return said
