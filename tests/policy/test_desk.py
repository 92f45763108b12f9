"""Changes of several desks over one database, as several sidecars have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread

import pytest

from interceptors.events import Event
from sidecar.policy.asked import Asked, EscalationError, ExistsError, VersionError
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.desk import ATTEMPTS, PolicyDesk
from sidecar.policy.engine import Engine
from sidecar.policy.live import Live
from sidecar.policy.model import Grant, Policy, Role
from sidecar.state.changes import compact
from sidecar.state.ports import ConflictError
from sidecar.state.store import DatabaseStore
from tests.policy.serving import ADMIN, BOB, NOW


class Interrupted(Live):
    """One whose user is interrupted after he has looked, so many times as there are things to do."""

    def __init__(self, store: DatabaseStore) -> None:
        super().__init__(store)
        self.meanwhile: list[Callable[[], object]] = []

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        with super().engine() as engine:
            yield engine
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Sidecar:
    def __init__(self, store: DatabaseStore) -> None:
        self.live = Interrupted(store)
        self.live.configure(bootstrap([ADMIN.name]))
        self.recorded: list[Event] = []
        self.desk = PolicyDesk(store, self.live, self.recorded.append, lambda: NOW, os.urandom)


def asked(key: str = "", by: str = ADMIN.name) -> Asked:
    return Asked(ADMIN if by == ADMIN.name else BOB, "/langtrain.v1.PolicyService/X", key, bytes(32))


@pytest.fixture
def one(store: DatabaseStore) -> Sidecar:
    return Sidecar(store)


@pytest.fixture
def other(store: DatabaseStore) -> Sidecar:
    return Sidecar(store)


def role(name: str) -> Role:
    return Role(name, ("models.read",))


def test_what_others_write_meanwhile_is_decided_again(one: Sidecar, other: Sidecar) -> None:
    grant = Grant("g", (BOB.name,), "builtin.viewer", ("**",))
    other.desk.create(asked(), grant)
    one.desk.create(asked(by=BOB.name), role("before"))
    one.live.meanwhile = [lambda: other.desk.remove(asked(), "grant", "g")]
    with pytest.raises(EscalationError):
        one.desk.create(asked(by=BOB.name), role("after"))
    one.live.meanwhile = [lambda: other.desk.create(asked(), role("mine"))]
    with pytest.raises(ExistsError):
        one.desk.create(asked(), role("mine"))
    policy = one.desk.create(asked(), Policy("p", "deny", "true"))
    one.live.meanwhile = [lambda: other.desk.update(asked(), Policy("p", "deny", "false"), "", 1)]
    with pytest.raises(VersionError):
        one.desk.update(asked(), Policy("p", "deny"), "", policy.version)
    assert [event.kind for event in one.recorded] == ["role.created", "policy.created"]


def test_of_one_request_at_two_sidecars_one_is_done(one: Sidecar, other: Sidecar) -> None:
    one.live.meanwhile = [lambda: other.desk.create(asked("key"), role("mine"), "the other's")]
    assert one.desk.create(asked("key"), role("mine")).description == "the other's"
    assert (len(one.recorded), len(other.recorded)) == (0, 1)


def test_where_others_never_stop_it_is_told(one: Sidecar, other: Sidecar) -> None:
    one.live.meanwhile = [partial(other.desk.create, asked(), role(f"r{at}")) for at in range(ATTEMPTS)]
    with pytest.raises(ConflictError):
        one.desk.create(asked(), role("mine"))
    one.live.meanwhile = [partial(other.desk.create, asked(), role(f"s{at}")) for at in range(ATTEMPTS - 1)]
    assert one.desk.create(asked(), role("mine")).version == 1


def test_a_log_that_was_cut_is_as_if_others_had_written(one: Sidecar, store: DatabaseStore) -> None:
    one.desk.create(asked(), role("a"))
    store.write(lambda transaction: transaction.change("other", "x", "y", b""))
    one.live.meanwhile = [lambda: store.write(lambda transaction: [
        transaction.change("other", "x", "z", b""), compact(transaction, 0),
    ])]  # fmt: skip
    one.desk.create(asked(), role("b"))
    assert not one.live.meanwhile


def test_two_sidecars_at_once_lose_nothing(one: Sidecar, other: Sidecar) -> None:
    made: list[str] = []

    def write(sidecar: Sidecar, whose: str) -> None:
        for at in range(10):
            while True:
                try:
                    made.append(sidecar.desk.create(asked(), role(f"{whose}{at}")).item.name)  # type: ignore[union-attr]
                    break
                except ConflictError:
                    continue

    threads = [Thread(target=write, args=(each, whose)) for each, whose in ((one, "a"), (one, "b"), (other, "c"))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(made) == 30
    page = one.desk.page(asked(), "role", "builtin.viewer", 100)
    assert [stored.item.name for stored in page.stored] == sorted(made)  # type: ignore[union-attr]
    with one.live.engine() as mine, other.live.engine() as theirs:
        assert mine.tables.snapshot().sequence == theirs.tables.snapshot().sequence
        assert set(mine.tables.snapshot().roles) == set(theirs.tables.snapshot().roles)
