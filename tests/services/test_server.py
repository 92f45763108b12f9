"""The two servers: where they listen, what lasting calls leave to short ones, and how they end."""

from __future__ import annotations

import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

import langtrain
from sidecar.internal import mac, peer
from sidecar.operations.model import Status
from sidecar.services.server import CALLS, STREAMS, Services, ServicesError, Settings
from tests.operations.in_memory import InMemory
from tests.processes import Process
from tests.services.calls import call, seal
from tests.services.front import boottime
from tests.services.running import KEY, STREAMS_EACH, Running
from tests.waiting import eventually

STATUS = "/langtrain.v1.SidecarService/GetStatus"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lt") as made:
        yield Path(made)


def made(directory: Path, operations: InMemory) -> Services:
    no_model_server: Any = None
    return Services(Settings(directory), KEY, operations, no_model_server, lambda refusal: None, boottime)


def start(directory: Path) -> None:
    services = made(directory, InMemory())
    try:
        services.start()
    finally:
        services.stop(0)


def connect_unix(path: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(path))
    return connected


def test_only_this_user_reaches_the_sockets(services: Running) -> None:
    assert stat.S_IMODE(services.sockets.stat().st_mode) == 0o700


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    (directory / "open").mkdir(mode=0o755)
    (directory / "private").mkdir(mode=0o700)
    (directory / "link").symlink_to(directory / "private")
    (directory / "file").touch()
    for name in ("open", "link"):
        with pytest.raises(ServicesError, match="expected a directory of this user's with mode 0700"):
            start(directory / name)
    with pytest.raises(ServicesError, match="File exists"):
        start(directory / "file")


def test_a_directory_of_a_long_name_will_do(directory: Path) -> None:
    long = directory / ("x" * 120)
    services = made(long, InMemory())
    try:
        services.start()
        assert (long / "calls.sock").is_socket()
    finally:
        services.stop(0)


def test_streams_leave_short_calls_alone_and_have_an_end_each(services: Running) -> None:
    with langtrain.Sidecar(services.target) as sidecar, ExitStack() as open_streams:
        for _ in range(STREAMS_EACH):
            stream = sidecar.watch_status()
            open_streams.callback(stream.close)
            assert next(stream).version == "0.1.0"
        with pytest.raises(langtrain.ExhaustedError) as error:
            next(sidecar.watch_status())
        assert error.value.reason == "TOO_MANY_STREAMS"
        assert [sidecar.status().version for _ in range(20)] == ["0.1.0"] * 20
        open_streams.close()

        def free() -> bool:
            stream = sidecar.watch_status()
            try:
                return next(stream).version == "0.1.0"
            except langtrain.ExhaustedError:
                return False
            finally:
                stream.close()

        eventually(free, "the streams that ended make room")


def test_a_helper_killed_comes_back_and_takes_nothing_from_before(directory: Path) -> None:
    command = [sys.executable, "-m", "tests.services.helper", str(directory / "s")]
    place, sealed = directory / "s" / CALLS, b""
    for _ in range(2):
        with Process(command, environment={"KEY": KEY.hex()}) as helper:
            helper.wait_line(lambda line: line == "up")
            with connect_unix(place) as connected:
                peer.expect(connected, helper.pid)
            if sealed:
                assert call(place, STATUS, (sealed,)).code == "UNAUTHENTICATED"
            sealed = seal(KEY, STATUS)
            assert call(place, STATUS, (sealed,)).code == "OK"
            helper.kill()
    assert call(place, STATUS, (seal(KEY, STATUS),)).code == "UNAVAILABLE"


class Slow(InMemory):
    """A sidecar whose status takes until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for, self.told = threading.Event(), threading.Event()

    def status(self) -> Status:
        self.asked_for.set()
        assert self.told.wait(20)
        return super().status()


def test_stopping_lets_short_calls_end(directory: Path) -> None:
    slow = Slow()
    services = made(directory / "s", slow)
    services.start()
    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(call, directory / "s" / CALLS, STATUS, (seal(KEY, STATUS),))
        assert slow.asked_for.wait(20)
        stopped = pool.submit(services.stop, 20.0)
        eventually(lambda: not_taken(directory), "no new call is taken")
        slow.told.set()
        assert answered.result(20).code == "OK"
        stopped.result(20)


def not_taken(directory: Path) -> bool:
    return call(directory / "s" / CALLS, "/none.None/None", ()).code == "UNAVAILABLE"


def test_stopping_ends_what_lasts(directory: Path) -> None:
    services = made(directory / "s", InMemory())
    services.start()
    path = "/langtrain.v1.SidecarService/WatchStatus"
    with grpc.insecure_channel(f"unix:{directory / 's' / STREAMS}") as channel:
        method: Any = channel.stream_stream(path)
        answers = method(iter((b"",)), metadata=((mac.CALL_HEADER, seal(KEY, path)),), timeout=60)
        assert next(answers)
        services.stop(20.0)
        with pytest.raises(grpc.RpcError) as error:
            list(answers)
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
