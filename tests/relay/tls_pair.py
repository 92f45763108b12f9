"""Both ends of a TLS connection in memory, and the certificates they show."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.certs.authority import SERVER, Authority, Issued
from sidecar.relay.tls import ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings, TrustAnchor
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.tls_errors import TlsError

# OpenSSL verifies by the system's clock; nothing else here depends on it.
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
SPIFFE = "spiffe://example.org/team/alice"


class Pki:
    """A CA of example.org, a server's and a client's certificate in files. The numbers repeat with `seed`."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        self.root = self.authority("root", seed)
        self.ca = self.write("ca", self.root.own)[0]
        self.server = self.write("server", self.leaf("localhost", dns=("localhost",), purposes=SERVER))
        self.client = self.write("client", self.leaf(uris=(SPIFFE,)))

    def authority(self, name: str, seed: int, *, start: datetime = NOW - HOUR, end: datetime = NOW + HOUR) -> Authority:
        return Authority.root(name, start=start, end=end, chance=random.Random(seed).randbytes)

    def leaf(self, name: str = "", *, authority: Authority | None = None, **options: Any) -> Issued:
        options = {"start": NOW - HOUR, "end": NOW + HOUR} | options
        return (authority or self.root).issue(name, **options)

    def write(self, name: str, issued: Issued) -> tuple[Path, Path]:
        """name.pem, with its chain, and name-key.pem."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        certificate.write_bytes(issued.chain_pem())
        key.write_bytes(issued.key_pem())
        key.chmod(0o600)
        return certificate, key

    def crl(self, *crls: Any, name: str = "crl") -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in crls))
        return path

    def settings(self, **changes: Any) -> ServerTlsSettings:
        certificate, key = self.server
        return replace(ServerTlsSettings(certificate, key, (TrustAnchor("example.org", self.ca),)), **changes)

    def server_tls(self, **changes: Any) -> ServerTls:
        return ServerTls(self.settings(**changes), NOW.timestamp())

    def client_tls(self, pair: tuple[Path, Path] | None = None, **changes: Any) -> ClientTls:
        certificate, key = pair or self.client
        settings = ClientTlsSettings(self.ca, "localhost", certificate, key)
        return ClientTls(replace(settings, **changes), NOW.timestamp())

    def raw_client(
        self, pair: tuple[Path, Path] | None = None, *, configure: Callable[[ssl.SSLContext], None] = lambda _: None
    ) -> TlsChannel:
        """A client that our own settings would not make."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        context.set_alpn_protocols(["h2"])
        if pair:
            context.load_cert_chain(*pair)
        configure(context)
        return TlsChannel(context, lambda _: None, server_side=False, server_hostname="localhost")


@dataclass
class Ended:
    """How a handshake ended on each side; None where it did not fail there."""

    client: TlsError | None
    server: TlsError | None


def shake(client: TlsChannel, server: TlsChannel, *, cut: int = 1 << 20) -> Ended:
    """Carry bytes in pieces of `cut`, alerts included, until neither side has more to say."""
    failed: dict[TlsChannel, TlsError] = {}

    def carry(data: bytes, to: TlsChannel) -> bytes:
        answer = b""
        for at in range(0, len(data), cut):
            if to not in failed:
                try:
                    assert to.receive(data[at : at + cut]) == b""
                except TlsError as error:
                    failed[to] = error
                answer += to.pending()
        return answer

    flight = client.start()
    while flight:
        flight = carry(carry(flight, server), client)
    return Ended(failed.get(client), failed.get(server))


def connected(pki: Pki, **changes: Any) -> tuple[TlsChannel, TlsChannel]:
    """A client's and a server's channel after their handshake."""
    client, server = pki.client_tls().channel(), pki.server_tls(**changes).channel(NOW.timestamp())
    assert shake(client, server) == Ended(None, None)
    return client, server
