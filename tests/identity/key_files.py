"""Files of API keys for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sidecar.identity.keys_file import KeyFile, build
from sidecar.identity.keys_model import HashKey, KeyRecord
from sidecar.state.ports import Head
from tests.identity.keyring import HASH_KEY

DATABASE = "0192f0c0-0000-7000-8000-000000000000"


def written(
    path: Path, records: Iterable[KeyRecord], sequence: int = 7, hash_key: HashKey = HASH_KEY, database: str = DATABASE
) -> KeyFile:
    ordered = sorted(records)
    build(path, ordered, len(ordered), Head(database, sequence, 0), hash_key)
    return KeyFile(path, hash_key)
