"""What the services process tells workers of API keys: all of it, at once, and as of when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sidecar.identity import keys, keys_keeping
from sidecar.identity.keys_desk import KeyDesk
from sidecar.identity.keys_keeping import KeyKeeping
from sidecar.identity.keys_model import FILE, KEYS, SO, KeyRecord, decode
from sidecar.identity.keys_publish import publish
from sidecar.state import following
from sidecar.state.following import LOOK_S
from sidecar.state.outbox import Outbox
from sidecar.state.ports import DEADLINE_S, Reading, StateError, Transaction
from sidecar.state.store import DatabaseStore
from tests.identity.keyring import HASH_KEY, NOW
from tests.identity.test_keys import WANTED, Desk
from tests.identity.test_keys_lookup import Keyring
from tests.waiting import eventually

T = TypeVar("T")


class Readable:
    """A store that can be read, or not."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store
        self.away = False

    def write(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        return self._store.write(work, deadline_s)

    def read(self, work: Callable[[Reading], T], deadline_s: float = DEADLINE_S) -> T:
        if self.away:
            raise StateError("it cannot be read")
        return self._store.read(work, deadline_s)


class Scene:
    def __init__(self, store: DatabaseStore, path: Path) -> None:
        self.desk = Desk(store)
        self.readable = Readable(store)
        self.told: list[tuple[tuple[str, str, Any], ...]] = []
        outbox = Outbox(store, lambda events: None, "of the tests")
        desk = KeyDesk(store, outbox, Keyring(HASH_KEY), lambda: NOW, bytes)
        self.keeping = KeyKeeping(
            self.readable, desk, path, Keyring(HASH_KEY), lambda *told: self.told.append(told), time.monotonic
        )

    def so(self) -> float:
        """As of when all was told."""
        return max((change[2][0] for told in list(self.told) for change in told if change[0] == SO), default=0.0)

    def files(self) -> int:
        return sum(change[0] == FILE for told in list(self.told) for change in told)

    def records(self) -> dict[str, KeyRecord]:
        changes = [change for told in list(self.told) for change in told if change[0] == KEYS and change[2]]
        return {key: decode(value[1]) for _, key, value in changes}

    def revoke(self, key_id: str) -> None:
        self.desk.do(keys.revoke, "default", key_id, NOW, successors=False)
        self.keeping.committed(0)

    def revoked(self, key_id: str) -> bool:
        record = self.records().get(key_id)
        return record is not None and record.revoked == NOW


@pytest.fixture
def scene(store: DatabaseStore, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(store, tmp_path / "api-keys.bin")
    yield made
    made.keeping.close()


def test_as_of_when_all_is_told_moves_on_only_while_there_is_something_to_read(scene: Scene) -> None:
    made = scene.desk.create()
    scene.keeping.start()
    eventually(lambda: scene.so() > 0, "all was told")
    before = scene.so()
    eventually(lambda: scene.so() > before, "and again")
    scene.readable.away = True
    scene.revoke(made.key.key_id)  # acknowledged, and nobody can be told
    eventually(lambda: time.monotonic() - scene.so() > 3 * LOOK_S, "what was told ages")
    assert not scene.revoked(made.key.key_id)
    scene.readable.away = False
    eventually(lambda: scene.revoked(made.key.key_id), "told")
    now = time.monotonic()
    eventually(lambda: scene.so() > now, "and as of now")


def test_nobody_waits_for_a_revocation_while_the_file_is_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million keys that takes half a minute."""
    making, go_on = threading.Event(), threading.Event()

    def slowly(*given: Any) -> Any:
        if scene.files():
            making.set()
            go_on.wait(30)
        return publish(*given)

    monkeypatch.setattr(keys_keeping, "publish", slowly)
    monkeypatch.setattr(keys_keeping, "MOST_CHANGED", 1)
    scene.keeping.start()
    eventually(lambda: scene.files() == 1, "the first file")
    made = [scene.desk.create() for _ in range(2)]
    assert making.wait(30)
    scene.revoke(made[0].key.key_id)
    eventually(lambda: scene.revoked(made[0].key.key_id), "told")
    now = time.monotonic()
    eventually(lambda: scene.so() > now, "as of now")
    assert scene.files() == 1
    go_on.set()
    eventually(lambda: scene.files() == 2, "the second file")


def test_many_changes_are_told_a_few_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of the feed has an end, and whoever hears it serves calls meanwhile."""
    monkeypatch.setattr(following, "MOST_TOLD", 10_000)
    scene.keeping.start()
    eventually(lambda: scene.so() > 0, "begun")
    wanted = WANTED._replace(resources=tuple(f"models/{'x' * 200}{at}" for at in range(30)))
    made = scene.desk.do(lambda store: [keys.create(store, wanted, HASH_KEY, NOW, os.urandom) for _ in range(10)])
    eventually(lambda: len(scene.records()) == len(made), "all are told")
    assert max(len(told) for told in scene.told) == 1  # each of 6 kB
