"""What makes a database of this version: numbered files of SQL, each run once and never changed afterwards.

A database remembers which it has had, with the checksum of each. One that has had others is refused: it is of a later
version, or not what this version believes it to be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from time import monotonic
from typing import Final
from uuid import uuid4

from sidecar.state.database import Connection, Database
from sidecar.state.ports import SchemaError

NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
RECORDS: Final = """
CREATE TABLE IF NOT EXISTS migrations (
    number BIGINT PRIMARY KEY,
    title TEXT NOT NULL,
    checksum TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
"""
MIGRATE_S: Final = 600.0  # for all of them; a large table may have to be written anew


@dataclass(frozen=True, slots=True)
class Migration:
    """statements: one after the other.  checksum: SHA-256 of the file, hex."""

    number: int
    title: str
    statements: tuple[str, ...]
    checksum: str


def shipped() -> tuple[Migration, ...]:
    """Those of this version."""
    return read(files(__package__) / "migrations")


def read(folder: Traversable) -> tuple[Migration, ...]:
    """All files of a folder, in order. Raises SchemaError where a name is of another form, or a number is missing."""
    found: list[Migration] = []
    for number, file in enumerate(sorted(folder.iterdir(), key=lambda each: each.name), 1):
        name = NAME.fullmatch(file.name)
        if name is None or int(name[1]) != number:
            raise SchemaError(f"migration {file.name}: expected {number:04d}_….sql, for none is missing or there twice")
        octets = file.read_bytes()
        found.append(Migration(number, name[2], statements(octets.decode()), sha256(octets).hexdigest()))
    return tuple(found)


def statements(text: str) -> tuple[str, ...]:
    """Each ends with ";" at the end of a line; lines that begin with "--" are none of theirs."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return tuple(each.strip() for each in re.split(r";[ \t]*(?:\n|$)", lines) if each.strip())


def migrate(database: Database, known: Sequence[Migration], now: float) -> int:
    """Run those that the database has not had, all or none; how many there were. now: Unix seconds.

    Raises SchemaError for a database that has had others. Of several processes that start at once, one runs them.
    """
    connection = database.connect()
    try:
        connection.begin(write=True, until=monotonic() + MIGRATE_S)
        for statement in statements(RECORDS):
            connection.run(database.spelt(statement))
        had = _had(connection, database.title, known)
        for migration in known[had:]:
            for statement in migration.statements:
                connection.run(database.spelt(statement))
            connection.run(
                "INSERT INTO migrations (number, title, checksum, at) VALUES (?, ?, ?, ?)",
                (migration.number, migration.title, migration.checksum, now),
            )
        connection.run(
            "INSERT INTO head (one, identity, sequence, compacted) VALUES (1, ?, 0, 0) ON CONFLICT DO NOTHING",
            (str(uuid4()),),
        )
        connection.commit()
    finally:
        connection.close()
    return len(known) - had


def verify(connection: Connection, title: str, known: Sequence[Migration]) -> None:
    """Raises SchemaError unless the database has had all of them, and no other. title: the database's."""
    if (had := _had(connection, title, known)) < len(known):
        raise SchemaError(f"{title} has had {had} migrations, expected {len(known)}")


def _had(connection: Connection, title: str, known: Sequence[Migration]) -> int:
    """How many of the known ones, from the first on, the database has had."""
    rows = connection.rows("SELECT number, title, checksum FROM migrations ORDER BY number")
    if len(rows) > len(known):
        number, name, _ = rows[len(known)]
        raise SchemaError(f"{title} has had migration {number} ({name}), and this version has {len(known)}: "
                          "it is of a later version")  # fmt: skip
    for (number, name, checksum), migration in zip(rows, known, strict=False):
        if number != migration.number:
            raise SchemaError(f"{title} has not had migration {migration.number}, but {number} after it")
        if checksum != migration.checksum:
            raise SchemaError(
                f"{title} has had migration {number} ({name}) as SHA-256 {checksum}, "
                f"and this version has {migration.checksum}: it was changed"
            )
    return len(rows)
