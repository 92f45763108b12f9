"""The `keys_ports.KeysStore` in the sidecar's state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from sidecar.identity.keys_model import DOMAIN, KIND, KeyRecord, encode
from sidecar.state.ports import Reading, Row, Transaction, Value

ALL: Final = """
SELECT key_id, tenant, owner, title, permissions, resources, created, expires, rate, auto_rotate, line, rotated_to,
    overlap_ends, revoked, hash_key, hash, last_used
FROM api_keys WHERE """
ADD: Final = """
INSERT INTO api_keys (key_id, tenant, owner, title, permissions, resources, created, expires, rate, auto_rotate, line,
    rotated_to, overlap_ends, revoked, hash_key, hash, due, last_used)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"""
REPLACE: Final = """
UPDATE api_keys SET tenant = ?, owner = ?, title = ?, permissions = ?, resources = ?, created = ?, expires = ?,
    rate = ?, auto_rotate = ?, line = ?, rotated_to = ?, overlap_ends = ?, revoked = ?, hash_key = ?, hash = ?, due = ?
WHERE key_id = ?"""
TOUCH: Final = "UPDATE api_keys SET last_used = ? WHERE key_id = ? AND last_used < ?"


class SqlKeysReading:
    """Of one reading, for those who only look."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, key_id: str) -> KeyRecord | None:
        row = self._reading.row(ALL + "key_id = ?", key_id)
        return None if row is None else _record(row)

    def page(self, tenant: str, owner: str, after: str, most: int) -> list[KeyRecord]:
        whose, values = ("tenant = ? AND owner = ?", (tenant, owner)) if owner else ("tenant = ?", (tenant,))
        rows = self._reading.rows(ALL + whose + " AND key_id > ? ORDER BY key_id LIMIT ?", *values, after, most)
        return [_record(row) for row in rows]

    def due(self, now: float, most: int) -> list[KeyRecord]:
        rows = self._reading.rows(ALL + "due <= ? AND expires > ? ORDER BY due, key_id LIMIT ?", now, now, most)
        return [_record(row) for row in rows]

    def count(self) -> int:
        """How many have a secret."""
        row = self._reading.row("SELECT count(*) FROM api_keys WHERE length(hash) > 0")
        return int(row[0]) if row else 0

    def all(self) -> Iterator[KeyRecord]:
        """Those, by id, never all in memory."""
        return map(_record, self._reading.stream(ALL + "length(hash) > 0 ORDER BY key_id"))


class SqlKeysStore(SqlKeysReading):
    """Of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._transaction = transaction

    def add(self, record: KeyRecord) -> None:
        self._transaction.run(ADD, *_values(record))
        self._transaction.change(DOMAIN, KIND, record.key_id, encode(record))

    def replace(self, record: KeyRecord) -> None:
        key_id, *values = _values(record)
        self._transaction.run(REPLACE, *values, key_id)
        self._transaction.change(DOMAIN, KIND, record.key_id, encode(record))

    def touch(self, used: Mapping[str, float]) -> None:
        self._transaction.run_many(TOUCH, [(at, key_id, at) for key_id, at in sorted(used.items())])


def _record(row: Row) -> KeyRecord:
    values = list(row)
    values[4], values[5] = tuple(json.loads(values[4])), tuple(json.loads(values[5]))
    values[9] = bool(values[9])
    return KeyRecord(*values)


def _values(record: KeyRecord) -> list[Value]:
    return [
        *record[:4],
        json.dumps(record.permissions),
        json.dumps(record.resources),
        *record[6:9],
        int(record.auto_rotate),
        *record[10:-1],
        record.due,
    ]
