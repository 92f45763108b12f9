"""What a worker makes of what it is told of roles and policies."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.facts import Principal
from sidecar.changes import said
from sidecar.changes.follower import Follower
from sidecar.policy import known as known_module
from sidecar.policy import rows
from sidecar.policy.engine import Engine
from sidecar.policy.model import Grant, Group, Item, Policy, Role
from tests.policy.knowing import STALENESS_S, Knowing, settled

ALICE = Principal("user", "user:okta/alice")
ML = Role("ml", ("models.inference",))
GRANT = Grant("g", ("user:okta/alice",), "ml", ("**",))
FRAUD = "tenants/default/models/fraud-1"


def key(item: Item) -> str:
    return str(rows.key(item))


def reason(at: Knowing, granted: bool = False) -> str:
    decision = at.known.engine.decide(ALICE, "models.inference", FRAUD, granted=granted)
    return "" if decision.allowed else decision.reason


def test_nothing_is_decided_before_all_was_told() -> None:
    at = Knowing()
    assert at.doubt() == "policy.stale"

    async def told_in_part() -> None:
        at.known.listen(key(ML), rows.encode(ML))
        at.known.listen(key(GRANT), rows.encode(GRANT))
        await settled()

    asyncio.run(told_in_part())
    assert at.doubt() == "policy.stale"
    assert reason(at) == "policy.no_grant"
    at.tell()
    assert at.doubt() == ""
    assert reason(at) == ""
    assert at.changed == [{"default"}]


def test_who_is_told_that_there_is_nothing_can_decide() -> None:
    at = Knowing()
    at.tell()
    assert at.doubt() == ""
    assert reason(at, granted=True) == ""


def test_changes_act() -> None:
    at = Knowing()
    at.tell(ML, GRANT)
    at.tell(Policy("p", "deny"))
    assert reason(at) == "policy.deny"
    at.tell(Policy("p", "deny", resources=("models/other",)))
    assert reason(at) == ""
    at.tell(gone=[key(GRANT)])
    assert reason(at) == "policy.no_grant"
    at.tell(gone=[key(Grant("never", ("user:*",), "ml", ("**",)))])
    assert at.doubt() == ""


def test_it_is_told_of_whose_things_changed() -> None:
    at = Knowing()
    at.tell(ML, GRANT, Role("ml", ("models.read",), "acme"))
    at.tell(Role("ml", ("models.*",), "acme"))
    at.tell(ML)  # as it was
    assert at.changed == [{"default", "acme"}, {"acme"}]


@pytest.mark.parametrize("what", ["age", "so"])
def test_what_may_have_changed_is_not_relied_upon(what: str) -> None:
    at = Knowing()
    at.tell(ML, GRANT)
    at.clock += STALENESS_S
    assert at.doubt() == ""
    at.clock += 0.001
    if what == "age":
        at.know()
    else:
        at.heard = at.clock
    assert at.doubt() == "policy.stale"
    at.tell()
    assert at.doubt() == ""


def test_others_have_their_turns_and_what_takes_away_goes_before_what_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "MOST_AT_ONCE", 0)
    at, last = Knowing(slow=True), Principal("user", "user:okta/u299")
    at.tell(ML, GRANT)
    grants = [Grant(f"g{number}", (f"user:okta/u{number}",), "ml", ("models/m",)) for number in range(300)]

    def granted() -> bool:
        return at.known.engine.decide(last, "models.inference", "tenants/default/models/m").allowed

    async def run() -> None:
        for grant in grants:
            at.known.listen(key(grant), rows.encode(grant))
        at.known.listen(key(GRANT), None)
        turns = 0
        while reason(at) == "":
            turns += 1
            await asyncio.sleep(0)
        assert turns > len(grants)  # each has its place by then
        assert at.changed[1:] == [{"default"}]
        assert not granted()
        await settled()
        assert granted()
        assert at.changed[1:] == [{"default"}, {"default"}]

    asyncio.run(run())


def test_between_some_changes_nothing_is_decided() -> None:
    """One policy takes another's place, and is changed once more before either was put in force."""
    at = Knowing(slow=True)
    old, new = Policy("a", "deny"), Policy("z", "deny")
    at.tell(ML, GRANT, old)

    async def run() -> None:
        for item in (new, dataclasses.replace(old, condition="false"), dataclasses.replace(new, version=2)):
            at.known.listen(key(item), rows.encode(item))
        seen = []
        for _ in range(10):
            seen.append((reason(at), at.known.engine.tables.get(Policy, "default", "z") is not None))
            await asyncio.sleep(0)
        assert [each for each, _ in itertools.groupby(seen)] == [("policy.deny", False), ("policy.deny", True)]

    asyncio.run(run())
    assert reason(at) == "policy.deny"


