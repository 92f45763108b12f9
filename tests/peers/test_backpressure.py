"""Who does not read holds at most the windows, stops nobody else, and loses nothing when it reads on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.peers.conftest import DIRECT, FRONTS, Front
from tests.peers.echo_service import Flood
from tests.peers.targets import DEADLINE, Target, Upstream, plain_pour, plain_stream, plain_unary
from tests.sidecars import Sidecar

MIB = 1 << 20
# Two hops' windows and socket buffers, and what grpc's own flow control grows to; a relay that gives window back on
# arrival would pass on all of Flood.MOST, half a gigabyte.
HELD = 64 * MIB // Flood.SIZE  # messages
GROWTH = 48 * MIB  # bytes of the sidecar's memory


@pytest.fixture(params=FRONTS, ids=str)
def running(
    request: pytest.FixtureRequest, certificates: Certificates, upstream: Upstream, start_sidecar: StartSidecar
) -> Iterator[tuple[Target, Sidecar]]:
    front: Front = request.param
    with start_sidecar(front.config(certificates, upstream)) as sidecar:
        yield Target(sidecar.address, certificates if front.listen == "mtls" else None), sidecar


def resident(sidecar: Sidecar) -> int:
    """Bytes of memory that the sidecar occupies."""
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def settled(measure: Any, bystander: Any) -> int:
    """What `measure` gives once it no longer moves while a bystander makes a hundred calls."""
    last = -1
    while (now := int(measure())) != last:
        last = now
        for number in range(100):
            assert bystander(b"%d" % number, timeout=DEADLINE) == b"%d" % number
    return last


@pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: without a sidecar it cannot be measured")
def test_a_client_that_does_not_read(running: tuple[Target, Sidecar], upstream: Upstream) -> None:
    target, sidecar = running
    with target.channel() as channel, upstream.plain.channel() as aside:
        echo, poured = plain_unary(channel, "/peers.Echo/Unary"), plain_unary(aside, "/peers.State/Poured")
        echo(b"warm", timeout=DEADLINE)
        before = resident(sidecar)
        call = plain_pour(channel, "/peers.Echo/Pour")(b"", timeout=DEADLINE)
        assert int(next(call)[:8]) == 0
        assert settled(lambda: poured(b"", timeout=DEADLINE), echo) < HELD
        assert resident(sidecar) - before < GROWTH
        assert [int(next(call)[:8]) for _ in range(2 * HELD)] == list(range(1, 2 * HELD + 1))
        call.cancel()
    upstream.wait_quiet()


@pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: without a sidecar it cannot be measured")
def test_a_server_that_does_not_read(running: tuple[Target, Sidecar], upstream: Upstream) -> None:
    target, sidecar = running
    sent, over = 0, threading.Event()

    def requests() -> Iterator[bytes]:
        nonlocal sent
        while sent < Flood.MOST and not over.is_set():
            yield bytes(Flood.SIZE)
            sent += 1

    with target.channel() as channel:
        echo = plain_unary(channel, "/peers.Echo/Unary")
        echo(b"warm", timeout=DEADLINE)
        before = resident(sidecar)
        call = plain_stream(channel, "/peers.Echo/Ignore")(requests(), timeout=DEADLINE)
        assert next(call) == b"listening"
        assert settled(lambda: sent, echo) < HELD
        assert resident(sidecar) - before < GROWTH
        over.set()
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
    upstream.wait_quiet()
