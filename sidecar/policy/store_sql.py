"""Roles, groups, grants and policies in the sidecar's state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from sidecar.policy import rows
from sidecar.policy.model import Grant, Item, Policy
from sidecar.policy.names import GROUP
from sidecar.policy.rows import Key
from sidecar.state.ports import Reading, Row, Transaction

VERSIONS_KEPT: Final = 100  # of a policy

SELECT: Final = "SELECT kind, body, version, description, created, creator, updated, updater FROM "
ONE: Final = SELECT + "policy_items WHERE kind = ? AND tenant = ? AND name = ?"
PAGE: Final = SELECT + "policy_items WHERE kind = ? AND tenant = ? AND name > ?"
OF_MEMBER: Final = SELECT + (
    "policy_members JOIN policy_items USING (tenant, name) WHERE kind = ? AND tenant = ? AND name > ? AND member = ?"
)
WEIGHT: Final = "SELECT count(*), coalesce(sum(length(body)), 0) FROM "
WEIGHT_OF_ROLE: Final = WEIGHT + "policy_items WHERE kind = 'grant' AND tenant = ? AND role = ?"
WEIGHT_OF_MEMBER: Final = WEIGHT + (
    "policy_members JOIN policy_items USING (tenant, name) WHERE kind = 'grant' AND tenant = ? AND member = ?"
)
BODIES: Final = "SELECT kind, tenant, name, body FROM policy_items"
OF_TENANT: Final = " WHERE kind = ? AND tenant = ?"
OF_ROLE: Final = " AND role = ?"
PUT: Final = """
INSERT INTO policy_items
    (kind, tenant, name, role, body, version, description, created, creator, updated, updater)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, tenant, name) DO UPDATE SET
    role = excluded.role, body = excluded.body, version = excluded.version, description = excluded.description,
    updated = excluded.updated, updater = excluded.updater"""
VERSION: Final = """
SELECT 'policy', body, version, description, updated, updater, updated, updater FROM policy_versions
WHERE tenant = ? AND name = ? AND version """
ADD_VERSION: Final = """
INSERT INTO policy_versions (tenant, name, version, body, description, updated, updater) VALUES (?, ?, ?, ?, ?, ?, ?)"""


class Stored(NamedTuple):
    """An item, and what is kept of it beside. version: from 1, one more with each change.

    created, updated: Unix seconds; 0 for what is not of the store.  creator, updater: names of principals.
    """

    item: Item
    version: int = 1
    description: str = ""
    created: float = 0.0
    creator: str = ""
    updated: float = 0.0
    updater: str = ""


class PolicyReading:
    """Of one reading, for those who only look."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, key: Key) -> Stored | None:
        row = self._reading.row(ONE, *key)
        return None if row is None else _stored(row)

    def page(self, after: Key, most: int, member: str = "", role: str = "") -> list[Stored]:
        """By name, those of its kind and tenant after `after`. member, role: of grants that name them; "" for any."""
        sql, values = (OF_MEMBER, [*after, member]) if member else (PAGE, [*after])
        if role:
            sql, values = sql + OF_ROLE, [*values, role]
        return [_stored(row) for row in self._reading.rows(sql + " ORDER BY name LIMIT ?", *values, most)]

    def using(self, key: Key, most: int) -> list[Stored]:
        """Grants that name a role or a group, by id; none of any other kind of thing."""
        after = Key("grant", key.tenant, "")
        if key.kind == "role":
            return self.page(after, most, role=key.name)
        return self.page(after, most, member=f"{GROUP}{key.name}") if key.kind == "group" else []

    def weight(self, key: Key) -> tuple[int, int]:
        """How many grants name a role or a group, and the bytes of all of them."""
        if key.kind == "role":
            row = self._reading.row(WEIGHT_OF_ROLE, key.tenant, key.name)
        elif key.kind == "group":
            row = self._reading.row(WEIGHT_OF_MEMBER, key.tenant, f"{GROUP}{key.name}")
        else:
            row = None
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def version(self, tenant: str, name: str, version: int) -> Stored | None:
        """What a policy is or was."""
        row = self._reading.row(VERSION + "= ?", tenant, name, version)
        return None if row is None else _stored(row)

    def versions(self, tenant: str, name: str, before: int, most: int) -> list[Stored]:
        """The last first, those before a version."""
        found = self._reading.rows(VERSION + "< ? ORDER BY version DESC LIMIT ?", tenant, name, before, most)
        return [_stored(row) for row in found]

    def last_version(self, tenant: str, name: str) -> int:
        """That a policy of this name has or has had, 0 for none."""
        row = self._reading.row("SELECT max(version) FROM policy_versions WHERE tenant = ? AND name = ?", tenant, name)
        return int(row[0]) if row and row[0] is not None else 0

    def body(self, key: Key) -> bytes:
        """Of one thing, b"" where there is none."""
        row = self._reading.row(f"{BODIES} WHERE kind = ? AND tenant = ? AND name = ?", key.kind, key.tenant, key.name)
        return bytes(row[3]) if row is not None else b""

    def bodies(self, tenant: str = "") -> Iterator[tuple[Key, bytes]]:
        """Of everything, or of all that a tenant has; never all in memory."""
        found = (
            (self._reading.stream(BODIES + OF_TENANT, kind, tenant) for kind in rows.KINDS)
            if tenant
            else [self._reading.stream(BODIES)]
        )
        for kind, of, name, body in chain.from_iterable(found):
            yield Key(kind, of, name), bytes(body)

    def moved(self, sequence: int) -> bool:
        """Whether something has changed, or may have, since the change of this number."""
        if self._reading.head().compacted > sequence:
            return True
        sql = "SELECT 1 FROM changes WHERE sequence > ? AND domain = ? LIMIT 1"
        return self._reading.row(sql, sequence, rows.DOMAIN) is not None


class PolicyStore(PolicyReading):
    """Of one transaction; followers learn of what it does."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._transaction = transaction

    def put(self, stored: Stored) -> None:
        """In place of the one of its name, whose `created` and `creator` stay."""
        item, key = stored.item, rows.key(stored.item)
        body, role = rows.encode(item), item.role if isinstance(item, Grant) else ""
        self._transaction.run(PUT, *key, role, body, *stored[1:])
        if isinstance(item, Grant):
            self._forget_members(key)
            members = [(key.tenant, member, key.name) for member in dict.fromkeys(item.members)]
            self._transaction.run_many("INSERT INTO policy_members (tenant, member, name) VALUES (?, ?, ?)", members)
        if isinstance(item, Policy):
            self._transaction.run(
                ADD_VERSION, key.tenant, key.name, stored.version, body, stored.description, stored.updated,
                stored.updater,
            )  # fmt: skip
            self._transaction.run(
                "DELETE FROM policy_versions WHERE tenant = ? AND name = ? AND version <= ?",
                key.tenant, key.name, stored.version - VERSIONS_KEPT,
            )  # fmt: skip
        self._transaction.change(rows.DOMAIN, key.kind, str(key), body)

    def remove(self, key: Key) -> None:
        self._transaction.run("DELETE FROM policy_items WHERE kind = ? AND tenant = ? AND name = ?", *key)
        if key.kind == "grant":
            self._forget_members(key)
        self._transaction.change(rows.DOMAIN, key.kind, str(key), b"")

    def _forget_members(self, key: Key) -> None:
        self._transaction.run("DELETE FROM policy_members WHERE tenant = ? AND name = ?", key.tenant, key.name)


def _stored(row: Row) -> Stored:
    kind, body, *rest = row
    return Stored(rows.decode(kind, bytes(body)), *rest)
