"""What the services process tells workers of policies: all of it, at once, and as of when; and its own engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import pytest

from interceptors.facts import Principal
from sidecar.policy import keeping as keeping_module
from sidecar.policy import rows
from sidecar.policy.bootstrap import ADMINS, bootstrap
from sidecar.policy.keeping import PolicyKeeping
from sidecar.policy.live import Live
from sidecar.policy.model import Grant, Item, Policy, Role
from sidecar.policy.rows import ITEMS, SO, Key
from sidecar.policy.store_sql import PolicyStore, Stored
from sidecar.state import following, upkeep
from sidecar.state.changes import compact
from sidecar.state.following import LOOK_S
from sidecar.state.ports import DEADLINE_S, Reading, StateError, Transaction
from sidecar.state.store import DatabaseStore
from tests.state.engines import Engine as Database
from tests.state.engines import Sqlite, opened
from tests.waiting import eventually

T = TypeVar("T")
ROLE = Role("ml", ("models.read",))
GRANT = Grant("g", ("user:corp/ada",), "ml", ("models/*",))
ADA = Principal("user", "user:corp/ada")


class Readable:
    """A store that can be read, or not."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store
        self._away = False
        self._reading = threading.Lock()

    def turn(self, away: bool) -> None:
        """Returns once what is being read has been read."""
        with self._reading:
            self._away = away

    def write(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        return self._store.write(work, deadline_s)

    def read(self, work: Callable[[Reading], T], deadline_s: float = DEADLINE_S) -> T:
        with self._reading:
            if self._away:
                raise StateError("it cannot be read")
            return self._store.read(work, deadline_s)


def put(store: DatabaseStore, *items: Item) -> None:
    def work(transaction: Transaction) -> None:
        for item in items:
            PolicyStore(transaction).put(Stored(item))

    store.write(work)


def remove(store: DatabaseStore, *items: Item) -> None:
    def work(transaction: Transaction) -> None:
        for item in items:
            PolicyStore(transaction).remove(rows.key(item))

    store.write(work)


class Scene:
    def __init__(self, store: DatabaseStore) -> None:
        self.store = store
        self.readable = Readable(store)
        self.told: list[tuple[tuple[str, str, Any], ...]] = []
        self.chores = 0
        self.keeping = self._made()

    def _made(self) -> PolicyKeeping:
        return PolicyKeeping(self.readable, lambda *told: self.told.append(told), time.monotonic, self._do_chores)

    def _do_chores(self) -> None:
        self.chores += 1

    def so(self) -> float:
        """As of when all was told."""
        return max((value[0] for told in list(self.told) for topic, _, value in told if topic == SO), default=0.0)

    def known(self) -> dict[str, Item]:
        """What a worker makes of all that it was told, by key."""
        found: dict[str, Item] = {}
        for told in list(self.told):
            for topic, key, row in told:
                if topic == ITEMS and row is None:
                    found.pop(key, None)
                elif topic == ITEMS:
                    found[key] = rows.decode(rows.read_key(key).kind, row)
        return found

    def knows(self, *items: Item) -> bool:
        return self.known() == {str(rows.key(item)): item for item in items}

    def put(self, *items: Item) -> None:
        put(self.store, *items)
        self.keeping.committed(0)


@pytest.fixture
def watched(store: DatabaseStore) -> Iterator[Scene]:
    made = Scene(store)
    yield made
    made.keeping.close()


def test_workers_are_told_everything_and_then_each_change(watched: Scene) -> None:
    watched.put(ROLE, GRANT)
    watched.keeping.start()
    eventually(lambda: watched.knows(ROLE, GRANT), "all is told")
    eventually(lambda: watched.so() > 0, "and as of when")
    assert {key for told in list(watched.told) for topic, key, _ in told if topic == SO} == {"so"}
    policy = Policy("p", "deny", "user.level < 2")
    watched.put(policy)
    eventually(lambda: watched.knows(ROLE, GRANT, policy), "the policy is told")
    remove(watched.store, GRANT)  # by another sidecar, say: nobody wakes anybody
    eventually(lambda: watched.knows(ROLE, policy), "the grant is taken back")
    assert watched.chores == 1


def test_what_the_config_has_is_told_as_well(watched: Scene) -> None:
    watched.keeping.configure(bootstrap(["user:corp/root"]))
    watched.keeping.start()
    eventually(lambda: list(watched.known()) == [f"grant/default/{ADMINS}"], "it is told")
    watched.keeping.configure(bootstrap(["user:corp/other"]))
    eventually(lambda: watched.knows(*bootstrap(["user:corp/other"])), "it has changed")
    watched.keeping.configure([])
    eventually(lambda: watched.known() == {}, "it is gone")


def test_as_of_when_all_is_told_moves_on_only_while_there_is_something_to_read(watched: Scene) -> None:
    watched.put(ROLE, GRANT)
    watched.keeping.start()
    eventually(lambda: watched.so() > 0, "all was told")
    watched.readable.turn(away=True)
    remove(watched.store, GRANT)  # acknowledged, and nobody can be told
    watched.keeping.committed(0)
    eventually(lambda: time.monotonic() - watched.so() > 3 * LOOK_S, "what was told ages")
    assert watched.knows(ROLE, GRANT)
    watched.readable.turn(away=False)
    eventually(lambda: watched.knows(ROLE), "told")
    now = time.monotonic()
    eventually(lambda: watched.so() > now, "and as of now")


def test_changes_that_are_not_kept_any_more_are_told_all_the_same(watched: Scene) -> None:
    watched.put(ROLE, GRANT)
    watched.keeping.start()
    eventually(lambda: watched.knows(ROLE, GRANT), "all is told")
    watched.readable.turn(away=True)
    other = Role("other", ("models.read",))
    remove(watched.store, GRANT)
    put(watched.store, other)
    watched.store.write(lambda transaction: compact(transaction, 0))
    watched.readable.turn(away=False)
    eventually(lambda: watched.knows(ROLE, other), "what there is, and nothing else")


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_what_is_altered_in_the_database_is_told(
    store: DatabaseStore, monkeypatch: pytest.MonkeyPatch, tenant: str
) -> None:
    """Whoever spoils or mends it does not write to the log of changes."""
    monkeypatch.setattr(keeping_module, "CHORES_S", 0.01)
    monkeypatch.setattr(upkeep, "RETRY_S", 0.01)
    role = Role("ml", ("models.read",), tenant)
    put(store, role, GRANT)
    told = Told()
    keeping = PolicyKeeping(store, told, time.monotonic, Live(store).warm)
    key, body = str(rows.key(role)), rows.encode(role)

    def run(sql: str, *values: bytes) -> None:
        store.write(lambda transaction: transaction.run(f"{sql} WHERE kind = 'role'", *values))

    keeping.start()
    eventually(lambda: told.rows.get(key) == body, "told")
    run("UPDATE policy_items SET body = ?", b"\xff\0")
    eventually(lambda: told.rows.get(key) == b"\xff\0", "told as it is now")
    run("UPDATE policy_items SET body = ?", body)
    eventually(lambda: told.rows.get(key) == body, "told as it was")
    told.rows.clear()
    at = told.so
    eventually(lambda: told.so > at, "all was looked through again")
    assert told.rows == {}, "told once"
    run("DELETE FROM policy_items")
    eventually(lambda: key in told.rows, "told that it is gone")
    assert told.rows == {key: None}
    keeping.close()


class Told:
    """Rows as told last, by key. so: as of when."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes | None] = {}
        self.so = 0.0

    def __call__(self, *told: tuple[str, str, Any]) -> None:
        for topic, key, value in told:
            if topic == ITEMS:
                self.rows[key] = value
            else:
                self.so = value[0]


def test_many_are_told_a_few_at_a_time(watched: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of the feed has an end, and whoever hears it serves calls meanwhile."""
    monkeypatch.setattr(following, "MOST_TOLD", 1_000)
    many = [Grant(f"g{at}", ("user:corp/ada",), "ml", (f"models/{'x' * 300}{at}",)) for at in range(20)]
    watched.put(*many)
    watched.keeping.start()
    eventually(lambda: watched.knows(*many), "all are told")
    assert max(len(told) for told in watched.told) == 2
    remove(watched.store, *many)
    eventually(lambda: watched.known() == {}, "all are gone")


def decided(live: Live) -> tuple[bool, int]:
    """Whether Ada may read a model, and how many grants the store has."""
    with live.engine("default") as engine:
        allowed = engine.decide(ADA, "models.read", "tenants/default/models/m", now=1.0).allowed
    return allowed, live.count("grant", "default")


def test_the_engine_is_as_the_store_is(store: DatabaseStore, engine: Database) -> None:
    live, other = Live(store), Grant("h", ("user:corp/ben",), "ml", ("**",))
    assert decided(live) == (False, 0)
    put(store, ROLE, GRANT, other)
    assert decided(live) == (True, 2)
    with nullcontext(store) if isinstance(engine, Sqlite) else opened(engine) as elsewhere:  # another sidecar
        remove(elsewhere, GRANT)
    assert decided(live) == (False, 1)
    put(store, GRANT)
    store.write(lambda transaction: compact(transaction, 0))
    assert decided(live) == (True, 2)
    assert decided(Live(store)) == (True, 2)
    live.configure([Grant("config.x", ("user:corp/*",), "builtin.viewer", ("**",))])
    remove(store, GRANT)
    assert decided(live) == (True, 1)
    live.configure([])
    assert decided(live) == (False, 1)


@pytest.mark.parametrize("row", [b"{}", b"[", b'{"name":"ml","permissions":[]}'])
def test_nothing_is_decided_by_rows_that_cannot_be_read(store: DatabaseStore, row: bytes) -> None:
    put(store, ROLE, GRANT)
    live = Live(store)
    assert decided(live) == (True, 1)
    key = Key("role", "default", "ml")
    store.write(lambda transaction: transaction.change(rows.DOMAIN, "role", str(key), row))
    with pytest.raises(StateError, match="cannot be read"):
        decided(live)
    store.write(lambda transaction: transaction.run("UPDATE policy_items SET body = ? WHERE kind = 'role'", row))
    for each in (live, Live(store)):
        with pytest.raises(StateError, match="cannot be read"):
            decided(each)
    put(store, ROLE)
    assert decided(live) == (True, 1)
