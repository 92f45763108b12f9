"""The file of API keys, made of what is stored, by the services process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.identity.keys_file import KeyFile, KeyFileError, build
from sidecar.identity.keys_model import HashKey
from sidecar.identity.keys_store_sql import SqlKeysReading
from sidecar.state.ports import Head, Reading, StateError, Store

BUILD_S: Final = 600.0


def publish(store: Store, path: Path, hash_key: HashKey, random_bytes: Callable[[int], bytes] = os.urandom) -> Head:
    """Replace the file by one of all keys as they are now; returns up to where. Raises KeyFileError, StateError.

    A million keys take half a minute of one of the store's readers, and as many megabytes as the directory has.
    """

    def work(reading: Reading) -> Head:
        keys, head = SqlKeysReading(reading), reading.head()
        build(path, keys.all(), keys.count(), head, hash_key, random_bytes)
        return head

    return store.read(work, BUILD_S)


def usable(store: Store, path: Path, hash_key: HashKey) -> Head | None:
    """Up to where the file is that is there already; None where it is not one that changes lead on from."""
    try:
        file = KeyFile(path, hash_key)
    except (KeyFileError, StateError):
        return None
    file.close()
    head = store.read(lambda reading: reading.head())
    if file.database != head.identity or not head.compacted <= file.sequence <= head.sequence:
        return None
    return head._replace(sequence=file.sequence)
