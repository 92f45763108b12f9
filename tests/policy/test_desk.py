"""Changes of several desks over one database, as several sidecars have them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Thread
from uuid import uuid4

import pytest

from interceptors.events import Event
from sidecar.audit.ports import AuditError
from sidecar.policy import rows
from sidecar.policy.asked import Asked, EscalationError, ExistsError, VersionError
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.desk import ATTEMPTS, PolicyDesk
from sidecar.policy.engine import Engine
from sidecar.policy.live import Live
from sidecar.policy.model import Grant, Policy, Role
from sidecar.state.changes import compact
from sidecar.state.outbox import Outbox, UnrecordedError
from sidecar.state.ports import ConflictError
from sidecar.state.store import DatabaseStore
from tests.policy.serving import ADMIN, BOB, NOW
from tests.waiting import eventually


class Interrupted(Live):
    """One whose user is interrupted after he has looked, so many times as there are things to do."""

    def __init__(self, store: DatabaseStore) -> None:
        super().__init__(store)
        self.meanwhile: list[Callable[[], object]] = []

    @contextmanager
    def engine(self, tenant: str) -> Iterator[Engine]:
        with super().engine(tenant) as engine:
            yield engine
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Sidecar:
    def __init__(self, store: DatabaseStore) -> None:
        self.live = Interrupted(store)
        self.live.configure(bootstrap([ADMIN.name]))
        self.recorded: list[Event] = []
        self.trail: Callable[[Sequence[Event]], None] = self.recorded.extend
        self.outbox = Outbox(store, lambda events: self.trail(events), uuid4().hex)
        self.desk = PolicyDesk(store, self.live, self.outbox, lambda: NOW, os.urandom)


def asked(key: str = "", by: str = ADMIN.name) -> Asked:
    return Asked(ADMIN if by == ADMIN.name else BOB, "/langtrain.v1.PolicyService/X", key, bytes(32))


@pytest.fixture
def one(store: DatabaseStore) -> Sidecar:
    return Sidecar(store)


@pytest.fixture
def other(store: DatabaseStore) -> Sidecar:
    return Sidecar(store)


def away(events: Sequence[Event]) -> None:
    raise AuditError("the disk is full")


def made(sidecar: Sidecar) -> list[str]:
    """Roles that there are."""
    page = sidecar.desk.page(asked(), "role", "builtin.viewer", 100)
    return [rows.key(stored.item).name for stored in page.stored]


def names(sidecar: Sidecar) -> list[str]:
    """Of what was recorded."""
    return [json.loads(event.reason)["name"] for event in sidecar.recorded]


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
    policy = one.desk.create(asked(), Policy("p", "deny", "true", ("models.*",)))
    one.live.meanwhile = [lambda: other.desk.update(asked(), Policy("p", "deny", "false", ("models.*",)), "", 1)]
    with pytest.raises(VersionError):
        one.desk.update(asked(), Policy("p", "deny", "", ("models.*",)), "", policy.version)
    assert [event.kind for event in one.recorded] == ["role.created", "policy.created"]


def test_of_one_request_at_two_sidecars_one_is_done(one: Sidecar, other: Sidecar) -> None:
    one.live.meanwhile = [lambda: other.desk.create(asked("key"), role("mine"), "the other's")]
    assert one.desk.create(asked("key"), role("mine")).description == "the other's"
    assert (len(one.recorded), len(other.recorded)) == (0, 1)


def test_what_was_committed_is_recorded_by_whoever_comes_next(one: Sidecar, store: DatabaseStore) -> None:
    one.trail = away
    with pytest.raises(UnrecordedError):
        one.desk.create(asked(), role("mine"))
    with pytest.raises(ExistsError):
        one.desk.create(asked(), role("mine"))
    next_one = Sidecar(store)
    next_one.outbox.start()
    eventually(lambda: names(next_one) == ["mine"], "recorded")
    next_one.outbox.close()


def test_who_waits_to_be_recorded_does_not_keep_others_from_writing(one: Sidecar) -> None:
    def slow(events: Sequence[Event]) -> None:
        one.trail = one.recorded.extend
        second.start()
        eventually(lambda: made(one) == ["mine", "other"], "the other is written")
        one.trail(events)

    second = Thread(target=one.desk.create, args=(asked(), role("other")))
    one.trail = slow
    one.desk.create(asked(), role("mine"))
    second.join(60)
    assert names(one) == ["mine", "other"]


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
    written: list[str] = []

    def write(sidecar: Sidecar, whose: str) -> None:
        for at in range(10):
            while True:
                try:
                    written.append(sidecar.desk.create(asked(), role(f"{whose}{at}")).item.name)  # type: ignore[union-attr]
                    break
                except ConflictError:
                    continue

    threads = [Thread(target=write, args=(each, whose)) for each, whose in ((one, "a"), (one, "b"), (other, "c"))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(written) == 30
    assert made(one) == sorted(written)
    with one.live.engine("default") as mine, other.live.engine("default") as theirs:
        assert mine.tables.snapshot().sequence == theirs.tables.snapshot().sequence
        assert set(mine.tables.snapshot().roles) == set(theirs.tables.snapshot().roles)
