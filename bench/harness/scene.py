"""A sidecar with several workers before an echoing model server, with certificates that can be changed meanwhile."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from bench.harness import children
from bench.harness.errors import BenchError
from bench.harness.processes import Process, Processes
from sidecar.certs.authority import SERVER, Authority, Issued

CLIENT = "spiffe://example.org/bench/client"
DAY = timedelta(days=1)
LOOK_S = 0.01
START_S = 90.0  # on a machine that others use as well


class Pki:
    """An authority of example.org, and what it issues, in files of a folder. A CRL is among them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.root = self.authority("bench")
        self.ca, self.crl = folder / "ca.pem", folder / "crl.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server-key.pem"
        replace(self.ca, self.root.own.chain_pem())
        self.revoke()
        self.rotate()
        self.client = self.leaf()

    def authority(self, name: str) -> Authority:
        now = datetime.now(UTC)
        return Authority.root(name, start=now - DAY, end=now + 90 * DAY, chance=secrets.token_bytes)

    def leaf(self, end: datetime | None = None, by: Authority | None = None, name: str = CLIENT) -> Issued:
        """A client's certificate. name: its SPIFFE id."""
        now = datetime.now(UTC)
        return (by or self.root).issue(start=now - DAY, end=end or now + 60 * DAY, uris=(name,))

    def rotate(self) -> None:
        """A new certificate and key of the sidecar's in place of the old."""
        now = datetime.now(UTC)
        issued = self.root.issue("localhost", start=now - DAY, end=now + 60 * DAY, dns=("localhost",), purposes=SERVER)
        replace(self.certificate, issued.chain_pem())
        replace(self.key, issued.key_pem())

    def revoke(self, *leaves: Issued) -> None:
        """A CRL of these, in place of the one before."""
        now = datetime.now(UTC)
        revoked = [leaf.certificate for leaf in leaves]
        replace(self.crl, self.root.crl(*revoked, start=now - DAY, end=now + DAY).public_bytes(Encoding.PEM))

    def credentials(self, leaf: Issued | None = None) -> Any:
        issued = leaf or self.client
        return grpc.ssl_channel_credentials(self.root.own.chain_pem(), issued.key_pem(), issued.chain_pem())

    def written(self, leaf: Issued) -> Path:
        """A client's key and chain in one file."""
        file = self.folder / f"{leaf.certificate.serial_number:x}.pem"
        file.write_bytes(leaf.key_pem() + leaf.chain_pem())
        return file


def replace(file: Path, data: bytes) -> None:
    """As one change."""
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(data)
    fresh.rename(file)


class Scene:
    """One running sidecar. address: "127.0.0.1:port"."""

    def __init__(self, process: Process, config: dict[str, Any], file: Path, pki: Pki) -> None:
        self.process, self.config, self.file, self.pki = process, config, file, pki
        self.address = str(self.until("listening", 1)["address"])

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.process.output().splitlines() if f'"{event}"' in line and line.endswith("}")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def until(self, event: str, count: int) -> dict[str, Any]:
        """The count-th log line of a kind, waited for."""
        return self.process.wait_for(
            lambda: found[count - 1] if len(found := self.logged(event)) >= count else None, f"log {event}", START_S
        )

    def reloaded(self, change: Any) -> float:
        """Change a file, and the seconds until every worker has switched. Raises BenchError where it is refused."""
        before, refused = len(self.logged("reloaded")), len(self.logged("reload_refused"))
        begun = time.monotonic()
        change()
        while len(self.logged("reloaded")) == before:
            if len(told := self.logged("reload_refused")) > refused or time.monotonic() - begun > 30:
                raise BenchError(f"expected a reload, came {told[-1:] or 'none within 30 s'}")
            time.sleep(LOOK_S)
        return time.monotonic() - begun

    def workers(self) -> dict[str, int]:
        """Name → process id of those that run."""
        return children.workers(self.process.pid)

    def channel(self, leaf: Issued | None = None) -> grpc.Channel:
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.address, self.pki.credentials(leaf), options)


class Stage:
    """Starts sidecars before one model server, within a folder."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._count = 0
        server = processes.start("echo", [sys.executable, "-m", "bench.harness.echo_server"])
        self.upstream = server.wait_for(lambda: server.output().strip() or None, "listen")
        self.pki = Pki(processes.folder / "pki")

    def counts(self) -> dict[str, int]:
        """Calls by method that have come to the model server."""
        with grpc.insecure_channel(f"127.0.0.1:{self.upstream}") as channel:
            ask: Any = channel.unary_unary("/bench.Told/Counts")
            return dict(json.loads(ask(b"", timeout=10)))

    @contextmanager
    def sidecar(
        self,
        workers: int = 4,
        crl: bool = True,
        state: str | None = None,
        more: Mapping[str, Any] | None = None,
        url: str = "sqlite",
    ) -> Iterator[Scene]:
        """state: the name of its state directory, to start again with one that another sidecar has left.

        url: of its database.
        """
        self._count += 1
        name, pki = f"sidecar-{self._count}", self.pki
        tls = {"certificate": str(pki.certificate), "key": str(pki.key), "client_ca": str(pki.ca)}
        config: dict[str, Any] = {
            "listen": {"address": "127.0.0.1:0", "tls": {**tls, "crl": str(pki.crl)} if crl else tls},
            "upstream": {"address": f"127.0.0.1:{self.upstream}"},
            "state": {"directory": str(self.processes.folder / (state or f"state-{self._count}")), "url": url},
            "authentication": {"mtls": {"trust_domains": ["example.org"]}},
            "authorization": {"rules": [{"identities": [CLIENT], "methods": ["/bench.Echo/*"]}]},
            "workers": workers,
            **(more or {}),
        }
        file = self.processes.folder / f"{name}.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        process = self.processes.start(name, [sys.executable, "-m", "sidecar", "serve", "--config", str(file)])
        yield Scene(process, config, file, pki)
        self.processes.stop(process)
