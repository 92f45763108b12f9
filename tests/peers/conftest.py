"""Fixtures of the peers: the interop server, and the ways by which a client reaches it.

With PEERS_DIRECT in the environment clients reach the server without a sidecar, which tries the peers themselves.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import sidecars
from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.peers import echo_service, messages
from tests.peers.targets import Target, Upstream
from tests.processes import Process

DIRECT = bool(os.environ.get("PEERS_DIRECT"))
UNARY = {"unary_request": True, "unary_response": True}
SHAPES = [
    {
        "service": messages.SERVICE,
        "methods": [
            {"name": "EmptyCall", **UNARY},
            {"name": "UnaryCall", **UNARY},
            {"name": "StreamingInputCall", "unary_response": True},
            {"name": "StreamingOutputCall", "unary_request": True},
        ],
    },
    {"service": echo_service.SERVICE, "methods": [{"name": "Unary", **UNARY}, {"name": "Wait", **UNARY}]},
]
LINKS = Path(__file__).parent / "links.py"


@dataclass(frozen=True, slots=True)
class Front:
    """One way through the sidecar.

    listen: "plain" or "mtls".  upstream: "plain", "mtls" or "socket".  shapes: the config tells which sides are
    unary.  looked: a link looks at every message, so that the relay takes streams apart and puts them together again.
    """

    listen: str
    upstream: str
    shapes: bool = False
    looked: bool = False

    def __str__(self) -> str:
        return f"{self.listen}-{self.upstream}" + ("-looked" if self.looked else "")

    def config(self, certificates: Certificates, upstream: Upstream) -> dict[str, Any]:
        address = upstream.address(self.upstream)
        config = sidecars.guarded(certificates, address)
        if self.listen == "plain":
            # Callers without certificates are nobody, and nobody is allowed anything: only observed they pass.
            config = {"listen": {"tls": "none"}, "upstream": config["upstream"], "unsafe_observe_only": True}
        if self.upstream == "mtls":
            pair = certificates.sidecar
            tls = {"ca": certificates.ca, "certificate": pair.certificate, "key": pair.key, "server_name": "localhost"}
            config["upstream"]["tls"] = {name: str(value) for name, value in tls.items()}
        config["upstream"]["ports"] = [port for port in sorted(upstream.ports()) if f":{port}" not in address]
        if self.shapes:
            config["upstream"]["services"] = SHAPES
        if self.looked:
            config["interceptors"] = [{"use": f"{LINKS}:Look"}]
        return config


FRONTS = (
    Front("plain", "plain"),
    Front("mtls", "mtls", shapes=True),
    Front("mtls", "socket", shapes=True, looked=True),
)
H2C, MTLS, LOOKED = FRONTS


@pytest.fixture(scope="session")
def upstream(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """The interop server, in a process of its own for the whole session."""
    socket = tmp_path_factory.mktemp("upstream") / "grpc.sock"
    pair = certificates.server
    command = [sys.executable, "-m", "tests.peers.interop_server", "--socket", str(socket)]
    command += ["--ca", str(certificates.ca), "--certificate", str(pair.certificate), "--key", str(pair.key)]
    with Process(command) as server:
        line = server.wait_line(lambda line: line.startswith("{"))
        yield Upstream.announced(line, certificates, f"unix://{socket}")
        assert server.terminate() == 0, server.tail()


@pytest.fixture(scope="session")
def through(certificates: Certificates, upstream: Upstream, start_sidecar: StartSidecar) -> Any:
    """`with through(front, limit=1) as target:` a sidecar before the interop server, and where clients call it.

    to: another server than grpcio's.  callers: who may call beside the client.  limits: of `listen.limits`.
    """

    @contextmanager
    def open_front(
        front: Front, *, to: Upstream = upstream, callers: Sequence[str] = (), **limits: Any
    ) -> Iterator[Target]:
        presented = certificates if front.listen == "mtls" else None
        if DIRECT:
            yield Target(to.address(front.listen), presented)
            return
        config = front.config(certificates, to)
        if callers:
            config["authorization"]["rules"][0]["identities"] += callers
        if limits:
            config["listen"]["limits"] = limits
        with start_sidecar(config) as sidecar:
            yield Target(sidecar.address, presented)

    return open_front


@pytest.fixture(scope="session", params=FRONTS, ids=str)
def target(request: pytest.FixtureRequest, through: Any) -> Iterator[Target]:
    """The interop server through a sidecar with default limits, by each front in turn."""
    with through(request.param) as opened:
        yield opened


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for every asyncio client: grpc.aio keeps to the loop it first ran on."""
    with asyncio.Runner() as made:
        yield made
