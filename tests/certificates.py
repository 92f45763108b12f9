"""The development certificates that end-to-end tests run with: an authority's files, and who is who."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidecar.certs import dev

TRUST_DOMAIN = dev.TRUST_DOMAIN
CLIENT = f"spiffe://{TRUST_DOMAIN}/team/alice"
STRANGER = f"spiffe://{TRUST_DOMAIN}/team/mallory"
SIDECAR = f"dns:batch.{TRUST_DOMAIN}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """ca: PEM file that all chain to.  server: for localhost and 127.0.0.1.  client and stranger carry the URI names
    `CLIENT` and `STRANGER`; sidecar is what the sidecar presents to an upstream, with the name `SIDECAR`."""

    ca: Path
    server: Pair
    client: Pair
    stranger: Pair
    sidecar: Pair


def make(directory: Path, now: datetime | None = None) -> Certificates:
    """Write development certificates into `directory`, valid at `now`, which is the present unless said."""
    dev.create(directory, now=now or datetime.now(UTC))
    server, client, stranger, sidecar = (
        Pair(directory / f"{name}.pem", directory / f"{name}-key.pem")
        for name in ("server", "alice", "mallory", "batch")
    )
    return Certificates(directory / "ca.pem", server, client, stranger, sidecar)
