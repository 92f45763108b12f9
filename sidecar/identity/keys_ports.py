"""What API keys need from the outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sidecar.identity.keys_model import HashKey, KeyRecord


class KeysReading(Protocol):
    """The records, as they are at one moment."""

    def get(self, key_id: str) -> KeyRecord | None: ...

    def page(self, tenant: str, owner: str, after: str, most: int) -> list[KeyRecord]:
        """By id, those after `after`. owner: "" for anyone's."""

    def due(self, now: float, most: int) -> list[KeyRecord]:
        """Those of which a successor is to be prepared, as of `KeyRecord.due`, the earliest first."""


class KeysStore(KeysReading, Protocol):
    """The records, within one transaction."""

    def add(self, record: KeyRecord) -> None:
        """Followers learn of it. Raises ConflictError where its id is taken."""

    def replace(self, record: KeyRecord) -> None:
        """Put it in the place of the one with its id, whose `last_used` stays; followers learn of it."""

    def touch(self, used: Mapping[str, float]) -> None:
        """Move `last_used` on, never back, to the Unix seconds given by id; nobody learns of that."""


class HashKeys(Protocol):
    """The keys of keyed hashes."""

    @property
    def current(self) -> HashKey:
        """For new API keys."""

    def find(self, name: str) -> HashKey | None: ...
