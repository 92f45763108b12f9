"""Odd requests over mTLS to a running sidecar: refused as in memory, on record, and none reaches the model server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.e2e.upstream import STREAM, UNARY, Echo, echo
from tests.relay.odd_requests import MALFORMED, PING, Odd, every, honest
from tests.relay.raw import RawClient
from tests.sidecars import Sidecar, guarded

DEADLINE_S: Final = 15.0
ODD: Final = dict(every())
BODIES: Final = ("body: a length beyond the body", "body: trailers", "metadata: content-length too short")
SERVICE: Final = {
    "service": "e2e.Echo",
    "methods": [{"name": "Unary", "unary_request": True, "unary_response": True}, {"name": "Stream"}],
}


class Connection:
    """A raw client over TLS, blocking, with a deadline."""

    def __init__(self, address: str, certificates: Certificates) -> None:
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cafile=str(certificates.ca))
        context.load_cert_chain(certificates.client.certificate, certificates.client.key)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), DEADLINE_S)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.client = RawClient()

    def outcome(self, fields: Any, *body: bytes, trailers: Any = ()) -> tuple[Any, ...]:
        """Of one request; the deadline is the socket's."""
        number = self.client.request(fields, *body, trailers=trailers)
        while (outcome := self.client.outcome(number)) is None:
            # A connection that is ended may be closed before all of what we send has been read.
            try:
                self.socket.sendall(self.client.take())
                data = self.socket.recv(65_536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return ("gone",)
            self.client.receive(data)
        return outcome

    def close(self) -> None:
        self.socket.close()


class Scene:
    """A sidecar before an echo service, and a connection to it that is made anew where it was ended."""

    def __init__(self, sidecar: Sidecar, service: Echo, certificates: Certificates) -> None:
        self.sidecar = sidecar
        self.service = service
        self._certificates = certificates
        self.connection = self.connect()

    def connect(self) -> Connection:
        return Connection(self.sidecar.address, self._certificates)

    def refused(self, odd: Odd, path: bytes) -> tuple[Any, ...]:
        """How; and an honest call right after succeeds."""
        outcome = self.connection.outcome(odd.fields(honest(path)), *odd.body, trailers=odd.trailers)
        if outcome[0] in ("goaway", "gone"):
            self.connection.close()
            self.connection = self.connect()
        assert self.connection.outcome(honest(UNARY.encode()), PING) == ("grpc", 0)
        return outcome


@pytest.fixture(scope="module")
def scene(certificates: Certificates, start_sidecar: StartSidecar) -> Iterator[Scene]:
    with echo() as (service, address):
        config = guarded(certificates, address)
        # This process opens other ports too.
        config["upstream"] |= {"unsafe_open_upstream": True, "services": [SERVICE]}
        with start_sidecar(config) as sidecar:
            scene = Scene(sidecar, service, certificates)
            yield scene
            scene.connection.close()


@pytest.mark.parametrize("name", ODD)
def test_refused_and_never_seen(scene: Scene, name: str) -> None:
    odd = ODD[name]
    scene.service.calls.clear()
    outcome = scene.refused(odd, UNARY.encode())
    assert outcome == odd.outcome or (odd.outcome[0] == "goaway" and outcome == ("gone",))
    assert scene.service.calls == [UNARY]  # the honest one


@pytest.mark.parametrize("name", BODIES)
def test_a_stream_that_goes_wrong(scene: Scene, name: str) -> None:
    assert scene.refused(ODD[name], STREAM.encode()) == ODD[name].outcome


def test_refusals_are_on_record_and_do_not_fill_the_disk(scene: Scene) -> None:
    """Those of requests that no caller stands behind are counted into few events."""
    malformed = next(odd for odd in ODD.values() if odd.outcome == MALFORMED)
    for _ in range(50):
        assert scene.refused(malformed, UNARY.encode()) == MALFORMED
    events = [event for event in scene.sidecar.events() if event["reason"] == "http2.malformed"]
    assert 1 <= len(events) < 20
    assert all(event["source"] == "127.0.0.1" for event in events)
