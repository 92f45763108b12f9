"""Whose API key it is that a caller presents: the file of all keys, and over it what has changed since.

Used on the event loop's thread; how changes come here is not handled here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sidecar.identity import api_keys
from sidecar.identity.api_keys import ApiKeyError
from sidecar.identity.keys_file import KeyFile, KeyFileError
from sidecar.identity.keys_model import KeyRecord, decode
from sidecar.identity.keys_ports import HashKeys


class KeyChange(NamedTuple):
    """body: as `keys_model.encode` has it."""

    sequence: int
    key_id: str
    body: bytes


class KeyLookup:
    """sequence: of the last change that is known here."""

    def __init__(self, file: KeyFile, hash_keys: HashKeys) -> None:
        self.sequence = file.sequence
        self._file = file
        self._hash_keys = hash_keys
        self._changed: dict[str, KeyChange] = {}

    def __len__(self) -> int:
        """How many keys have changed since the file was made: the more, the sooner another is due."""
        return len(self._changed)

    @property
    def database(self) -> str:
        """Of which database the file is."""
        return self._file.database

    @property
    def sequence_of_file(self) -> int:
        """Up to which change the file is."""
        return self._file.sequence

    def identify(self, text: str, now: float) -> KeyRecord:
        """text: the key.  now: Unix seconds. Raises ApiKeyError, and KeyFileError where it cannot be known.

        What has become of a key is for its holder alone: only who has the secret learns that it was revoked.
        """
        key = api_keys.parse(text)
        record = self.find(key.key_id)
        if record is None or not record.hash:
            raise ApiKeyError("identify.key_unknown")
        hash_key = self._hash_keys.find(record.hash_key)
        if hash_key is None:
            raise KeyFileError(f"API key {key.key_id} needs hash key {record.hash_key}, which is not here")
        if not api_keys.matches(key, hash_key.key, record.hash):
            raise ApiKeyError("identify.key_secret")
        if why := record.unusable(now):
            raise ApiKeyError(why)
        return record

    def find(self, key_id: str) -> KeyRecord | None:
        """As it is now: for whoever holds on to a key that was presented before."""
        changed = self._changed.get(key_id)
        return self._file.find(key_id) if changed is None else decode(changed.body)

    def apply(self, changes: Iterable[KeyChange], upto: int) -> None:
        """Changes of keys, in order, without a gap to `sequence`. upto: the last change of all, others' included."""
        for change in changes:
            if change.sequence > self.sequence:
                self._changed[change.key_id] = change
        self.sequence = max(upto, self.sequence)

    def begin_anew(self, changes: Iterable[KeyChange]) -> None:
        """Of what has changed since the file was made, this is all, and what was known before is not so any more."""
        self._changed, self.sequence = {}, self._file.sequence
        for change in sorted(changes):
            self.apply((change,), change.sequence)

    def close(self) -> None:
        self._file.close()

    def swap(self, file: KeyFile) -> None:
        """Go on with a later file, and close the one before. Raises KeyFileError for an older one, or another's."""
        if file.database != self._file.database:
            raise KeyFileError(f"file of API keys {file.path} is of another database")
        if file.sequence < self._file.sequence:
            raise KeyFileError(f"file of API keys {file.path} is up to change {file.sequence}, expected "
                               f"{self._file.sequence} or later")  # fmt: skip
        old, self._file = self._file, file
        old.close()
        self.sequence = max(self.sequence, file.sequence)
        self._changed = {name: change for name, change in self._changed.items() if change.sequence > file.sequence}
