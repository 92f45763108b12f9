"""SIGTERM at moments at which a call is easily lost: each is served to its end."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from h2.settings import SettingCodes

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.e2e.gate import gate
from tests.e2e.upstream import UNARY, echo
from tests.peers.targets import Target, plain_unary
from tests.relay.ends import Client
from tests.sidecars import Sidecar, guarded
from tests.waiting import eventually

DEADLINE_S = 20.0
WINDOW = 4 << 20  # bytes
ANSWER = 600_000  # bytes: more than the client's socket holds, less than the sidecar puts into its own at once


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with echo() as (_, address):
        yield address


def config(certificates: Certificates, upstream: str) -> dict[str, Any]:
    made = guarded(certificates, upstream)
    # The service lives in this process, which opens other ports too.
    made["upstream"]["unsafe_open_upstream"] = True
    return {**made, "workers": 1}


def terminate(sidecar: Sidecar) -> None:
    """Return once its worker drains."""
    os.kill(sidecar.process.pid, signal.SIGTERM)
    eventually(lambda: sidecar.logged("draining") != [], "the worker drains")


def test_a_handshake_under_way_ends_and_its_call_is_served(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar, gate(sidecar.address) as way:
        with Target(way.address, certificates).channel() as channel:
            call = plain_unary(channel, UNARY).future(b"hello", timeout=DEADLINE_S)
            eventually(lambda: way.made == 1, "the connection is made")
            terminate(sidecar)
            way.open()
            assert call.result() == b"hello"
        assert sidecar.process.wait(DEADLINE_S) == 0


def test_connections_that_wait_to_be_accepted_are_served(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    with start_sidecar(config(certificates, upstream)) as sidecar, gate(sidecar.address) as way:
        way.open()
        [pid] = sidecar.children("worker").values()
        os.kill(pid, signal.SIGSTOP)
        channels = [Target(way.address, certificates).channel() for _ in range(8)]
        calls = [plain_unary(channel, UNARY).future(b"hello", timeout=DEADLINE_S) for channel in channels]
        eventually(lambda: way.made == len(channels), "the connections are made")
        os.kill(sidecar.process.pid, signal.SIGTERM)
        eventually(lambda: sidecar.logged("stopping") != [], "the supervisor stops")
        os.kill(pid, signal.SIGCONT)
        assert [call.result() for call in calls] == [b"hello"] * len(channels)
        for channel in channels:
            channel.close()
        assert sidecar.process.wait(DEADLINE_S) == 0


def test_connections_without_a_call_are_no_calls_that_were_cut(
    start_sidecar: StartSidecar, certificates: Certificates, upstream: str
) -> None:
    made = config(certificates, upstream)
    made["listen"]["grace"] = "2s"
    with start_sidecar(made) as sidecar, connected(sidecar, certificates) as silent:
        client = Client()
        call = client.call(UNARY.encode())
        call.message(b"hello", end=True)
        silent.sendall(client.take())
        while call.status is None:
            client.receive(silent.recv(16_384))
            silent.sendall(client.take())
        assert call.status == 0
        with Target(sidecar.address, certificates).channel() as idle:
            grpc.channel_ready_future(idle).result(DEADLINE_S)
            os.kill(sidecar.process.pid, signal.SIGTERM)
            assert sidecar.process.wait(DEADLINE_S) == 0
        assert [event["reason"] for event in sidecar.events() if event["kind"] == "sidecar.stopped"] == [""]


class Pours(grpc.GenericRpcHandler):
    """Answers once it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._pour)

    def _pour(self, request: bytes, context: Any) -> bytes:
        self.let.wait(DEADLINE_S)
        return bytes(ANSWER)


def test_an_answer_on_its_way_arrives_whole_whatever_its_client_says_meanwhile(
    start_sidecar: StartSidecar, certificates: Certificates
) -> None:
    server, pours = grpc.server(futures.ThreadPoolExecutor(2)), Pours()
    server.add_generic_rpc_handlers((pours,))
    upstream = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with start_sidecar(config(certificates, upstream)) as sidecar, connected(sidecar, certificates) as connection:
        client = Client({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        client.connection.increment_flow_control_window(WINDOW)
        call = client.call(UNARY.encode())
        call.message(b"pour", end=True)
        connection.sendall(client.take())
        terminate(sidecar)
        while len(client.goaways) < 2:
            client.receive(connection.recv(16_384))
            connection.sendall(client.take())
        pours.let.set()
        eventually(lambda: any(event["method"] == UNARY for event in sidecar.events()), "the answer is on its way")
        # As libraries do: each read is followed by window for as much again.
        while data := connection.recv(16_384):
            client.receive(data)
            client.connection.increment_flow_control_window(1)
            connection.sendall(client.take())
        assert (call.status, call.messages) == (0, [bytes(ANSWER)])
        connection.close()
        assert sidecar.process.wait(DEADLINE_S) == 0
    server.stop(None).wait()


def connected(sidecar: Sidecar, certificates: Certificates) -> ssl.SSLSocket:
    """A connection whose client keeps little of what it has not read."""
    host, _, port = sidecar.address.rpartition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(DEADLINE_S)
    made.connect((host, int(port)))
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificates.client.certificate, certificates.client.key)
    return context.wrap_socket(made, server_hostname="localhost")
