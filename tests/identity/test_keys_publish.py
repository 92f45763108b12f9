"""The file that workers have is what is stored, on either database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.identity import keys
from sidecar.identity.keys_file import KeyFile
from sidecar.identity.keys_lookup import KeyChange, KeyLookup
from sidecar.identity.keys_publish import publish, usable
from sidecar.identity.keys_store_sql import SqlKeysStore
from sidecar.state.changes import changes_since, compact
from sidecar.state.ports import StateError
from sidecar.state.store import DatabaseStore
from tests.identity.key_files import written
from tests.identity.keyring import HASH_KEY, NOW, OTHER_HASH_KEY, made
from tests.identity.test_keys import WANTED, Desk
from tests.identity.test_keys_lookup import Keyring, refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.bin"


def test_all_keys_are_in_the_file_as_they_are(store: DatabaseStore, path: Path) -> None:
    desk = Desk(store)
    records = [made(seed)[1] for seed in range(100)]
    desk.do(lambda rows: [rows.add(record) for record in records])
    desk.create(WANTED._replace(auto_rotate=True))
    (prepared,) = desk.do(keys.prepare_due, NOW + 29 * 86400, 10, os.urandom)
    desk.do(keys.touch, {records[0].key_id: NOW})
    head = publish(store, path, HASH_KEY)
    file = KeyFile(path, HASH_KEY)
    assert (file.keys, file.sequence, file.database) == (101, 103, head.identity)
    assert [file.find(record.key_id) for record in records] == records
    assert file.find(prepared.key_id) == prepared
    assert file.find(prepared.rotated_to) is None


def test_a_worker_that_follows_knows_what_is_stored(store: DatabaseStore, path: Path) -> None:
    desk = Desk(store)
    first = desk.create()
    publish(store, path, HASH_KEY)
    lookup = KeyLookup(KeyFile(path, HASH_KEY), Keyring(HASH_KEY))
    second = desk.rotate(first.key.key_id, overlap_s=10)
    follow(store, lookup)
    assert lookup.identify(first.key.text, NOW + 9).key_id == first.key.key_id
    assert refusal(lookup, first.key, NOW + 10) == "identify.key_rotated"
    assert lookup.identify(second.key.text, NOW) == second.record
    publish(store, path, HASH_KEY)
    lookup.swap(KeyFile(path, HASH_KEY))
    assert len(lookup) == 0
    desk.do(keys.revoke, "default", second.key.key_id, NOW, successors=True)
    follow(store, lookup)
    assert refusal(lookup, second.key) == "identify.key_revoked"


def follow(store: DatabaseStore, lookup: KeyLookup) -> None:
    changes = store.read(lambda reading: changes_since(reading, lookup.sequence))
    lookup.apply([KeyChange(each.sequence, each.key, each.body) for each in changes], changes[-1].sequence)


def test_a_file_is_used_again_as_long_as_changes_lead_on_from_it(store: DatabaseStore, path: Path) -> None:
    desk = Desk(store)
    assert usable(store, path, HASH_KEY) is None
    desk.create()
    head = publish(store, path, HASH_KEY)
    assert usable(store, path, HASH_KEY) == head
    desk.create()
    assert usable(store, path, HASH_KEY) == head
    assert usable(store, path, OTHER_HASH_KEY) is None
    store.write(lambda transaction: compact(transaction, keep=0))
    assert usable(store, path, HASH_KEY) is None
    publish(store, path, HASH_KEY)
    store.write(lambda transaction: transaction.run("UPDATE head SET sequence = 1, compacted = 0"))
    assert usable(store, path, HASH_KEY) is None


def test_a_file_of_another_database_is_not_used(store: DatabaseStore, path: Path) -> None:
    written(path, [], sequence=0)
    assert usable(store, path, HASH_KEY) is None


def test_a_directory_that_cannot_be_written_says_so(store: DatabaseStore, path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        publish(store, path / "nowhere" / "file", HASH_KEY)
    assert store.write(lambda transaction: SqlKeysStore(transaction).count()) == 0
