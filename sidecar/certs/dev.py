"""Certificates to develop with: a CA, the sidecar's own certificate and a few clients', in one directory."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.certs.authority import SERVER, Authority, Chance
from sidecar.errors import SidecarError

DAYS: Final = 30
DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,240}")  # SPIFFE-ID 2.1; room for a host name below it
SKEW: Final = timedelta(minutes=5)  # a clock on the other side may be behind
TRUST_DOMAIN: Final = "example.org"

README: Final = """\
Development certificates. Never use them where anything is at stake: whoever reads this directory can be anyone.

ca.pem, ca-key.pem            the authority of trust domain {domain}, and the key that signs for it
server.pem, server-key.pem    the sidecar's: localhost, 127.0.0.1, ::1
alice.pem, alice-key.pem      a client: spiffe://{domain}/team/alice
mallory.pem, mallory-key.pem  a client: spiffe://{domain}/team/mallory, for trying what a stranger may do
batch.pem, batch-key.pem      a client: dns:batch.{domain}

Valid from {start} to {end}. Delete the directory and run `langtrain-sidecar certs dev` for new ones.

    listen:
      tls: {{certificate: server.pem, key: server-key.pem, client_ca: ca.pem, client_certificates: required}}
    authentication:
      mtls: {{trust_domains: ["{domain}"]}}
"""


class DevCertificatesError(SidecarError):
    """Development certificates cannot be written here; nothing was."""


def create(
    directory: Path,
    *,
    now: datetime,
    trust_domain: str = TRUST_DOMAIN,
    days: int = DAYS,
    chance: Chance = secrets.token_bytes,
) -> tuple[Path, ...]:
    """Write the certificates, keys (mode 0600) and a README.txt into `directory`; the paths written.

    directory: made (mode 0700) where absent; may hold other files.  now: aware.  days: how long all are valid.
    Writes all or nothing, and overwrites nothing. Raises DevCertificatesError, which lists what is in the way.
    """
    if not DOMAIN.fullmatch(trust_domain):
        raise DevCertificatesError(f"trust domain {trust_domain!r}: expected letters a-z, digits, '.', '-' and '_'")
    files = _files(now, trust_domain, days, chance)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if there := sorted(name for name in files if os.path.lexists(directory / name)):
            raise DevCertificatesError(f"{directory} already has {', '.join(there)}; nothing was written")
        return _write(directory, files)
    except OSError as error:
        raise DevCertificatesError(f"cannot write to {directory}: {error.strerror}; nothing was written") from error


def _files(now: datetime, domain: str, days: int, chance: Chance) -> dict[str, bytes]:
    start, end = now - SKEW, now + timedelta(days=days)
    authority = Authority.root("langtrain-sidecar development CA", start=start, end=end, chance=chance)
    issued = {
        "server": authority.issue(
            "localhost", start=start, end=end, dns=("localhost",), addresses=("127.0.0.1", "::1"), purposes=SERVER
        ),
        "alice": authority.issue("alice", start=start, end=end, uris=(f"spiffe://{domain}/team/alice",)),
        "mallory": authority.issue("mallory", start=start, end=end, uris=(f"spiffe://{domain}/team/mallory",)),
        "batch": authority.issue("batch", start=start, end=end, dns=(f"batch.{domain}",)),
    }
    files = {"ca.pem": authority.own.certificate.public_bytes(Encoding.PEM), "ca-key.pem": authority.own.key_pem()}
    for name, leaf in issued.items():
        files |= {f"{name}.pem": leaf.chain_pem(), f"{name}-key.pem": leaf.key_pem()}
    dates = {"start": start.isoformat(timespec="minutes"), "end": end.isoformat(timespec="minutes")}
    return files | {"README.txt": README.format(domain=domain, **dates).encode()}


def _write(directory: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    """Write aside, then link each into place, which fails where a name is taken; undo on any failure."""
    linked: list[Path] = []
    with tempfile.TemporaryDirectory(dir=directory, prefix=".certs-") as aside:
        try:
            for name, data in files.items():
                mode = 0o600 if name.endswith("-key.pem") else 0o644
                with open(os.open(Path(aside, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                    file.write(data)
            for name in files:
                os.link(Path(aside, name), directory / name)
                linked.append(directory / name)
        except BaseException:
            for path in linked:
                path.unlink(missing_ok=True)
            raise
    return tuple(linked)