def test_what_waits_only_to_be_granted_leaves_no_doubt() -> None:
    at = Knowing(slow=True)
    at.tell(ML, GRANT)
    grants = [Grant(f"g{number}", (f"user:okta/u{number}",), "ml", ("models/m",)) for number in range(9)]

    async def run() -> None:
        for item in grants:
            at.known.listen(key(item), rows.encode(item))
        for _ in range(len(grants) + 2):
            await asyncio.sleep(0)
        at.clock += STALENESS_S + 0.001
        at.heard = at.clock
        at.know()
        assert at.doubt() == ""

    asyncio.run(run())


class Order:
    """Writes down what is put in force."""

    def __init__(self, at: Knowing) -> None:
        self.done: list[str] = []
        self._engine = at.known.engine
        known: Any = at.known
        known.engine = self

    def take(self, item: Item) -> None:
        self.done.append(f"+{key(item)}")
        self._engine.take(item)

    def drop(self, kind: type[Item], tenant: str, name: str) -> None:
        self.done.append(f"-{name}")
        self._engine.drop(kind, tenant, name)


def test_the_order_of_many_changes() -> None:
    at = Knowing()
    group = Group("team", ("user:okta/*",))
    at.tell(ML, GRANT, group, Policy("old", "deny", "user.name == 'x'"))
    order = Order(at)
    at.tell(
        Role("new", ("models.read",)), Group("team", ("user:okta/bob",)), Policy("new", "deny", "user.name == 'x'"),
        gone=[key(GRANT), "policy/default/old"],
    )  # fmt: skip
    assert order.done == [
        "+policy/default/new", "+group/default/team", "-g", "-old", "+role/default/new",
    ]  # fmt: skip


def test_of_what_changes_again_meanwhile_the_last_counts() -> None:
    at = Knowing()
    at.tell(ML, GRANT)
    order = Order(at)
    at.tell_rows((key(GRANT), None), (key(GRANT), rows.encode(GRANT)))
    assert order.done == []
    other = Grant("h", ("user:okta/bob",), "ml", ("**",))
    at.tell_rows((key(other), rows.encode(other)), (key(other), None))
    assert order.done == []


CHANGES = st.lists(
    st.sampled_from([
        ("role/default/ml", ML), ("role/default/ml", Role("ml", ("models.read",))), ("role/default/ml", None),
        ("grant/default/g", GRANT), ("grant/default/g", Grant("g", ("group:team",), "ml", ("**",))),
        ("grant/default/g", None), ("group/default/team", Group("team", (ALICE.name,))), ("group/default/team", None),
        ("policy/default/p", Policy("p", "deny")), ("policy/default/p", Policy("p", "allow", "user.cleared")),
        ("policy/default/p", None),
    ]),
    max_size=12,
)  # fmt: skip


@given(before=CHANGES, after=CHANGES, anew=st.booleans())
def test_what_is_in_force_is_what_was_told_last_however_it_came(
    before: list[tuple[str, Item | None]], after: list[tuple[str, Item | None]], anew: bool
) -> None:
    """And at no moment between do policies let pass what they do not before or after."""
    at = Knowing(slow=True)
    at.tell_rows(*((name, None if item is None else rows.encode(item)) for name, item in before))
    was = [reason(at, granted) for granted in (False, True)]
    moments: list[list[str]] = []

    async def run() -> None:
        if anew:
            at.known.listen_so(rows.SO, None)
            for name in dict(before):
                at.known.listen(name, None)
            await asyncio.sleep(0)
            for name, item in {**dict(before), **dict(after)}.items():
                at.known.listen(name, None if item is None else rows.encode(item))
        else:
            for name, item in after:
                at.known.listen(name, None if item is None else rows.encode(item))
        at.known.listen_so(rows.SO, (at.clock, 2.0))
        for _ in range(40):
            await asyncio.sleep(0)
            moments.append([reason(at, granted) for granted in (False, True)])

    asyncio.run(run())
    told = {**dict(before), **dict(after)}
    fresh = Engine()
    for item in told.values():
        if item is not None:
            fresh.put(item)
    now = [fresh.decide(ALICE, "models.inference", FRAUD, granted=granted) for granted in (False, True)]
    assert [decision.allowed for decision in now] == [not each for each in moments[-1]]
    for moment in moments:
        assert moment[1] or "" in (was[1], moments[-1][1])


# Whoever tells begins anew.


def test_what_has_gone_because_another_has_yet_to_read_it_stays_in_force() -> None:
    """A deny policy above all: rules of the config would grant."""
    at = Knowing()
    deny = Policy("p", "deny")
    at.tell(ML, GRANT, deny)

    async def anew(*told: tuple[str, bytes | None]) -> None:
        for listed, row in told:
            at.known.listen(listed, row)
        at.known.listen_so(rows.SO, None)
        await settled()

    asyncio.run(anew(*((key(item), None) for item in (ML, GRANT, deny))))
    assert reason(at, granted=True) == "policy.deny"
    assert at.doubt() == ""
    at.clock += STALENESS_S + 0.001
    assert at.doubt() == "policy.stale"
    at.tell(ML, deny)
    assert at.doubt() == ""
    assert reason(at, granted=True) == "policy.deny"
    at.tell(gone=[key(deny)])
    assert reason(at) == "policy.no_grant"  # the grant has not come back


