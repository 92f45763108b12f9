"""Engines of tenants: held while there is room, read while others are asked."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest

from interceptors.facts import Principal
from sidecar.policy import live as live_module
from sidecar.policy import rows
from sidecar.policy.live import Live
from sidecar.policy.model import Grant, Item
from sidecar.policy.store_sql import PolicyStore, Stored
from sidecar.state.ports import DEADLINE_S, Reading, StateTimeoutError
from sidecar.state.store import DatabaseStore


def put(store: DatabaseStore, *items: Item) -> None:
    def work(transaction: Any) -> None:
        for item in items:
            PolicyStore(transaction).put(Stored(item))

    store.write(work)


def grant(tenant: str, name: str = "g", *resources: str) -> Grant:
    return Grant(name, ("user:corp/ada",), "builtin.viewer", resources or ("**",), tenant)


def may(live: Live, tenant: str) -> bool:
    ada = Principal("user", "user:corp/ada", tenant)
    with live.engine(tenant) as engine:
        return engine.decide(ada, "models.read", f"tenants/{tenant}/models/m", now=1.0).allowed


def test_the_engines_that_were_used_last_are_held(store: DatabaseStore) -> None:
    put(store, *(grant(tenant) for tenant in "abc"))
    live = Live(store, budget=5 * live_module.PER_ENGINE // 2)
    assert [may(live, tenant) for tenant in "ab"] == [True, True]
    assert live.tenants == ["a", "b"]
    assert may(live, "a")
    assert not may(live, "x")  # which has nothing, and takes room all the same
    assert live.tenants == ["a", "x"]
    put(store, grant("b", "h"))
    assert may(live, "b")
    assert live.count("grant", "b") == 2
    assert live.tenants == ["x", "b"]


def test_what_is_too_large_is_held_until_another_is_asked_for(store: DatabaseStore) -> None:
    put(store, grant("a"), grant("b"))
    live = Live(store, budget=1)
    for tenant in "ab":
        assert may(live, tenant)
        assert live.tenants == [tenant]


def test_what_changes_is_counted(store: DatabaseStore) -> None:
    """As much as if it were read anew, so that nothing adds up over time."""
    put(store, grant("a"))
    live = Live(store)
    assert may(live, "a")
    for more in (("models/m",), ("models/m", "models/n"), ("models/m",)):
        put(store, grant("a", "g", *more), grant("b"))
        assert may(live, "a")
        fresh = Live(store)
        assert may(fresh, "a")
        assert live._held["a"].size == fresh._held["a"].size > live_module.PER_ENGINE
    store.write(lambda transaction: PolicyStore(transaction).remove(rows.key(grant("a"))))
    assert not may(live, "a")
    assert live._held["a"].size == live_module.PER_ENGINE


class Slow(DatabaseStore):
    """Reads everything of a tenant only once it may."""

    let: Event
    reading: Event

    def read(self, work: Callable[[Reading], Any], deadline_s: float = DEADLINE_S) -> Any:
        if deadline_s == live_module.ALL_S and not self.reading.is_set():
            self.reading.set()
            assert self.let.wait(60)
        return super().read(work, deadline_s)


@pytest.fixture
def slow(store: DatabaseStore, monkeypatch: pytest.MonkeyPatch) -> Slow:
    store.__class__ = Slow
    assert isinstance(store, Slow)
    store.let, store.reading = Event(), Event()
    return store


def test_while_one_tenant_is_read_others_are_answered(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    put(slow, grant("a"), grant("b"))
    live, answers = Live(slow), []
    first = Thread(target=lambda: answers.append(may(live, "a")))
    first.start()
    assert slow.reading.wait(60)
    assert may(live, "b")
    monkeypatch.setattr(live_module, "DEADLINE_S", 0.01)
    with pytest.raises(StateTimeoutError, match="policies of tenant a are read"):
        may(live, "a")
    assert answers == []
    slow.let.set()
    first.join(60)
    assert answers == [True]
    assert may(live, "a")


def test_what_is_in_use_is_not_let_go(store: DatabaseStore) -> None:
    put(store, grant("a"), grant("b"))
    live = Live(store, budget=1)
    with live.engine("a"):
        assert may(live, "b")
        assert live.tenants == ["a", "b"]
        assert live.count("grant", "a") == 1
    assert live.tenants == ["a"]


def test_what_is_asked_for_first_is_read_before(store: DatabaseStore) -> None:
    live = Live(store)
    live.warm()
    assert live.tenants == ["default"]
    assert not may(live, "a")
    live.warm()
    assert live.tenants == ["default", "a"]
