"""Whose key it is, and why one proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.identity.api_keys import ApiKey, ApiKeyError
from sidecar.identity.keys_file import KeyFileError
from sidecar.identity.keys_lookup import KeyChange, KeyLookup
from sidecar.identity.keys_model import HashKey, KeyRecord, encode
from tests.identity.key_files import written
from tests.identity.keyring import HASH_KEY, NOW, OTHER_HASH_KEY, made

KEY, RECORD = made(1)
OTHER_KEY, OTHER = made(2)


class Keyring:
    def __init__(self, *held: HashKey) -> None:
        self.current = held[0]
        self._held = held

    def find(self, name: str) -> HashKey | None:
        return next((each for each in self._held if each.name == name), None)


def lookup(tmp_path: Path, *records: KeyRecord) -> KeyLookup:
    return KeyLookup(written(tmp_path / "api-keys.bin", records), Keyring(HASH_KEY))


def change(sequence: int, record: KeyRecord) -> KeyChange:
    return KeyChange(sequence, record.key_id, encode(record))


def refusal(keys: KeyLookup, key: ApiKey | str, now: float = NOW) -> str:
    with pytest.raises(ApiKeyError) as caught:
        keys.identify(key if isinstance(key, str) else key.text, now)
    return caught.value.reason


def test_a_good_key_is_its_record(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD, OTHER)
    assert keys.identify(KEY.text, NOW) == RECORD
    assert keys.identify(OTHER_KEY.text, NOW) == OTHER


def test_why_a_key_proves_nothing(tmp_path: Path) -> None:
    ends = NOW + 10
    keys = lookup(tmp_path, RECORD._replace(expires=ends), OTHER._replace(overlap_ends=ends))
    assert keys.identify(KEY.text, ends - 0.1).expires == ends
    assert refusal(keys, KEY, ends) == "identify.key_expired"
    assert refusal(keys, OTHER_KEY, ends) == "identify.key_rotated"
    assert refusal(keys, made(3)[0]) == "identify.key_unknown"
    assert refusal(keys, ApiKey(KEY.key_id, OTHER_KEY.secret)) == "identify.key_secret"
    assert refusal(keys, KEY.text[:-1]) == "identify.key_malformed"
    assert refusal(keys, KEY.text[:-6] + OTHER_KEY.text[-6:]) == "identify.key_checksum"


def test_only_who_has_the_secret_learns_what_became_of_a_key(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD._replace(revoked=NOW))
    assert refusal(keys, KEY) == "identify.key_revoked"
    assert refusal(keys, ApiKey(KEY.key_id, OTHER_KEY.secret)) == "identify.key_secret"


def test_a_key_without_a_hash_is_none(tmp_path: Path) -> None:
    keys = lookup(tmp_path)
    keys.apply([change(8, RECORD._replace(hash=b""))], 8)
    assert refusal(keys, KEY) == "identify.key_unknown"


def test_a_key_under_a_hash_key_that_is_not_here_cannot_be_known(tmp_path: Path) -> None:
    key, record = made(3, OTHER_HASH_KEY)
    keys = lookup(tmp_path, record)
    with pytest.raises(KeyFileError, match="needs hash key of others, which is not here"):
        keys.identify(key.text, NOW)
    both = KeyLookup(written(tmp_path / "both.bin", [record, RECORD]), Keyring(HASH_KEY, OTHER_HASH_KEY))
    assert both.identify(key.text, NOW) == record
    assert both.identify(KEY.text, NOW) == RECORD


def test_what_has_changed_since_counts(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD)
    assert (keys.sequence, len(keys)) == (7, 0)
    keys.apply([change(8, OTHER), change(9, RECORD._replace(revoked=NOW))], 12)
    assert (keys.sequence, len(keys)) == (12, 2)
    assert keys.identify(OTHER_KEY.text, NOW) == OTHER
    assert refusal(keys, KEY) == "identify.key_revoked"
    keys.apply([change(13, OTHER._replace(revoked=NOW))], 13)
    assert refusal(keys, OTHER_KEY) == "identify.key_revoked"


def test_a_later_file_takes_over_what_it_has(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD)
    keys.apply([change(8, OTHER), change(9, RECORD._replace(revoked=NOW))], 12)
    keys.swap(written(tmp_path / "api-keys.bin", [RECORD, OTHER], sequence=8))
    assert (keys.sequence, len(keys)) == (12, 1)
    assert keys.identify(OTHER_KEY.text, NOW) == OTHER
    assert refusal(keys, KEY) == "identify.key_revoked"


def test_a_file_that_is_ahead_is_not_changed_back(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD)
    keys.swap(written(tmp_path / "api-keys.bin", [RECORD._replace(revoked=NOW)], sequence=20))
    assert keys.sequence == 20
    keys.apply([change(15, RECORD)], 18)
    assert refusal(keys, KEY) == "identify.key_revoked"
    assert keys.sequence == 20


def test_an_older_file_or_another_database_s_is_refused(tmp_path: Path) -> None:
    keys = lookup(tmp_path, RECORD)
    with pytest.raises(KeyFileError, match="is up to change 6, expected 7 or later"):
        keys.swap(written(tmp_path / "older.bin", [], sequence=6))
    with pytest.raises(KeyFileError, match="is of another database"):
        keys.swap(written(tmp_path / "other.bin", [], sequence=8, database="0" * 36))
    assert keys.identify(KEY.text, NOW) == RECORD
