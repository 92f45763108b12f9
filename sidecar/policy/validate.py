"""What is wrong with roles, groups, grants and policies: every fault at once, with the field that has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final, TypeAlias

from interceptors.authorize import KINDS
from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.policy import builtin, names
from sidecar.policy.conditions import ConditionError, condition
from sidecar.policy.model import Grant, Group, Item, Policy, Role

Fault: TypeAlias = tuple[str, str]  # field such as "permissions[1]", and what is wrong with it

MOST: Final = 1024  # members, permissions or resources of one thing
MOST_PAIRS: Final = 10_000  # members times resources, or permissions times resources: an index has each
LONGEST_NOTE: Final = 1024  # characters of a reason, an approver
OBLIGATION: Final = "a text such as redact:pii"
SHOWN: Final = 80  # characters of what came that a fault repeats


class PolicyError(SidecarError):
    """Something that cannot be kept. faults: path of each field, and what is wrong with it."""

    code: ClassVar[Code] = Code.INVALID_ARGUMENT
    public: ClassVar[str] = "role, group, grant or policy is not valid"
    wire_reason: ClassVar[str] = "POLICY_INVALID"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in self.faults))


class CostlyError(SidecarError):
    """More policies apply to one thing than can be asked of each message about it."""

    code: ClassVar[Code] = Code.FAILED_PRECONDITION
    public: ClassVar[str] = "the policies about this take too long together"
    wire_reason: ClassVar[str] = "POLICY_COSTLY"


def breadth(item: Item) -> int:
    """In how many places of an index it stands: under each pair of what it names."""
    match item:
        case Role():
            return len(item.permissions)
        case Group():
            return len(item.members)
        case Grant():
            return len(item.members) * len(item.resources)
        case Policy():
            return max(len(item.permissions), 1) * max(len(item.resources), 1)


def check(item: Item) -> None:
    """Raises PolicyError with every fault."""
    found = tuple(faults(item))
    if found:
        raise PolicyError(found)


def faults(item: Item) -> Iterator[Fault]:
    """What is wrong with one thing by itself; whether what it names exists is not asked."""
    yield from _named("tenant", item.tenant)
    match item:
        case Role():
            yield from _named("name", item.name, reserved=True)
            yield from _each("permissions", item.permissions, names.permissions)
        case Group():
            yield from _named("name", item.name)
            yield from _each("members", item.members, names.identity)
        case Grant():
            yield from _grant(item)
        case Policy():
            yield from _policy(item)


def excesses(item: Item) -> Iterator[Fault]:
    """What is too much of one thing, or for nobody; asked of what is new, and not of what is kept."""
    match item:
        case Group():
            yield from _no_keys(item.members)
        case Grant():
            yield from _no_keys(item.members)
            yield from _pairs("members", len(item.members), "resources", len(item.resources))
            yield from _reachable(item.resources)
        case Policy():
            yield from _pairs("permissions", len(item.permissions), "resources", len(item.resources))
            yield from _reachable(item.resources)


def _no_keys(members: tuple[str, ...]) -> Iterator[Fault]:
    for at, member in enumerate(members):
        if member.startswith(KINDS["key"]):
            yield f"members[{at}]", f"expected no API key, which says itself what it permits, got {_shown(member)}"


def _pairs(one: str, ones: int, other: str, others: int) -> Iterator[Fault]:
    if ones * others > MOST_PAIRS:
        yield one, f"expected {MOST_PAIRS} {one} times {other} at most, got {ones} x {others} = {ones * others}"


def _reachable(resources: tuple[str, ...]) -> Iterator[Fault]:
    for at, text in enumerate(resources):
        try:
            names.reachable(text)
        except names.NameFault as error:
            yield f"resources[{at}]", f"{error}, got {_shown(text)}"


def _grant(item: Grant) -> Iterator[Fault]:
    yield from _named("id", item.id)
    yield from _each("members", item.members, _member)
    if item.role not in builtin.NAMES:
        yield from _named("role", item.role, reserved=True)
    yield from _each("resources", item.resources, lambda text: names.scope(text, item.tenant))
    if not (math.isfinite(item.begins) and item.begins >= 0):
        yield "begins", f"expected Unix seconds, got {item.begins!r}"
    if math.isnan(item.expires) or item.expires <= item.begins:
        yield "expires", f"expected a time after it begins, got {item.expires!r}"
    for field in ("reason", "approver"):
        if len(getattr(item, field)) > LONGEST_NOTE:
            yield field, f"expected {LONGEST_NOTE} characters at most, got {len(getattr(item, field))}"
    yield from _obligations(item.obligations)


def _policy(item: Policy) -> Iterator[Fault]:
    yield from _named("name", item.name)
    if item.effect not in ("allow", "deny"):
        yield "effect", f"expected allow or deny, got {_shown(item.effect)}"
    try:
        if item.condition:
            condition(item.condition)
    except ConditionError as error:
        yield "condition", str(error)
    yield from _each("permissions", item.permissions, names.permissions, least=0)
    yield from _each("resources", item.resources, lambda text: names.scope(text, item.tenant), least=0)
    if item.effect == "deny" and item.obligations:
        yield "obligations", "expected none of a policy that denies"
    if item.version < 1:
        yield "version", f"expected 1 or more, got {item.version}"
    yield from _obligations(item.obligations)


def _member(text: str) -> None:
    if text.startswith(names.GROUP):
        names.plain(text.removeprefix(names.GROUP))
        return
    try:
        names.identity(text)
    except names.NameFault as error:
        raise names.NameFault(f"{error.expected} or {names.GROUP}NAME") from error


def _obligations(obligations: frozenset[str]) -> Iterator[Fault]:
    for text in sorted(obligations):
        if not 0 < len(text) <= names.LONGEST_PLAIN or not text.isprintable() or text != text.strip():
            yield "obligations", f"expected {OBLIGATION}, got {_shown(text)}"


def _named(field: str, name: str, reserved: bool = False) -> Iterator[Fault]:
    try:
        names.plain(name)
    except names.NameFault as error:
        yield field, f"{error}, got {_shown(name)}"
        return
    if reserved and name.startswith(builtin.RESERVED):
        yield field, f"names that begin with {builtin.RESERVED!r} are reserved, got {_shown(name)}"


def _each(field: str, texts: tuple[str, ...], read: Callable[[str], object], least: int = 1) -> Iterator[Fault]:
    if not least <= len(texts) <= MOST:
        yield field, f"expected {least} to {MOST}, got {len(texts)}"
        return
    for at, text in enumerate(texts):
        try:
            read(text)
        except names.NameFault as error:
            yield f"{field}[{at}]", f"{error}, got {_shown(text)}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
