"""Revocations for whoever may revoke: `revocations` within the store's transactions, recorded before it is answered.

Safe for many threads. That the caller may do what is asked is settled before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from interceptors.events import Durability, Event
from interceptors.facts import DEFAULT_TENANT
from sidecar.identity import revocations
from sidecar.identity.revocations import Page
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATE_ID,
    CERTIFICATES,
    ISSUER,
    NEVER,
    TOKEN,
    TOKEN_ID,
    OtherTenantError,
    Revocation,
    Subject,
)
from sidecar.identity.revocations_store_sql import SqlRevocationsReading, SqlRevocationsStore
from sidecar.internal.mac import Caller
from sidecar.state.outbox import Outbox
from sidecar.state.ports import Store, Transaction

MANY: Final = 1_000  # that are dropped at once


class RevocationDesk:
    """outbox: of the store.  issuers: `iss` by title, of those in the config in force.  clock: Unix seconds."""

    def __init__(
        self, store: Store, outbox: Outbox, issuers: Callable[[], Mapping[str, str]], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._issuers = issuers
        self._clock = clock

    @property
    def issuers(self) -> Mapping[str, str]:
        return self._issuers()

    def now(self) -> float:
        return self._clock()

    def revoke(
        self, caller: Caller, method: str, subject: Subject, issued_before: float, expires: float, reason: str
    ) -> Revocation:
        """What is in force then. issued_before, expires: Unix seconds, NEVER as of `Revocation`."""
        if subject.kind in CERTIFICATES and caller.tenant != DEFAULT_TENANT:
            raise OtherTenantError(f"{caller.name} of tenant {caller.tenant} may not revoke certificates")
        now = self._clock()
        wanted = Revocation(caller.tenant, subject, issued_before, now, expires, caller.name, reason)

        def work(transaction: Transaction) -> Revocation:
            revocation, new = revocations.revoke(SqlRevocationsStore(transaction), wanted)
            if new:
                kind = "certificate.revoked" if subject.kind in CERTIFICATES else "token.revoked"
                said = f"{_said(revocation)}: {reason}" if reason else _said(revocation)
                event = Event(
                    kind, now, Durability.COMMIT, caller.tenant, caller.name, caller.source, method, reason=said
                )
                self._outbox.put(transaction, event)
            return revocation

        return self._outbox.write(work)

    def page(self, caller: Caller, after: str, most: int) -> Page:
        return self._store.read(
            lambda reading: revocations.page(SqlRevocationsReading(reading), caller.tenant, after, most)
        )

    def drop(self) -> None:
        """Drop revocations of what has ended by itself."""
        while self._store.write(lambda t: revocations.drop(SqlRevocationsStore(t), self._clock(), MANY)) == MANY:
            pass


def _said(revocation: Revocation) -> str:
    kind, issuer, name = revocation.subject
    said = {
        TOKEN: f"token with SHA-256 {name}",
        TOKEN_ID: f"token {name} of {issuer}",
        ISSUER: f"tokens of {issuer}",
        CERTIFICATE: f"certificate with SHA-256 {name}",
        CERTIFICATE_ID: f"certificate {name} of {issuer}",
    }.get(kind, f"tokens of {name}")
    before = revocation.issued_before
    return said if before == NEVER else f"{said} issued before {datetime.fromtimestamp(before, UTC).isoformat()}"
