"""What a worker makes of a config."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from interceptors.sequences import KEY
from sidecar.app import Fittings, Lasting, SharedLedger, fittings, nonce_key, sequence_key
from sidecar.certs import dev
from sidecar.config.load import build
from sidecar.identity.dpop_nonces import LEAST_KEY
from sidecar.identity.keys_known import KeysKnown
from sidecar.identity.revocations_known import RevocationsKnown
from sidecar.wiring import UNKNOWN, UNTOLD

RULE = {"identities": ["spiffe://example.org/*"], "methods": ["/**"]}


def fitted(directory: Path, before: Fittings | None = None, **changes: Any) -> Fittings:
    tls = {"certificate": "server.pem", "key": "server-key.pem", "client_ca": "ca.pem"}
    data = {
        "listen": {"tls": tls},
        "authentication": {"mtls": {"trust_domains": ["example.org"]}},
        "authorization": {"rules": [RULE]},
        **changes,
    }
    config = build(data, directory, {}).effective()
    known = KeysKnown(lambda: inf, lambda holders: None, lambda: 0.0)
    revoked = RevocationsKnown(lambda: inf, lambda certificate: None, lambda: 0.0)
    lasting = Lasting(SharedLedger(print), SharedLedger(print), UNTOLD, known, revoked, UNKNOWN, bytes(32), bytes(32))
    return fittings({"config": config, "directory": str(directory)}, lasting, before)


def test_rules_that_have_not_changed_are_not_compiled_again(tmp_path: Path) -> None:
    """Of thousands of them it takes a worker a second, and most reloads are for certificates."""
    dev.create(tmp_path, now=datetime.now(UTC))
    first = fitted(tmp_path)
    second = fitted(tmp_path, first, telemetry={"sample": 0.5})
    third = fitted(tmp_path, second, authorization={"rules": [{**RULE, "models": ["m"]}]})
    services = [{"service": "acme.v1.Scorer", "permission": "models.load_config"}]
    fourth = fitted(tmp_path, first, upstream={"services": services})
    assert second.authorize is first.authorize
    assert third.authorize is not second.authorize
    assert fourth.authorize is not first.authorize  # what it remembers of methods need not be so any more
    for each in (first, second, third, fourth):
        assert each.authorize in each.chain.links
        assert each.authorize in each.standing.links


def test_open_calls_stay_with_who_decided_on_them_where_that_decides_alike(tmp_path: Path) -> None:
    dev.create(tmp_path, now=datetime.now(UTC))
    said = {"rules": [RULE], "policies": True, "attributes": {"models/*": {"level": 1}}}
    first = fitted(tmp_path, authorization=said)
    again = fitted(tmp_path, first, authorization=said, telemetry={"sample": 0.5})
    assert first.access is not None
    assert (again.access, again.authorize) == (first.access, first.authorize)
    ruled = fitted(tmp_path, first, authorization={**said, "rules": [{**RULE, "models": ["m"]}]})
    assert ruled.access is first.access
    assert ruled.authorize is not first.authorize
    other = fitted(tmp_path, first, authorization={**said, "attributes": {"models/*": {"level": 2}}})
    patient = fitted(tmp_path, first, authorization=said, state={"max_staleness": "9s"})
    for each in (other, patient):
        assert each.access is not first.access
        assert each.authorize is not first.authorize
    assert fitted(tmp_path, first).access is None


def test_the_workers_of_a_boot_make_the_same_sequences() -> None:
    key = sequence_key(bytes(32))
    assert key == sequence_key(bytes(32))
    assert len(key) == KEY
    assert key not in (bytes(32), sequence_key(b"\1" * 32))


def test_the_workers_of_a_boot_make_the_same_nonces() -> None:
    key = nonce_key(bytes(32))
    assert key == nonce_key(bytes(32))
    assert len(key) >= LEAST_KEY
    assert key not in (bytes(32), nonce_key(b"\1" * 32), sequence_key(bytes(32)))
