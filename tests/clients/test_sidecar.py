"""The client's connection: what it takes, where from, and what it says when it fails. Calls: tests/operations."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import langtrain
from langtrain.v1 import sidecar_pb2 as pb
from langtrain.v1 import sidecar_pb2_grpc
from tests.certificates import Certificates
from tests.peers.interop_server import credentials
from tests.processes import REPOSITORY
from tests.services.running import Running


class Named(sidecar_pb2_grpc.SidecarServiceServicer):
    """Says who called, by the certificate."""

    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:
        auth: Any = context.auth_context()
        (name,) = auth["peer_spiffe_id"]
        return pb.GetStatusResponse(status=pb.Status(version=name.decode()))


class Plain(sidecar_pb2_grpc.SidecarServiceServicer):
    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(status=pb.Status(version="plain"))


@pytest.fixture
def address(certificates: Certificates) -> Iterator[str]:
    """A server that demands a client certificate."""
    server = grpc.server(ThreadPoolExecutor(2))
    named: Any = Named
    sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(named(), server)
    pair = certificates.server
    port = server.add_secure_port("127.0.0.1:0", credentials(certificates.ca, pair.certificate, pair.key))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_mtls_by_arguments(address: str, certificates: Certificates) -> None:
    pair = certificates.client
    with langtrain.Sidecar(address, cert=pair.certificate, key=pair.key, ca=certificates.ca) as sidecar:
        assert sidecar.status().version == "spiffe://example.org/team/alice"


def test_mtls_by_the_environment(address: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = certificates.client
    for name, value in (
        ("ENDPOINT", address),
        ("CERT", pair.certificate),
        ("KEY", pair.key),
        ("CA", certificates.ca),
    ):
        monkeypatch.setenv(f"LANGTRAIN_{name}", str(value))
    with langtrain.Sidecar() as sidecar:
        assert sidecar.status().version == "spiffe://example.org/team/alice"


def test_an_unknown_ca_or_no_certificate_is_unavailable(address: str, certificates: Certificates) -> None:
    """Neither falls back to plaintext."""
    pair = certificates.client
    cases: tuple[dict[str, Any], ...] = ({"ca": certificates.ca}, {"cert": pair.certificate, "key": pair.key})
    for options in cases:
        with langtrain.Sidecar(address, **options) as sidecar, pytest.raises(langtrain.UnavailableError):
            sidecar.status()


def test_plaintext_is_asked_for_by_its_name() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    plain: Any = Plain
    sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(plain(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with langtrain.Sidecar(address, unsafe_plaintext=True) as sidecar:
        assert sidecar.status().version == "plain"
    with langtrain.Sidecar(address) as sidecar, pytest.raises(langtrain.UnavailableError):
        sidecar.status()
    server.stop(0).wait()


def test_a_unix_socket_may_have_tls(certificates: Certificates) -> None:
    pair = certificates.client
    with tempfile.TemporaryDirectory(prefix="lt") as directory:
        target = f"unix:{directory}/s"
        server = grpc.server(ThreadPoolExecutor(2))
        named: Any = Named
        sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(named(), server)
        own = certificates.server
        server.add_secure_port(target, credentials(certificates.ca, own.certificate, own.key))
        server.start()
        with langtrain.Sidecar(target, cert=pair.certificate, key=pair.key, ca=certificates.ca) as sidecar:
            assert sidecar.status().version == "spiffe://example.org/team/alice"
        server.stop(0).wait()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    monkeypatch.delenv("LANGTRAIN_ENDPOINT", raising=False)
    with pytest.raises(ValueError, match="endpoint: expected host:port or unix:///path, here or in LANGTRAIN_ENDPOINT"):
        langtrain.Sidecar()
    with pytest.raises(ValueError, match="cert and key: expected both or neither"):
        langtrain.Sidecar("127.0.0.1:1", key=certificates.client.key)


def test_every_call_has_a_deadline(services: Running) -> None:
    with langtrain.Sidecar("unix:///nowhere.sock", timeout_s=5) as sidecar, pytest.raises(langtrain.UnavailableError):
        sidecar.status()
    with langtrain.Sidecar(services.target, timeout_s=0.000001) as sidecar, pytest.raises(langtrain.DeadlineError):
        sidecar.status()


def test_a_level_that_there_is_not_is_refused_here(services: Running) -> None:
    level: Any = "loud"
    with langtrain.Sidecar(services.target) as sidecar, pytest.raises(ValueError, match="LOG_LEVEL_LOUD"):
        sidecar.set_log_level(level)


def test_it_needs_nothing_of_the_sidecar(tmp_path: Path) -> None:
    """What enters customers' environments imports from its own folder, grpcio and protobuf."""
    code = "import langtrain, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY / "clients" / "python")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert not loaded & {"sidecar", "interceptors", "detectors", "pydantic", "typer", "rich"}
    assert {"langtrain", "grpc", "google"} <= loaded