def test_what_is_not_put_in_force_in_time_is_not_relied_upon() -> None:
    at = Knowing(slow=True)
    at.tell(ML, GRANT)

    async def run() -> None:
        for item in (ML, GRANT):
            at.known.listen(key(item), None)
        at.clock += STALENESS_S + 0.001
        at.heard = at.clock
        at.know()
        assert at.doubt() == "policy.stale"
        await settled()
        assert at.doubt() == ""

    asyncio.run(run())


# What cannot be read.


@pytest.mark.parametrize(
    ("damaged", "row", "doubtful"),
    [
        ("policy/default/p", b"{", {"default"}),
        ("policy/default/p", b'{"name":"p","effect":"allow","condition":"user."}', {"default"}),
        ("policy/default/p", b'{"name":"q","effect":"deny"}', {"default"}),  # another's
        ("policy/acme/p", b'{"name":"p","effect":"deny"}', {"acme"}),  # another tenant's
        ("role/default/ml", b"{", set()),
        ("grant/default/g", b'{"id":"g"}', set()),
        ("nosuch/default/p", b"{}", {"default", "acme"}),
        ("policy", b"{}", {"default", "acme"}),
    ],
)
def test_what_cannot_be_read_grants_nothing_and_denies(damaged: str, row: bytes, doubtful: set[str]) -> None:
    at = Knowing()
    at.tell(ML, GRANT)
    at.tell_rows((damaged, row))
    doubted = {tenant for tenant in ("default", "acme") if at.doubt(tenant) == "policy.damaged"}
    assert doubted == doubtful
    if damaged.startswith(("role", "grant")):
        assert reason(at) == "policy.no_grant"  # not as it was before either
    assert at.changed[-1] is None or at.changed[-1]
    at.tell_rows((damaged, None))
    assert at.doubt("default") == at.doubt("acme") == ""


def test_what_could_not_be_read_is_good_again() -> None:
    at = Knowing()
    policy = Policy("p", "deny")
    at.tell_rows((key(policy), b"{"))
    assert at.doubt() == "policy.damaged"
    at.tell(policy)
    assert at.doubt() == ""
    assert reason(at, granted=True) == "policy.deny"


def test_what_is_told_of_policies_acts_in_the_order_in_which_it_was_written() -> None:
    """A slice at a time: whoever made one policy and then loosened another is never without both."""
    at = Knowing(slow=True)
    strict, loose = Policy("old", "deny"), Policy("old", "deny", "false")
    at.tell(ML, GRANT, strict)
    seen: list[str] = []

    async def watched() -> None:
        for round_ in (
            [Policy("new", "deny"), loose],
            [strict, Policy("new", "deny", "false")],
            [Policy("new", "deny", "1 == 2"), Policy("new", "deny"), loose],  # what it became counts
        ):
            for item in round_:
                at.known.listen(key(item), rows.encode(item))
            at.known.listen_so(rows.SO, (at.clock, 1.0))
            for _ in range(50):
                seen.append(reason(at))
                await asyncio.sleep(0)
            assert not at.known._heard
            assert not any(at.known._waiting)

    asyncio.run(watched())
    assert set(seen) == {"policy.deny"}


def test_of_what_was_told_in_part_nothing_is_put_in_force() -> None:
    """By another publisher, whose policies have other names, to a follower that tells them one at a time."""
    at = Knowing(slow=True)
    seen: list[tuple[str, list[str]]] = []

    def everything(sequence: int, *items: Item) -> bytes:
        # What says that all is told is the first that a dictionary of everything happens to have.
        entries = [(rows.SO, "so", (at.clock, float(sequence))), *((rows.ITEMS, key(i), rows.encode(i)) for i in items)]
        return b"".join(said.whole(entries, sequence, at.clock))

    def policies() -> list[str]:
        return sorted(policy.name for policy in at.known.engine.tables.snapshot().policies)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        listeners = {rows.ITEMS: at.known.listen, rows.SO: at.known.listen_so}
        follower = Follower(loop, lambda: at.clock, listeners, (rows.SO,), itertools.count().__next__)
        for told in (everything(1, ML, GRANT, Policy("a", "deny")), everything(2, ML, GRANT, Policy("b", "deny"))):
            ours, theirs = socket.socketpair()
            follower.attach(theirs)
            ours.sendall(told)
            for _ in range(100):
                seen.append((reason(at), policies()))
                await asyncio.sleep(0)
            ours.close()
        follower.close()

    asyncio.run(scene())
    in_force = [("policy.no_grant", []), ("policy.no_grant", ["a"]), ("policy.deny", ["a"]), ("policy.deny", ["b"])]
    assert [each for each, _ in itertools.groupby(seen)] == in_force
