"""Certificates, keys and CRLs, tried as `serve` would load them, and how long they will still do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from sidecar import wiring
from sidecar.check.report import Finding, Report, fault, total, warning
from sidecar.config.model import Config
from sidecar.relay.pem import PemReader
from sidecar.relay.tls import ClientTls, ServerTls
from sidecar.relay.tls_errors import TlsFault, TlsSettingsError

SOON: Final = timedelta(days=14)


def inspect(config: Config, now: datetime) -> Report:
    """Every fault of the files that TLS needs, on both sides. now: aware."""
    return loaded(config, now) + revocations(config, now)


def loaded(config: Config, now: datetime) -> Report:
    """Faults with which `serve` does not start. now: aware."""
    at = now.timestamp()
    report = Report()
    server, client = wiring.server_tls(config), wiring.client_tls(config)
    if server:
        report += _tried(lambda: ServerTls(server, at), "listen.tls", _anchor_paths(config), now)
    if client:
        report += _tried(lambda: ClientTls(client, at), "upstream.tls", {}, now)
    return report


def revocations(config: Config, now: datetime) -> Report:
    """Whether each CA has a current list, without which its clients, and only they, are refused. now: aware."""
    server = wiring.server_tls(config)
    if server is None or server.crl is None:
        return Report()
    reader = PemReader(now.timestamp())
    lists = reader.revocations("crl", server.crl)
    authorities = {each for path in {anchor.ca for anchor in server.trust} for each in reader.authorities("ca", path)}
    if reader.faults:
        return Report()  # `loaded` tells them
    ordered = sorted(authorities, key=lambda each: each.serial_number)
    return total(_coverage(each, lists, now, server.unsafe_allow_missing_crl) for each in ordered)


def _anchor_paths(config: Config) -> Mapping[str, str]:
    """trust[n] of the TLS settings → the key path that named its file."""
    mtls = config.authentication.mtls
    own = [bool(domain.ca) for domain in mtls.trust_domains] if mtls else []
    paths = (
        f"authentication.mtls.trust_domains[{at}].ca" if has else "listen.tls.client_ca" for at, has in enumerate(own)
    )
    return {f"trust[{at}].ca": path for at, path in enumerate(paths)} or {"trust[0].ca": "listen.tls.client_ca"}


def _tried(make: Callable[[], ServerTls | ClientTls], section: str, names: Mapping[str, str], now: datetime) -> Report:
    def finding(each: TlsFault) -> Finding:
        return Finding(names.get(each.field, f"{section}.{each.field}"), each.problem)

    try:
        made = make()
    except TlsSettingsError as error:
        return Report(tuple(dict.fromkeys(map(finding, error.faults))))
    report = Report(warnings=tuple(dict.fromkeys(map(finding, made.warnings))))
    if made.not_after is not None and made.not_after - now.timestamp() < SOON.total_seconds():
        end = datetime.fromtimestamp(made.not_after, UTC).isoformat()
        report += warning(f"{section}.certificate", f"expires soon, at {end}")
    return report


def _coverage(
    authority: x509.Certificate, lists: Iterable[x509.CertificateRevocationList], now: datetime, excused: bool
) -> Report:
    of_it = [each for each in lists if each.issuer == authority.subject]
    ends = [each.next_update_utc for each in of_it if each.next_update_utc]
    name = re.sub(r"[^ -~]", "?", authority.subject.rfc4514_string())
    if not of_it:
        missing = fault("listen.tls.crl", f"expected a revocation list of the CA '{name}', came none")
        return missing.excused() if excused else missing
    if not ends or max(ends) <= now:
        end = max(ends).isoformat() if ends else "no known time"
        return fault(
            "listen.tls.crl", f"expected a current revocation list of the CA '{name}', came one that ended at {end}"
        )
    return Report()
