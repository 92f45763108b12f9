"""The key of API keys' hashes, in a file that nobody else may read: its octets, all of them.

The seam for keys that a service keeps is `keys_ports.HashKeys`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.identity.api_keys import LEAST_HASH_KEY
from sidecar.identity.keys_model import HashKey
from sidecar.state.files import open_private, sync_directory
from sidecar.state.ports import StateError

MOST: Final = 1024  # bytes


class FileHashKeys:
    """A `keys_ports.HashKeys` of one key. Raises StateError for a file that others may read, or of another size."""

    def __init__(self, path: Path) -> None:
        with open(open_private(path, os.O_RDONLY), "rb") as file:
            octets = file.read(MOST + 1)
        if not LEAST_HASH_KEY <= len(octets) <= MOST:
            raise StateError(f"key file {path} has {len(octets)} bytes or more, expected {LEAST_HASH_KEY} to {MOST}")
        self.current = HashKey(hmac.digest(octets, b"langtrain name of a hash key", "sha256")[:8].hex(), octets)

    def find(self, name: str) -> HashKey | None:
        return self.current if name == self.current.name else None


def make(path: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
    """Write a new one, durably. Raises StateError where there is a file already."""
    with open(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(random_bytes(LEAST_HASH_KEY))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
