"""An upstream that comes late or goes away, and a sidecar that is told to stop: what callers notice of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import grpc
import pytest

from tests.conftest import StartSidecar
from tests.peers.conftest import DIRECT
from tests.peers.interop_sync import Pipe
from tests.peers.model_servers import free_ports
from tests.peers.targets import DEADLINE, Target, plain_stream, plain_unary
from tests.processes import Process
from tests.sidecars import Sidecar

pytestmark = pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: these are about the sidecar")


@contextmanager
def server(port: int) -> Iterator[Process]:
    with Process([sys.executable, "-m", "tests.peers.interop_server", "--port", str(port)]) as process:
        process.wait_line(lambda line: line.startswith("{") and json.loads(line)["plain"].endswith(f":{port}"))
        yield process


@contextmanager
def sidecar_before(
    port: int, start_sidecar: StartSidecar, status: int = 0, **listen: Any
) -> Iterator[tuple[Sidecar, grpc.Channel]]:
    upstream = {"address": f"127.0.0.1:{port}"}
    config = {"listen": {"tls": "none", **listen}, "upstream": upstream, "unsafe_observe_only": True}
    with start_sidecar(config, status=status) as sidecar, Target(sidecar.address).channel() as channel:
        yield sidecar, channel


def code(echo: Any) -> grpc.StatusCode:
    """The status of one call."""
    call = echo.future(b"x", timeout=DEADLINE)
    call.exception()
    status: grpc.StatusCode = call.code()
    return status


def wait_served(echo: Any, timeout: float = 30.0) -> None:
    """Return once a call succeeds; until then each must be told that the upstream is away."""
    limit = monotonic() + timeout
    while (status := code(echo)) is not grpc.StatusCode.OK:
        assert status is grpc.StatusCode.UNAVAILABLE
        assert monotonic() < limit, f"calls still fail {timeout} s after the upstream came up"


def test_an_upstream_that_comes_late_goes_and_comes_back(start_sidecar: StartSidecar) -> None:
    (port,) = free_ports(1)
    with sidecar_before(port, start_sidecar) as (_, channel):
        echo = plain_unary(channel, "/peers.Echo/Unary")
        assert code(echo) is grpc.StatusCode.UNAVAILABLE
        with server(port) as first:
            wait_served(echo)
            pipe = Pipe()
            stream = plain_stream(channel, "/peers.Echo/Bidi")(iter(pipe), timeout=DEADLINE)
            pipe.send(b"open")
            assert next(stream) == b"open"
            first.kill()
            assert stream.code() is grpc.StatusCode.UNAVAILABLE
            pipe.close()
        assert code(echo) is grpc.StatusCode.UNAVAILABLE
        with server(port):
            wait_served(echo)


def test_open_calls_end_in_peace_when_the_sidecar_stops(start_sidecar: StartSidecar) -> None:
    (port,) = free_ports(1)
    with server(port), sidecar_before(port, start_sidecar) as (sidecar, channel):
        pipe = Pipe()
        stream = plain_stream(channel, "/peers.Echo/Bidi")(iter(pipe), timeout=DEADLINE)
        pipe.send(b"before")
        assert next(stream) == b"before"
        os.kill(sidecar.process.pid, signal.SIGTERM)
        sidecar.process.wait_line(lambda line: '"draining"' in line)  # until then, who comes is served
        with Target(sidecar.address).channel() as late:
            assert code(plain_unary(late, "/peers.Echo/Unary")) is grpc.StatusCode.UNAVAILABLE
        pipe.send(b"after")
        assert next(stream) == b"after"
        pipe.close()
        assert stream.code() is grpc.StatusCode.OK
        assert sidecar.process.wait() == 0


def test_calls_that_outlast_the_grace_are_cut(start_sidecar: StartSidecar) -> None:
    (port,) = free_ports(1)
    with server(port), sidecar_before(port, start_sidecar, status=1, grace="1s") as (sidecar, channel):
        pipe = Pipe()
        stream = plain_stream(channel, "/peers.Echo/Bidi")(iter(pipe), timeout=DEADLINE)
        pipe.send(b"open")
        assert next(stream) == b"open"
        os.kill(sidecar.process.pid, signal.SIGTERM)
        assert stream.code() is grpc.StatusCode.UNAVAILABLE
        pipe.close()
        assert sidecar.process.wait() == 1  # which tells that calls were cut
