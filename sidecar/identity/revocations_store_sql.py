"""The `revocations.RevocationsStore` in the sidecar's state."""

from __future__ import annotations

from typing import Final

from interceptors.facts import DEFAULT_TENANT
from sidecar.identity.revocations_model import DOMAIN, KIND, Revocation, Subject, encode
from sidecar.state.ports import Reading, Row, StateError, Transaction

ALL: Final = "SELECT id, tenant, kind, issuer, name, issued_before, revoked, expires, revoker, reason FROM revocations"
PUT: Final = """
INSERT INTO revocations (id, tenant, kind, issuer, name, issued_before, revoked, expires, revoker, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET issued_before = excluded.issued_before, revoked = excluded.revoked,
    expires = excluded.expires, revoker = excluded.revoker, reason = excluded.reason"""


class SqlRevocationsReading:
    """Of one reading, for those who only look."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, name: str) -> Revocation | None:
        row = self._reading.row(f"{ALL} WHERE id = ?", name)
        return None if row is None else _revocation(row)

    def page(self, tenant: str, after: str, most: int) -> list[Revocation]:
        if tenant == DEFAULT_TENANT:
            rows = self._reading.rows(f"{ALL} WHERE id > ? ORDER BY id LIMIT ?", after, most)
        else:
            rows = self._reading.rows(f"{ALL} WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?", tenant, after, most)
        return [_revocation(row) for row in rows]

    def all(self) -> list[Revocation]:
        return [_revocation(row) for row in self._reading.rows(ALL)]

    def count(self, tenant: str) -> int:
        if tenant == DEFAULT_TENANT:
            ((count,),) = self._reading.rows("SELECT count(*) FROM revocations")
        else:
            ((count,),) = self._reading.rows("SELECT count(*) FROM revocations WHERE tenant = ?", tenant)
        return int(count)


class SqlRevocationsStore(SqlRevocationsReading):
    """Of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._transaction = transaction

    def put(self, revocation: Revocation) -> None:
        it = revocation
        self._transaction.run(
            PUT, it.id, it.tenant, *it.subject, it.issued_before, it.revoked, it.expires, it.revoker, it.reason
        )
        self._transaction.change(DOMAIN, KIND, revocation.id, encode(revocation))

    def drop(self, expired: float, most: int) -> int:
        rows = self._transaction.rows(
            "SELECT id FROM revocations WHERE expires <= ? ORDER BY id LIMIT ?", expired, most
        )
        for (name,) in rows:
            self._transaction.run("DELETE FROM revocations WHERE id = ?", name)
            self._transaction.change(DOMAIN, KIND, name, b"")
        return len(rows)


def _revocation(row: Row) -> Revocation:
    """Raises StateError where what is revoked is not what its id says: nobody is let in for a row that was spoilt."""
    known, tenant, kind, issuer, name, *rest = row
    found = Revocation(tenant, Subject(kind, issuer, name), *rest)
    if found.id != known:
        raise StateError(f"revocation {known} in the state is damaged")
    return found
