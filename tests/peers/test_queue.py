"""Calls beyond the streams that the upstream allows wait for one, and are told when there is no room to wait."""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.conftest import StartSidecar
from tests.peers.conftest import DIRECT
from tests.peers.interop_sync import Pipe
from tests.peers.targets import DEADLINE, Target, plain_stream, plain_unary
from tests.processes import Process

pytestmark = pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: these are about the sidecar")
STREAMS, QUEUE = 4, 8


@pytest.fixture
def channel(start_sidecar: StartSidecar) -> Iterator[grpc.Channel]:
    """To an upstream that allows STREAMS at once, by a sidecar that lets QUEUE calls wait."""
    with Process([sys.executable, "-m", "tests.peers.interop_server", "--streams", str(STREAMS)]) as server:
        address = json.loads(server.wait_line(lambda line: line.startswith("{")))["plain"]
        upstream = {"address": address, "queue": QUEUE}
        config = {"listen": {"tls": "none"}, "upstream": upstream, "unsafe_observe_only": True}
        with start_sidecar(config) as sidecar, Target(sidecar.address).channel() as opened:
            # Before there is a connection no stream is free, and all would wait.
            assert plain_unary(opened, "/peers.Echo/Unary")(b"up", timeout=DEADLINE) == b"up"
            yield opened


class Held:
    """An open stream at the upstream."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.pipe = Pipe()
        self.call = plain_stream(channel, "/peers.Echo/Bidi")(iter(self.pipe), timeout=DEADLINE)
        self.pipe.send(b"open")
        assert next(self.call) == b"open"

    def end(self) -> None:
        self.pipe.close()
        assert self.call.code() is grpc.StatusCode.OK


def test_calls_wait_for_a_stream_and_all_are_answered(channel: grpc.Channel) -> None:
    echo = plain_unary(channel, "/peers.Echo/Unary")
    with ThreadPoolExecutor(STREAMS + QUEUE) as pool:
        answers = pool.map(lambda number: echo(b"%d" % number, timeout=DEADLINE), range(500))
        assert list(answers) == [b"%d" % number for number in range(500)]


def test_who_waits_is_answered_late_gives_up_or_is_refused(channel: grpc.Channel) -> None:
    echo = plain_unary(channel, "/peers.Echo/Unary")
    held = [Held(channel) for _ in range(STREAMS)]
    with pytest.raises(grpc.RpcError) as caught:
        echo(b"impatient", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting: list[Any] = [echo.future(b"%d" % number, timeout=DEADLINE) for number in range(QUEUE + 1)]
    refused = first_ended(waiting)
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    waiting.remove(refused)
    waiting.pop().cancel()
    for each in held:
        each.end()
    assert all(call.result(DEADLINE) for call in waiting)
    assert echo(b"after", timeout=DEADLINE) == b"after"


def first_ended(calls: list[Any]) -> Any:
    """The first of the calls to end, however."""
    ended: queue.Queue[Any] = queue.Queue()
    for call in calls:
        call.add_done_callback(ended.put)
    return ended.get(timeout=DEADLINE)
