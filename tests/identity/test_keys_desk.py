"""What administrators ask of API keys, on either database, and what workers are told of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from interceptors.events import Durability, Event
from sidecar.audit.ports import AuditError
from sidecar.errors import RequestError
from sidecar.identity import keys_hash, keys_keeping
from sidecar.identity.keys import Wanted
from sidecar.identity.keys_desk import Asked, Given, KeyDesk
from sidecar.identity.keys_file import KeyFile
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.identity.keys_keeping import KeyKeeping
from sidecar.identity.keys_model import FILE, KEYS, NEVER, KeyNotFoundError, NotOwnerError, decode
from sidecar.internal.mac import Caller
from sidecar.state import upkeep
from sidecar.state.changes import compact
from sidecar.state.idempotency import IdempotencyError
from sidecar.state.outbox import Outbox, UnrecordedError
from sidecar.state.store import DatabaseStore
from tests.identity.keyring import DAY_S, NOW
from tests.waiting import eventually

ADMIN = Caller("spiffe", "spiffe://example.org/admin", "default", "10.0.0.1")
OWNER = Caller("user", "user:corp/ada", "default", "10.0.0.2")
STRANGER = Caller("spiffe", "spiffe://other.org/admin", "other", "10.0.0.3")
WANTED = Wanted("default", "user:corp/ada", ("models.inference",))
CREATE = "/langtrain.v1.ApiKeyService/CreateApiKey"


class Scene:
    """A desk, what it recorded, and what workers were told."""

    def __init__(self, store: DatabaseStore, directory: Path) -> None:
        self.store = store
        self.path = directory / "api-keys.bin"
        key_file = directory / "hash.key"
        keys_hash.make(key_file)
        self.hash_keys = FileHashKeys(key_file)
        self.now = NOW
        self.recorded: list[Event] = []
        self.unrecorded = False
        self.told: list[tuple[str, str, Any]] = []
        outbox = Outbox(store, self._record, "of the tests")
        self.desk = KeyDesk(store, outbox, self.hash_keys, lambda: self.now, os.urandom)
        self.keeping = KeyKeeping(store, self.desk, self.path, self.hash_keys, self._tell, time.monotonic)

    def _record(self, events: Sequence[Event]) -> None:
        if self.unrecorded:
            raise AuditError("the disk is full")
        self.recorded += events

    def _tell(self, *changes: tuple[str, str, Any]) -> None:
        self.told += changes

    def create(self, key: str = "", digest: bytes = bytes(32), caller: Caller = ADMIN) -> Given:
        return self.desk.create(Asked(caller, CREATE, key, digest), WANTED._replace(tenant=caller.tenant), DAY_S)

    def known(self) -> dict[str, Any]:
        """What a worker makes of all that it was told: revoked or not, by key id."""
        found: dict[str, Any] = {}
        changed: dict[str, Any] = {}
        for topic, key, value in self.told:
            if topic == KEYS and value is None:
                changed.pop(key, None)
            elif topic == KEYS:
                changed[key] = decode(value[1])
        file = KeyFile(self.path, self.hash_keys.current)
        for row in self.store.read(lambda reading: reading.rows("SELECT key_id FROM api_keys")):
            record = changed.get(row[0]) or file.find(row[0])
            found[row[0]] = None if record is None else bool(record.revoked)
        file.close()
        return found

    def started(self) -> Scene:
        self.keeping.start()
        eventually(lambda: any(topic == FILE for topic, _, _ in self.told), "there is a file")
        return self


@pytest.fixture
def scene(store: DatabaseStore, tmp_path: Path) -> Iterator[Scene]:
    directory = tmp_path / "keys"
    directory.mkdir(0o700)
    made = Scene(store, directory)
    yield made
    made.keeping.close()


def test_what_is_done_is_recorded_before_it_is_answered(scene: Scene) -> None:
    given = scene.create()
    (event,) = scene.recorded
    assert (event.kind, event.durability, event.principal) == ("api_key.created", Durability.COMMIT, ADMIN.name)
    assert event.reason == f"{given.record.key_id} of user:corp/ada"
    assert given.text not in str(scene.recorded)
    scene.desk.revoke(Asked(ADMIN, "/x"), given.record.key_id, False)
    scene.desk.revoke(Asked(ADMIN, "/x"), given.record.key_id, False)  # nothing is done, and nothing recorded
    assert [each.kind for each in scene.recorded] == ["api_key.created", "api_key.revoked"]


def test_what_cannot_be_recorded_is_no_answer(scene: Scene) -> None:
    scene.unrecorded = True
    with pytest.raises(UnrecordedError):
        scene.create("once")
    scene.unrecorded = False
    again = scene.create("once")  # it had been made, and its text is not shown any more
    assert again.text == ""
    (event,) = scene.recorded
    assert event.reason == f"{again.record.key_id} of user:corp/ada"


def test_the_same_request_again_is_answered_without_the_secret(scene: Scene) -> None:
    first, again = scene.create("once"), scene.create("once")
    assert (again.record, again.text) == (first.record, "")
    assert len(scene.recorded) == 1
    with pytest.raises(IdempotencyError):
        scene.create("once", b"x" * 32)
    assert scene.create("once", caller=STRANGER).text  # of another caller it is another


def test_another_tenants_keys_are_not_there(scene: Scene) -> None:
    key_id = scene.create().record.key_id
    for ask in (
        lambda: scene.desk.get(Asked(STRANGER, "/x"), key_id),
        lambda: scene.desk.revoke(Asked(STRANGER, "/x"), key_id, True),
        lambda: scene.desk.rotate(Asked(STRANGER, "/x"), key_id, 0.0),
    ):
        with pytest.raises(KeyNotFoundError):
            ask()
    assert scene.desk.page(Asked(STRANGER, "/x"), "", "", 10).records == []
    with pytest.raises(RequestError):
        scene.desk.create(Asked(ADMIN, CREATE), WANTED._replace(resources=("tenants/other/models/m",)), NEVER)


@pytest.mark.parametrize("text", ["", "x", "a\0bcdefghijk", "é" * 12, "a" * 13, "a" * 10_000])
def test_what_is_no_id_is_not_there(scene: Scene, text: str) -> None:
    with pytest.raises(KeyNotFoundError) as raised:
        scene.desk.get(Asked(ADMIN, "/x"), text)
    assert len(str(raised.value)) < 1_200
    if text:
        with pytest.raises(RequestError, match="page_token"):
            scene.desk.page(Asked(ADMIN, "/x"), "", text, 10)
    with pytest.raises(RequestError, match="owner"):
        scene.desk.page(Asked(ADMIN, "/x"), "a\0b", "", 10)


def test_a_successor_is_for_its_owner(scene: Scene) -> None:
    wanted = WANTED._replace(auto_rotate=True)
    key_id = scene.desk.create(Asked(ADMIN, CREATE), wanted, 30 * DAY_S).record.key_id
    assert scene.desk.prepare_due() == []
    scene.now += 29 * DAY_S
    (due,) = scene.desk.prepare_due()
    assert (due.key_id, scene.recorded[-1].kind, scene.recorded[-1].reason) == (key_id, "api_key.due", key_id)
    with pytest.raises(NotOwnerError):
        scene.desk.fetch(Asked(ADMIN, "/x"), key_id, 0.0)
    given = scene.desk.fetch(Asked(OWNER, "/x"), key_id, 0.0)
    assert given.text.startswith(f"ltk_{due.rotated_to}_")
    assert scene.desk.prepare_due() == []


def test_workers_are_told_of_each_change(scene: Scene) -> None:
    before = scene.create().record.key_id
    scene.started()
    after = scene.create().record.key_id
    scene.desk.revoke(Asked(ADMIN, "/x"), before, False)
    scene.keeping.committed(0)
    eventually(lambda: scene.known() == {before: True, after: False}, "they know")


def test_many_changes_become_a_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_keeping, "MOST_CHANGED", 5)
    scene.started()
    made = [scene.create().record.key_id for _ in range(12)]
    scene.keeping.committed(0)
    eventually(lambda: sum(topic == FILE for topic, _, _ in scene.told) > 1, "there is another file")
    eventually(lambda: scene.known() == dict.fromkeys(made, False), "all are known")


def test_changes_that_are_not_kept_any_more_become_a_file(scene: Scene) -> None:
    scene.started()
    made = [scene.create().record.key_id for _ in range(3)]
    scene.store.write(lambda transaction: compact(transaction, 0))
    scene.keeping.committed(0)
    eventually(lambda: scene.known() == dict.fromkeys(made, False), "all are known")


def test_a_file_that_is_good_is_used_again(scene: Scene, store: DatabaseStore) -> None:
    made = scene.create().record.key_id
    scene.started()
    eventually(lambda: scene.known() == {made: False}, "it is known")
    scene.keeping.close()
    written = scene.path.stat().st_ino
    later = scene.create().record.key_id
    scene.told.clear()
    scene.keeping = KeyKeeping(store, scene.desk, scene.path, scene.hash_keys, scene._tell, time.monotonic)
    scene.started()
    eventually(lambda: scene.known() == {made: False, later: False}, "both are known")
    assert scene.path.stat().st_ino == written


def test_trouble_is_not_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "RETRY_S", 0.05)
    folder = scene.path.parent
    folder.chmod(0o755)  # in which no file of ours is made
    scene.keeping.start()
    made = scene.create().record.key_id
    folder.chmod(0o700)
    eventually(lambda: any(topic == FILE for topic, _, _ in scene.told), "there is a file")
    eventually(lambda: scene.known() == {made: False}, "it is known")
