"""A whole sidecar's own services, behind its one front door: whoever may not call the model server may not ask it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import langtrain
from langtrain.v1 import sidecar_pb2 as pb
from sidecar.processes.roles import ROLES
from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.peers import messages
from tests.services.calls import REFUSED, attack, seal
from tests.services.running import ModelServer
from tests.sidecars import Sidecar, children_of, guarded
from tests.unprivileged import PLAIN
from tests.waiting import eventually


@pytest.fixture
def model_server(tmp_path: Path) -> Iterator[ModelServer]:
    server = ModelServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, certificates: Certificates, model_server: ModelServer) -> Iterator[Sidecar]:
    with start_sidecar(guarded(certificates, model_server.target.replace("unix:", "unix://"))) as started:
        yield started


def operator(sidecar: Sidecar, who: Any, certificates: Certificates) -> langtrain.Sidecar:
    return langtrain.Sidecar(sidecar.address, cert=who.certificate, key=who.key, ca=certificates.ca)


def channel(sidecar: Sidecar, certificates: Certificates) -> grpc.Channel:
    client = certificates.client
    files = (certificates.ca, client.key, client.certificate)
    return grpc.secure_channel(sidecar.address, grpc.ssl_channel_credentials(*[file.read_bytes() for file in files]))


def test_status_tells_of_every_process(sidecar: Sidecar, certificates: Certificates) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        eventually(lambda: bool(mine.status().upstreams), "a worker reports")
        eventually(lambda: all(worker.memory for worker in mine.status().workers), "every process reports")
        status = mine.status()
        assert sorted(worker.role for worker in status.workers) == ["recorder", "relay", "services"]
        assert all(worker.pid and worker.memory > 1 << 20 for worker in status.workers)
        (upstream,) = status.upstreams
        assert (upstream.state, upstream.connections) == (pb.UPSTREAM_STATE_READY, 1)
        chains = {chain.method: [link.name for link in chain.links] for chain in status.chains}
        links = ["correlate", "identify", "authorize", "visible", "sequences", "record"]
        assert chains["/langtrain.v1.SidecarService/Drain"] == links
        assert chains["/inference.GRPCInferenceService/ModelInfer"] == links
        assert {each.setting for each in status.certificates} == {"listen.tls.certificate", "listen.tls.client_ca"}
        watched = mine.watch_status(0.2)
        assert next(watched).config_digest == next(watched).config_digest == status.config_digest
        watched.close()


def test_whoever_has_no_rule_learns_nothing(sidecar: Sidecar, certificates: Certificates) -> None:
    with operator(sidecar, certificates.stranger, certificates) as theirs, pytest.raises(langtrain.DeniedError):
        theirs.status()
    (denied,) = [event["method"] for event in sidecar.events() if event["kind"] == "call.denied"]
    assert denied == "/langtrain.v1.SidecarService/GetStatus"


def test_administrative_calls_are_recorded_before_they_are_answered(
    sidecar: Sidecar, certificates: Certificates
) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        for _ in range(5):
            mine.log_level()
        kinds = [event["method"] for event in sidecar.events() if event["kind"] == "call.allowed"]
        assert kinds.count("/langtrain.v1.SidecarService/GetLogLevel") == 5


def test_a_config_is_checked_by_its_text(sidecar: Sidecar, certificates: Certificates, tmp_path: Path) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        sound = f"listen: {{tls: {{client_ca: {tmp_path}/none.pem}}}}\n"
        verdict = mine.check_config(sound + "workers: many\nuptream: {}")
        assert [fault.path for fault in verdict.faults] == ["uptream", "workers"]
        same = mine.check_config()
        assert (list(same.faults), list(same.restarts), same.digest) == ([], [], mine.status().config_digest)
        # A text names files, which whoever may ask this may not be able to read: none of them is touched.
        text = "interceptors: [{use: ./evil.py:Evil}]\nworkers: 2\nupstream: {address: 127.0.0.1:1}"
        touched = tmp_path / "touched"
        (tmp_path / "evil.py").write_text(f"open({str(touched)!r}, 'w')")
        other = mine.check_config(sound + text)
        assert list(other.faults) == []
        assert "workers" in other.restarts
        assert not touched.exists()


def test_the_log_level_changes_in_every_process(sidecar: Sidecar, certificates: Certificates) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        assert mine.set_log_level("debug") == "info"
        assert mine.log_level() == "debug"
        assert mine.set_log_level("info") == "debug"


def test_services_that_hang_keep_no_reload_waiting(sidecar: Sidecar, certificates: Certificates) -> None:
    """Whoever is revoked is cut within a second, and the relay serves without them."""
    with operator(sidecar, certificates.client, certificates) as mine:
        mine.log_level()  # they serve
        (services,) = sidecar.children("services").values()
        os.kill(services, signal.SIGSTOP)
        try:
            os.kill(sidecar.process.pid, signal.SIGHUP)
            eventually(lambda: bool(sidecar.logged("reloaded")), "reloaded")
            assert sidecar.logged("child_killed") == []  # as they will be for their silence
        finally:
            os.kill(services, signal.SIGCONT)
        assert mine.log_level() == "info"


def test_drain_ends_the_sidecar(sidecar: Sidecar, certificates: Certificates) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        mine.drain(5.0, "upgrade")
    assert sidecar.process.wait(20) == 0
    (drained,) = [event for event in sidecar.events() if event["kind"] == "sidecar.drain"]
    assert drained["reason"].endswith(": upgrade")


def test_health_and_reflection_speak_for_both_sides(sidecar: Sidecar, certificates: Certificates) -> None:
    with channel(sidecar, certificates) as connected:
        database = ProtoReflectionDescriptorDatabase(connected)
        pool = DescriptorPool(database)
        assert {messages.SERVICE, "langtrain.v1.SidecarService"} <= set(database.get_services())
        for name in (messages.SERVICE, "langtrain.v1.SidecarService"):
            assert pool.FindServiceByName(name).full_name == name
        health: Any = health_pb2_grpc.HealthStub(connected)
        ours = health.Check(health_pb2.HealthCheckRequest(service="langtrain.v1.SidecarService"), timeout=10)
        assert ours.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="langtrain.v1.Nothing"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        malformed: Any = connected.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as caught:
            malformed(b"\x0a\xff", timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def services(mine: langtrain.Sidecar) -> pb.Worker:
    (found,) = [worker for worker in mine.status().workers if worker.role == "services"]
    return found


def test_the_services_process_is_started_again(sidecar: Sidecar, certificates: Certificates) -> None:
    with operator(sidecar, certificates.client, certificates) as mine:
        (relay,) = [worker.pid for worker in mine.status().workers if worker.role == "relay"]
        for round_ in range(1, 4):
            pid = services(mine).pid
            os.kill(pid, signal.SIGKILL)

            def again(gone: int = pid) -> bool:
                try:
                    return services(mine).pid not in (0, gone)
                except langtrain.SidecarError:
                    return False

            eventually(again, "it answers again")
            assert services(mine).restarts == round_
            assert [worker.pid for worker in mine.status().workers if worker.role == "relay"] == [relay]


def record_of(sidecar: Sidecar, kind: str) -> set[tuple[str, str]]:
    """Reasons and methods of what is recorded so far."""
    return {(event["reason"], event["method"]) for event in sidecar.events() if event["kind"] == kind}


def socket_of(sidecar: Sidecar, name: str) -> Path:
    """Of the services, which may be ready later than the sidecar."""
    eventually(lambda: list(sidecar.state.glob(f"run-*/{name}")) != [], "the services listen")
    (path,) = sidecar.state.glob(f"run-*/{name}")
    return path


@pytest.mark.parametrize("where", ["calls.sock", "streams.sock"])
def test_a_call_past_the_front_door_is_refused_and_recorded(sidecar: Sidecar, where: str) -> None:
    """By another process of the same user, which finds the socket and knows no key."""
    path = socket_of(sidecar, where)
    drain, forged = "/langtrain.v1.SidecarService/Drain", seal(b"k" * 32, "/langtrain.v1.SidecarService/Drain")
    assert attack(path, drain) == attack(path, drain, forged) == attack(path, drain, bytes(200)) == REFUSED
    refused = {("internal.missing", drain), ("internal.forged", drain)}
    eventually(lambda: record_of(sidecar, "internal.refused") == refused, "both refusals are on record")
    assert sidecar.logged("stopping") == []


def test_its_memory_is_hidden_from_the_same_user(
    start_sidecar: StartSidecar, certificates: Certificates, model_server: ModelServer
) -> None:
    config = guarded(certificates, model_server.target.replace("unix:", "unix://"))
    with start_sidecar({**config, "probes": {"address": "127.0.0.1:0"}}, under=PLAIN) as started:
        processes = [started.process.pid, *children_of(started.process.pid)]
        assert {role for role in ROLES if started.children(role)} == set(ROLES)
        for pid in processes:
            seen = subprocess.run([*PLAIN, "cat", f"/proc/{pid}/environ"], capture_output=True, check=False, timeout=30)
            assert b"Permission denied" in seen.stderr


def test_nobody_poses_as_the_services(sidecar: Sidecar, certificates: Certificates) -> None:
    """Another process of the same user puts its own socket in place of theirs, and a new worker comes to it."""
    path = socket_of(sidecar, "calls.sock")
    path.unlink()
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as impostor, operator(sidecar, certificates.client, certificates) as mine:
        impostor.bind(str(path))
        impostor.listen()
        impostor.settimeout(0.2)
        (relay,) = sidecar.children("worker").values()
        os.kill(relay, signal.SIGKILL)
        eventually(lambda: list(sidecar.children("worker").values()) not in ([], [relay]), "another worker")

        def refused() -> bool:
            with suppress(TimeoutError):
                connection, _ = impostor.accept()
                with connection:
                    connection.settimeout(1.0)
                    heard.append(connection.recv(1024))
            return any(event["kind"] == "internal.refused" for event in sidecar.events())

        eventually(refused, "the impostor is refused, and that is recorded", 30.0)
        with pytest.raises(langtrain.SidecarError):
            mine.status()
    assert set(heard) <= {b""}, "the impostor was told something"
