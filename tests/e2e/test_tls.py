"""Who gets in: certificates refused and identities typed by a running sidecar, each with its reason on record."""

from __future__ import annotations

import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.certs.authority import SERVER
from tests.conftest import StartSidecar
from tests.e2e.upstream import STREAM, UNARY, Echo, echo
from tests.peers.targets import plain_stream, plain_unary
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Pki
from tests.sidecars import Sidecar
from tests.waiting import eventually

DEADLINE_S = 15.0
Pair = tuple[Path, Path]


@dataclass
class Scene:
    """A sidecar that lets `SPIFFE`, a dns: and a cn: identity in, in front of an echo service."""

    sidecar: Sidecar
    service: Echo
    pki: Pki

    def channel(self, pair: Pair | None) -> grpc.Channel:
        certificate, key = (path.read_bytes() for path in pair) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(self.pki.ca.read_bytes(), key, certificate)
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.sidecar.address, credentials, options)

    def call(self, pair: Pair | None) -> grpc.StatusCode:
        with self.channel(pair) as channel:
            try:
                answer = plain_unary(channel, UNARY)(b"hello", timeout=DEADLINE_S)
            except grpc.RpcError as error:
                return error.code()
            assert answer == b"hello"
            return grpc.StatusCode.OK

    def reasons(self) -> set[str]:
        return {event["reason"] for event in self.sidecar.events()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, start_sidecar: StartSidecar) -> Iterator[Scene]:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    revoked = pki.leaf(uris=(SPIFFE,))
    pki.write("revoked", revoked)
    crl = pki.crl(pki.root.crl(revoked.certificate, start=NOW - HOUR, end=NOW + HOUR))
    certificate, key = pki.server
    with echo() as (service, address):
        config: dict[str, Any] = {
            "listen": {
                "tls": {"certificate": str(certificate), "key": str(key), "client_ca": str(pki.ca), "crl": str(crl)}
            },
            # The service lives in this process, which opens other ports too.
            "upstream": {"address": address, "unsafe_open_upstream": True},
            "authentication": {"mtls": {"trust_domains": ["example.org"], "allow_common_name": True}},
            "authorization": {
                "rules": [{"identities": [SPIFFE, "dns:batch.example.org", "cn:loader"], "methods": ["/e2e.Echo/*"]}]
            },
        }
        with start_sidecar(config) as sidecar:
            yield Scene(sidecar, service, pki)


def leaf(**options: Any) -> Callable[[Pki], Pair]:
    return lambda pki: pki.write("tried", pki.leaf(**options))


def foreign(pki: Pki) -> Pair:
    return pki.write("tried", pki.leaf(authority=pki.authority("another root", 2), uris=(SPIFFE,)))


REFUSED: list[tuple[Callable[[Pki], Pair] | None, str]] = [
    (None, "tls.no_certificate"),
    (leaf(uris=(SPIFFE,), start=NOW - 2 * HOUR, end=NOW - HOUR), "tls.expired"),
    (leaf(uris=(SPIFFE,), start=NOW + HOUR, end=NOW + 2 * HOUR), "tls.not_yet_valid"),
    (foreign, "tls.unknown_ca"),
    (leaf(uris=(SPIFFE,), purposes=SERVER), "tls.wrong_purpose"),
    (lambda pki: (pki.directory / "revoked.pem", pki.directory / "revoked-key.pem"), "tls.revoked"),
    (leaf(uris=(SPIFFE, "spiffe://example.org/team/bob")), "tls.two_uri_names"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_refused_certificate_reaches_nothing_and_is_on_record(
    scene: Scene, make: Callable[[Pki], Pair] | None, reason: str
) -> None:
    before = len(scene.service.calls)
    assert scene.call(make(scene.pki) if make else None) is grpc.StatusCode.UNAVAILABLE
    eventually(lambda: reason in scene.reasons(), f"{reason} on record")
    assert len(scene.service.calls) == before
    assert scene.call(scene.pki.client) is grpc.StatusCode.OK


IDENTITIES: list[tuple[dict[str, Any], grpc.StatusCode]] = [
    ({"uris": (SPIFFE,)}, grpc.StatusCode.OK),
    ({"uris": ("spiffe://example.org/team/mallory",)}, grpc.StatusCode.PERMISSION_DENIED),
    ({"uris": ("spiffe://elsewhere.org/team/alice",)}, grpc.StatusCode.UNAUTHENTICATED),
    ({"dns": ("batch.example.org",)}, grpc.StatusCode.OK),
    ({"dns": ("loader",)}, grpc.StatusCode.PERMISSION_DENIED),
    ({"name": "loader"}, grpc.StatusCode.OK),
    ({"name": "batch.example.org"}, grpc.StatusCode.PERMISSION_DENIED),
    # A common name gains nothing by spelling what another kind of name would be.
    ({"name": SPIFFE}, grpc.StatusCode.PERMISSION_DENIED),
    ({"name": "dns:batch.example.org"}, grpc.StatusCode.PERMISSION_DENIED),
    ({"name": "loader", "dns": ("other.example.org",)}, grpc.StatusCode.PERMISSION_DENIED),
]


@pytest.mark.parametrize(("options", "status"), IDENTITIES, ids=[str(options) for options, _ in IDENTITIES])
def test_identities_are_typed(scene: Scene, options: dict[str, Any], status: grpc.StatusCode) -> None:
    assert scene.call(scene.pki.write("tried", scene.pki.leaf(**options))) is status


def test_an_earlier_session_is_not_resumed_and_saves_no_revoked_client(scene: Scene) -> None:
    context = ssl.create_default_context(cafile=str(scene.pki.ca))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(*scene.pki.client)
    with connected(context, scene.sidecar, None) as first:
        assert first.recv(9)
        session = first.session
    with connected(context, scene.sidecar, session) as again:
        assert again.recv(9)
        assert not again.session_reused
    context.load_cert_chain(scene.pki.directory / "revoked.pem", scene.pki.directory / "revoked-key.pem")
    # In TLS 1.3 a refusal shows with the first read.
    with connected(context, scene.sidecar, session) as revoked, pytest.raises(ssl.SSLError, match=r"(?i)revoked"):
        revoked.recv(9)


@contextmanager
def connected(context: ssl.SSLContext, sidecar: Sidecar, session: ssl.SSLSession | None) -> Iterator[ssl.SSLSocket]:
    """A connection after the client's part of the handshake; session: the earlier one that it offers."""
    host, _, port = sidecar.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
    ):
        yield secured


def test_a_connection_ends_with_its_certificate_open_streams_included(scene: Scene) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    pair = scene.pki.write("brief", scene.pki.leaf(uris=(SPIFFE,), end=end))
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with scene.channel(pair) as channel:
        stream = plain_stream(channel, STREAM)(iter(requests.get, None), timeout=DEADLINE_S)
        requests.put(b"before")
        assert next(stream) == b"before"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert datetime.now(UTC) >= end
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        requests.put(None)
