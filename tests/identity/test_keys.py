"""What is done with API keys, on either database: shown once, of one tenant, never extended by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.errors import RequestError
from sidecar.identity import api_keys, keys
from sidecar.identity.keys import Made, Wanted
from sidecar.identity.keys_model import (
    NEVER,
    KeyNotFoundError,
    KeyRecord,
    KeyStateError,
    NotOwnerError,
    bucket,
    decode,
    encode,
)
from sidecar.identity.keys_store_sql import SqlKeysReading, SqlKeysStore
from sidecar.identity.service import api_key
from sidecar.state.changes import changes_since
from sidecar.state.ports import ConflictError, Transaction
from sidecar.state.store import DatabaseStore
from tests.identity.keyring import DAY_S, HASH_KEY, NOW, made
from tests.state.engines import Engine, opened

WANTED = Wanted("default", "user:corp/ada", ("models.inference",), ("models/fraud-*",), "batch", NOW + 30 * DAY_S)
Operation = Callable[..., Any]


class Desk:
    """Each operation in a transaction of its own."""

    def __init__(self, store: DatabaseStore) -> None:
        self.store = store

    def do(self, operation: Operation, *arguments: Any, **named: Any) -> Any:
        def work(transaction: Transaction) -> Any:
            return operation(SqlKeysStore(transaction), *arguments, **named)

        return self.store.write(work, 30.0)

    def create(self, wanted: Wanted = WANTED, now: float = NOW) -> Made:
        done: Made = self.do(keys.create, wanted, HASH_KEY, now, os.urandom)
        return done

    def get(self, key_id: str, tenant: str = "default") -> KeyRecord:
        record: KeyRecord = self.do(keys.get, tenant, key_id)
        return record

    def rotate(self, key_id: str, overlap_s: float = DAY_S, now: float = NOW) -> Made:
        done: Made = self.do(keys.rotate, "default", key_id, overlap_s, HASH_KEY, now, os.urandom)
        return done

    def fetch(self, key_id: str, by: str = WANTED.owner, now: float = NOW) -> Made:
        done: Made = self.do(keys.fetch, "default", key_id, by, DAY_S, HASH_KEY, now, os.urandom)
        return done


@pytest.fixture
def desk(store: DatabaseStore) -> Desk:
    return Desk(store)


def test_a_key_is_what_was_asked_for(desk: Desk) -> None:
    record, key = desk.create(WANTED._replace(rate="1000/hour", auto_rotate=True))
    assert desk.get(key.key_id) == record
    assert record.owner == WANTED.owner
    assert record.permissions == WANTED.permissions
    assert record.resources == WANTED.resources
    assert (record.created, record.expires, record.rate, record.line) == (NOW, WANTED.expires, "1000/hour", key.key_id)
    assert api_keys.matches(key, HASH_KEY.key, record.hash)
    assert record.unusable(NOW) == ""
    assert record.unusable(WANTED.expires) == "identify.key_expired"
    assert decode(encode(record)) == record


def test_a_record_comes_back_from_its_octets_and_holds_no_mark_of_its_own() -> None:
    record = made(1)[1]
    for each in (
        record,
        record._replace(resources=(), rate="", hash=b""),
        record._replace(auto_rotate=True, expires=1.5),
    ):
        assert decode(encode(each)) == each
    for mark in "\x1e\x1f\n":
        with pytest.raises(ValueError, match="not printable"):
            encode(record._replace(title=f"a{mark}b"))


def test_a_secret_is_nowhere_in_the_database(engine: Engine) -> None:
    with opened(engine) as store:
        desk = Desk(store)
        first = desk.create(WANTED._replace(auto_rotate=True))
        second = desk.rotate(first.key.key_id)
        desk.do(keys.prepare_due, NOW + 29 * DAY_S, 10, os.urandom)
        third = desk.fetch(second.key.key_id, now=NOW + 29 * DAY_S)
        tables = ("api_keys", "changes", "idempotency", "head")
        rows = store.read(lambda reading: [row for table in tables for row in reading.rows(f"SELECT * FROM {table}")])
        kept = b"".join(path.read_bytes() for path in engine.directory.glob("*"))
    text = repr(rows) + repr(kept)
    assert len(rows) > 3
    for done in (first, second, third):
        assert done.key.key_id in text
        assert done.key.secret not in text


def test_every_fault_of_what_is_asked_for_is_told_at_once(desk: Desk) -> None:
    resources = ("/models", "tenants/other/models/m", "a b", "ok/**")
    bad = Wanted("", "a\n", ("Models", "*.x", "models.*"), resources, "\x00", NOW, "10/fortnight")
    with pytest.raises(RequestError) as caught:
        desk.create(bad)
    assert [field for field, _ in caught.value.faults] == [
        "tenant", "owner", "title", "permissions[0]", "permissions[1]", "resources[0]", "resources[2]", "resources[1]",
        "expires", "rate",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="permissions: expected one or more"):
        desk.create(WANTED._replace(permissions=()))
    with pytest.raises(RequestError, match="permissions: 65 of them, expected at most 64"):
        desk.create(WANTED._replace(permissions=("a",) * 65))
    with pytest.raises(RequestError, match="auto_rotate: a key that never expires"):
        desk.create(WANTED._replace(expires=NEVER, auto_rotate=True))
    with pytest.raises(RequestError, match="expires"):
        desk.create(WANTED._replace(expires=float("nan")))
    with pytest.raises(RequestError, match=r"resources\[0\]: expected a resource"):
        desk.create(WANTED._replace(resources=("models/a\u200bb",)))  # it stands in records, where nobody would see it
    assert desk.do(keys.page, "default").records == []


def test_an_end_that_no_answer_could_tell_is_refused(desk: Desk) -> None:
    """One such key would make every list that it is in impossible to send."""
    with pytest.raises(RequestError, match="expires: is beyond the year 9999"):
        desk.create(WANTED._replace(expires=NOW + 2.0**63))
    last = desk.create(WANTED._replace(expires=keys.LAST))
    successor = desk.rotate(last.record.key_id, now=NOW + DAY_S)
    assert successor.record.expires == keys.LAST
    assert api_key(successor.record).expires.ToDatetime().year == 9999


def test_an_id_that_is_taken_is_not_taken_over(desk: Desk) -> None:
    record = desk.create().record
    with pytest.raises(ConflictError):
        desk.do(lambda store: store.add(record._replace(owner="user:corp/mallory")))
    assert desk.get(record.key_id) == record


def test_a_key_is_of_one_tenant(desk: Desk) -> None:
    key_id = desk.create().key.key_id
    for operation in (
        lambda: desk.get(key_id, "other"),
        lambda: desk.do(keys.revoke, "other", key_id, NOW, successors=True),
        lambda: desk.do(keys.rotate, "other", key_id, 0.0, HASH_KEY, NOW, os.urandom),
        lambda: desk.do(keys.fetch, "other", key_id, WANTED.owner, 0.0, HASH_KEY, NOW, os.urandom),
        lambda: desk.get("0" * 12),
    ):
        with pytest.raises(KeyNotFoundError):
            operation()
    assert desk.do(keys.page, "other").records == []
    assert desk.get(key_id).unusable(NOW) == ""


def test_lists_come_in_pages(desk: Desk) -> None:
    all_there_are = sorted(desk.create(WANTED._replace(owner=f"user:corp/{n % 2}")).key.key_id for n in range(7))
    found, after, pages = [], "", 0
    while not pages or after:
        records, after = desk.do(keys.page, "default", after=after, most=3)
        found += [record.key_id for record in records]
        pages += 1
    assert (found, pages) == (all_there_are, 3)
    assert len(desk.do(keys.page, "default", "user:corp/1").records) == 3
    assert desk.do(keys.page, "default", "user:corp/1", most=3).after == ""
    assert desk.do(keys.page, "default", most=7).after == ""


def test_a_revoked_key_stays_revoked(desk: Desk) -> None:
    key_id = desk.create().key.key_id
    (revoked,) = desk.do(keys.revoke, "default", key_id, NOW + 1, successors=False)
    assert desk.get(key_id) == revoked
    assert revoked.unusable(NOW) == "identify.key_revoked"
    assert desk.do(keys.revoke, "default", key_id, NOW + 9, successors=False) == []
    assert desk.get(key_id).revoked == NOW + 1
    with pytest.raises(KeyStateError, match=r"cannot be rotated: identify\.key_revoked"):
        desk.rotate(key_id)


def test_a_rotated_key_goes_on_for_the_overlap_and_no_longer(desk: Desk) -> None:
    first = desk.create(WANTED._replace(rate="10/day"))
    second = desk.rotate(first.key.key_id, 60.0, NOW + DAY_S)
    old = desk.get(first.key.key_id)
    assert old.rotated_to == second.key.key_id
    assert [old.unusable(NOW + DAY_S + s) for s in (0, 59, 60)] == ["", "", "identify.key_rotated"]
    assert second.record == desk.get(second.key.key_id)
    assert second.record.expires == NOW + DAY_S + 30 * DAY_S
    assert second.record[1:6] == first.record[1:6]
    assert (second.record.rate, second.record.line) == ("10/day", first.key.key_id)
    assert api_keys.matches(second.key, HASH_KEY.key, second.record.hash)
    assert not api_keys.matches(first.key, HASH_KEY.key, second.record.hash)
    with pytest.raises(KeyStateError, match="was rotated to"):
        desk.rotate(first.key.key_id)
    third = desk.rotate(second.key.key_id, 0.0, NOW + DAY_S)
    assert desk.get(second.key.key_id).unusable(NOW + DAY_S) == "identify.key_rotated"
    assert third.record.line == first.key.key_id


def test_an_overlap_never_outlasts_the_key(desk: Desk) -> None:
    first = desk.create(WANTED._replace(expires=NOW + 100))
    desk.rotate(first.key.key_id, DAY_S, NOW + 50)
    assert desk.get(first.key.key_id).ends == NOW + 100
    for overlap_s in (-1.0, 31 * DAY_S, float("nan")):
        with pytest.raises(RequestError, match="overlap"):
            desk.rotate(first.key.key_id, overlap_s)


def test_revoking_takes_successors_along_where_it_is_told_to(desk: Desk) -> None:
    for successors in (False, True):
        first = desk.create()
        second = desk.rotate(first.key.key_id)
        third = desk.rotate(second.key.key_id)
        desk.do(keys.revoke, "default", first.key.key_id, NOW, successors=successors)
        expected = "identify.key_revoked" if successors else ""
        assert desk.get(first.key.key_id).unusable(NOW) == "identify.key_revoked"
        assert [desk.get(each.key.key_id).unusable(NOW) for each in (second, third)] == [expected, expected]


def test_what_is_due_gets_a_successor_that_proves_nothing_until_its_owner_fetches_it(desk: Desk) -> None:
    first = desk.create(WANTED._replace(auto_rotate=True))
    desk.create()  # not by itself
    due = NOW + 23 * DAY_S
    assert desk.do(keys.prepare_due, due - 1, 10, os.urandom) == []
    (prepared,) = desk.do(keys.prepare_due, due, 10, os.urandom)
    assert prepared == desk.get(first.key.key_id)
    assert desk.do(keys.prepare_due, due + 1, 10, os.urandom) == []
    waiting = desk.get(prepared.rotated_to)
    assert waiting.unusable(due) == "identify.key_not_fetched"
    assert prepared.unusable(due) == ""
    assert prepared.expires == first.record.expires
    with pytest.raises(NotOwnerError):
        desk.fetch(first.key.key_id, "user:corp/mallory", due)
    second = desk.fetch(first.key.key_id, now=due)
    assert second.key.key_id == waiting.key_id
    assert second.record.unusable(due) == ""
    assert second.record.expires == due + 30 * DAY_S
    assert desk.get(first.key.key_id).ends == due + DAY_S
    with pytest.raises(KeyStateError, match="was rotated to"):
        desk.fetch(first.key.key_id, now=due)
    (again,) = desk.do(keys.prepare_due, due + 23 * DAY_S, 10, os.urandom)
    assert again.key_id == second.key.key_id


def test_a_successor_that_nobody_fetches_ends_with_its_predecessor(desk: Desk) -> None:
    first = desk.create(WANTED._replace(auto_rotate=True))
    desk.do(keys.prepare_due, NOW + 29 * DAY_S, 10, os.urandom)
    with pytest.raises(KeyStateError, match=r"identify\.key_expired"):
        desk.fetch(first.key.key_id, now=WANTED.expires)
    assert desk.do(keys.prepare_due, WANTED.expires + DAY_S, 10, os.urandom) == []


def test_a_prepared_successor_falls_with_its_predecessor(desk: Desk) -> None:
    first = desk.create(WANTED._replace(auto_rotate=True))
    (prepared,) = desk.do(keys.prepare_due, NOW + 29 * DAY_S, 10, os.urandom)
    assert len(desk.do(keys.revoke, "default", first.key.key_id, NOW, successors=False)) == 2
    assert desk.get(prepared.rotated_to).revoked
    with pytest.raises(KeyStateError):
        desk.fetch(first.key.key_id)


def test_nothing_is_fetched_that_was_not_prepared(desk: Desk) -> None:
    with pytest.raises(KeyStateError, match="has no successor"):
        desk.fetch(desk.create().key.key_id)


def test_last_use_is_coarse_and_moves_on_only(desk: Desk) -> None:
    key_id = desk.create().key.key_id
    before = desk.store.read(lambda reading: reading.head().sequence)
    desk.do(keys.touch, {key_id: NOW + 1234.5, "nothing here": NOW})
    at = desk.get(key_id).last_used
    assert at % keys.COARSE_S == 0
    assert NOW + 1234.5 - keys.COARSE_S < at <= NOW + 1234.5
    desk.do(keys.touch, {key_id: NOW})
    assert desk.get(key_id).last_used == at
    desk.do(keys.revoke, "default", key_id, NOW, successors=False)
    assert desk.get(key_id).last_used == at
    assert desk.store.read(lambda reading: reading.head().sequence) == before + 1  # the revocation


def test_followers_learn_of_every_change(desk: Desk) -> None:
    first = desk.create()
    second = desk.rotate(first.key.key_id)
    desk.do(keys.revoke, "default", first.key.key_id, NOW, successors=False)
    changes = desk.store.read(lambda reading: changes_since(reading, 0))
    known = {change.key: decode(change.body) for change in changes if change[1:3] == ("identity", "api_key")}
    assert known == {key_id: desk.get(key_id) for key_id in (first.key.key_id, second.key.key_id)}


def test_all_that_somebody_has_are_streamed_by_id(desk: Desk) -> None:
    records = [made(seed)[1] for seed in range(50)]
    desk.do(lambda store: [store.add(record) for record in records])
    desk.create(WANTED._replace(auto_rotate=True))
    desk.do(keys.prepare_due, NOW + 29 * DAY_S, 10, os.urandom)
    count, found = desk.store.read(
        lambda reading: (SqlKeysReading(reading).count(), list(SqlKeysReading(reading).all()))
    )
    assert count == len(found) == 51
    assert [record.key_id for record in found] == sorted(record.key_id for record in found)
    assert set(records) < set(found)


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1000/hour", 3600), ("1/second", 1), ("999999999999/day", 86400), ("5/minute", 60)]
)
def test_a_rate_is_a_bucket_of_as_many(rate: str, seconds: int) -> None:
    count = int(rate.split("/")[0])
    assert bucket(rate) == (count, seconds, count)


@pytest.mark.parametrize("rate", ["", "0/hour", "1/week", "1000", "1e3/hour", "-1/day", "1000/hour\n", "1/hours"])
def test_other_rates_are_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        bucket(rate)
