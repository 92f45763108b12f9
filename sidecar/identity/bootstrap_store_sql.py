"""One-time credentials in the sidecar's state. What was claimed stays, so that it is never good again."""

from __future__ import annotations

from typing import Final

from sidecar.identity.bootstrap_model import Record
from sidecar.state.ports import Reading, Transaction

ALL: Final = """
SELECT id, tenant, hash, made, expires, maker, beside, claimed, claimant, claim FROM bootstrap_credentials WHERE """
ADD: Final = """
INSERT INTO bootstrap_credentials (id, tenant, hash, made, expires, maker, beside, claimed, claimant, claim)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class BootstrapReading:
    """Of one reading, for those who only look."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, name: str) -> Record | None:
        row = self._reading.row(ALL + "id = ?", name)
        if row is None:
            return None
        made = Record(*row)
        return made._replace(hash=bytes(made.hash), beside=bool(made.beside))

    def claimed(self, tenant: str) -> bool:
        """Whether one of a tenant ever was."""
        found = self._reading.row("SELECT 1 FROM bootstrap_credentials WHERE tenant = ? AND claimed > 0", tenant)
        return found is not None


class BootstrapStore(BootstrapReading):
    """Of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._transaction = transaction

    def replace(self, record: Record) -> None:
        """Add one; those of its tenant that nobody has claimed are good for nothing from then on."""
        self._transaction.run("DELETE FROM bootstrap_credentials WHERE tenant = ? AND claimed = 0", record.tenant)
        self._transaction.run(ADD, *record[:6], int(record.beside), *record[7:])

    def claim(self, record: Record) -> None:
        self._transaction.run(
            "UPDATE bootstrap_credentials SET claimed = ?, claimant = ?, claim = ? WHERE id = ?",
            record.claimed, record.claimant, record.grant, record.id,
        )  # fmt: skip
