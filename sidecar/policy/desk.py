"""Roles, groups, grants and policies for whoever may manage them: stored, and recorded before it is answered.

Safe for many threads. That the caller may do what is asked is settled before; that he gives nothing that he does not
have is settled here. Changes are made one after the other, each decided by what all before it have left: where another
sidecar has written meanwhile, it is decided again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from sidecar.errors import RequestError
from sidecar.logs import Log
from sidecar.policy import builtin, giving, lockout, names, records, rows
from sidecar.policy.asked import (
    Asked,
    EscalationError,
    ExistsError,
    InUseError,
    LockoutError,
    NotFoundError,
    TooManyError,
    UnchangeableError,
    VersionError,
    below,
)
from sidecar.policy.bootstrap import CONFIG
from sidecar.policy.engine import Engine
from sidecar.policy.giving import Given
from sidecar.policy.live import Live
from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.policy.records import Written
from sidecar.policy.rows import KINDS, Key
from sidecar.policy.store_sql import PolicyReading, PolicyStore, Stored
from sidecar.policy.validate import LONGEST_NOTE, Fault, breadth, excesses, faults
from sidecar.state import idempotency
from sidecar.state.idempotency import Scope
from sidecar.state.outbox import Outbox
from sidecar.state.ports import DEADLINE_S, ConflictError, StateTimeoutError, Store, Transaction

log = Log("policy")

T = TypeVar("T")

RESERVED: Final = (builtin.RESERVED, CONFIG)
MOST: Final = {"role": 1_000, "group": 10_000, "grant": 200_000, "policy": 20_000}  # of one tenant
MOST_PLACES: Final = 500_000  # in indexes, of one tenant: some 250 MB in each worker
MOST_PAGE: Final = 1_000
# Grants that go along with a role or a group, and their bytes: all writers wait meanwhile.
MOST_ALONG, LARGEST_ALONG = 1_000, 2 << 20
LARGEST: Final = 64 << 10  # bytes of one item, as it is kept
LARGEST_PAGE: Final = 2 << 20  # the same of a page, unless it is a single item
ATTEMPTS: Final = 5  # at a change, while others write


class Page(NamedTuple):
    """after: where the next begins, "" after the last."""

    stored: list[Stored]
    after: str


class _MovedError(Exception):
    """Others have written since it was decided."""


class PolicyDesk:
    """outbox: of the store.  clock: Unix seconds.  random_bytes: as os.urandom."""

    def __init__(
        self,
        store: Store,
        live: Live,
        outbox: Outbox,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._live = live
        self._outbox = outbox
        self._clock = clock
        self._random_bytes = random_bytes
        self._writing = threading.Lock()

    def create(self, asked: Asked, item: Item, description: str = "") -> Stored:
        """item: a grant without an id gets one.

        Raises RequestError with every fault, ExistsError, TooManyError, EscalationError and LockoutError.
        """
        now, who = self._clock(), asked.caller.name
        if isinstance(item, Grant) and not item.id:
            item = dataclasses.replace(item, id=_new_id(now, self._random_bytes))
        key = rows.key(item)
        self._check(item, description)

        def decide(engine: Engine) -> str:
            if engine.tables.get(type(item), key.tenant, key.name) is not None:
                raise ExistsError(f"{key} is there")
            if self._live.count(key.kind, key.tenant) >= MOST[key.kind]:
                raise TooManyError(f"tenant {key.tenant} has {MOST[key.kind]} of kind {key.kind}")
            _fit(engine, item, None)
            _refer(engine, item, now)
            _permit(engine, asked, item, None, now)
            return lockout.lost(engine, asked.principal, asked.caller.source, [item], [], now)

        def write(store: PolicyStore) -> list[Written]:
            if used := store.using(key, 1):
                raise InUseError(below(key.kind, [("name", _left_behind(used[0]))]))
            version = 1 + store.last_version(key.tenant, key.name) if isinstance(item, Policy) else 1
            stored = Stored(_numbered(item, version), version, description, now, who, now, who)
            store.put(stored)
            return [Written(None, stored)]

        return self._do(asked, key.kind, decide, write)

    def update(self, asked: Asked, item: Role | Group | Policy, description: str, version: int) -> Stored:
        """Put it in the place of the one of its name. version: of that, 0 for any.

        Raises RequestError with every fault, NotFoundError, VersionError, UnchangeableError, EscalationError and
        LockoutError.
        """
        now, key = self._clock(), rows.key(item)
        self._check_version(key.kind, version)
        self._changeable(key)
        self._check(item, description)

        def decide(engine: Engine) -> str:
            before = engine.tables.get(type(item), key.tenant, key.name)
            if before is None:
                raise NotFoundError(f"there is no {key}")
            _fit(engine, item, before)
            _permit(engine, asked, item, before, now)
            if isinstance(before, Policy) and _numbered(item, before.version) == before:
                return ""
            return lockout.lost(engine, asked.principal, asked.caller.source, [item], [], now)

        def write(store: PolicyStore) -> list[Written]:
            before = _found(store.get(key), key, version)
            new = before.version + 1
            stored = before._replace(
                item=_numbered(item, new), version=new, description=description, updated=now, updater=asked.caller.name
            )
            store.put(stored)
            return [Written(before, stored)]

        return self._do(asked, key.kind, decide, write)

    def remove(
        self, asked: Asked, kind: str, name: str, version: int = 0, reason: str = "", force: bool = False
    ) -> None:
        """version: that it must have, 0 for any.  reason: for the record.  force: also where grants name it.

        Raises NotFoundError, VersionError, UnchangeableError, InUseError, LockoutError and RequestError.
        """
        key = Key(kind, asked.caller.tenant, name)
        self._check_version("", version)
        if problem := _note_fault(reason):
            raise RequestError([("reason", problem)])
        self._changeable(key)
        _plain(key)

        now = self._clock()

        def decide(engine: Engine) -> str:
            gone = [(KINDS[kind], key.tenant, key.name)]
            return lockout.lost(engine, asked.principal, asked.caller.source, [], gone, now)

        def write(store: PolicyStore) -> list[Written]:
            stored = _found(store.get(key), key, version)
            along = _released(store, key, force, now, asked.caller.name)
            store.remove(key)
            return [*along, Written(stored, None)]

        self._do(asked, kind, decide, write, reason)

    def get(self, asked: Asked, kind: str, name: str, version: int = 0) -> Stored:
        """version: of a policy, as it is or was; 0 for the last. Raises NotFoundError."""
        key = Key(kind, asked.caller.tenant, name)
        fixed = next((each for each in self._fixed(kind, key.tenant) if _name(each.item) == name), None)
        if fixed is not None:
            return fixed
        _plain(key)
        if not version:
            return _found(self._store.read(lambda reading: PolicyReading(reading).get(key)), key, 0)
        self._check_version("", version)
        return _found(
            self._store.read(lambda reading: PolicyReading(reading).version(key.tenant, name, version)), key, 0
        )

    def page(self, asked: Asked, kind: str, after: str, most: int, member: str = "", role: str = "") -> Page:
        """By name, those that are not the store's first. after: of the page before.

        member, role: only grants that name it. Raises RequestError.
        """
        self._check_page(after, most, member, role)
        tenant = asked.caller.tenant
        fixed = [each for each in self._fixed(kind, tenant) if _names(each.item, member, role)]
        left = [each for each in fixed if _name(each.item) > after] if not after or _is_fixed(after) else []
        found = left[: most + 1]
        if len(found) <= most:
            start = Key(kind, tenant, "" if _is_fixed(after) else after)
            wanted = most + 1 - len(found)
            found = found + self._store.read(lambda reading: PolicyReading(reading).page(start, wanted, member, role))
        some = _fitting(found[:most])
        return Page(some, _name(some[-1].item) if len(found) > len(some) else "")

    def versions(self, asked: Asked, name: str, after: str, most: int) -> Page:
        """What a policy has been, the last version first. Raises NotFoundError and RequestError."""
        key = Key("policy", asked.caller.tenant, name)
        _plain(key)
        if not 1 <= most <= MOST_PAGE or not (after == "" or (after.isascii() and after.isdigit() and len(after) < 19)):
            self._check_page("-" if after else "", most, "", "")
        before = int(after) if after else 1 << 62
        found = self._store.read(lambda reading: PolicyReading(reading).versions(key.tenant, name, before, most + 1))
        if not found and not after:
            raise NotFoundError(f"there is no {key}")
        some = _fitting(found[:most])
        return Page(some, str(some[-1].version) if len(found) > len(some) else "")

    # --- how a change is made -----------------------------------------------------------------------------------

    def _do(
        self,
        asked: Asked,
        kind: str,
        decide: Callable[[Engine], str],
        write: Callable[[PolicyStore], list[Written]],
        reason: str = "",
    ) -> Stored:
        """decide: raises what forbids it, and says what whoever asks would lose by it.  write: what was asked for comes
        last.  reason: for the record."""

        def change(lost: str, transaction: Transaction) -> Stored:
            written, now = write(PolicyStore(transaction)), self._clock()
            self._outbox.put(transaction, *(records.event(asked, each, now, reason, lost) for each in written))
            return written[-1].stored

        self._live.prepare(asked.caller.tenant)  # no other tenant's writers wait for that
        if not self._writing.acquire(timeout=DEADLINE_S):
            raise StateTimeoutError("other changes of policies are made, and they take long")
        try:
            stored = self._attempts(asked, kind, decide, change)
        finally:
            self._writing.release()
        self._outbox.settle()
        return stored

    def _attempts(
        self, asked: Asked, kind: str, decide: Callable[[Engine], str], change: Callable[[str, Transaction], Stored]
    ) -> Stored:
        for _ in range(ATTEMPTS):
            known = self._store.read(partial(self._recalled, asked, kind)) if asked.key else None
            if known is not None:
                return known
            with self._live.engine(asked.caller.tenant) as engine:
                lost = decide(engine)
                sequence = engine.tables.sequence
            if lost and not asked.allow_lockout:
                raise LockoutError([("allow_lockout", f"expected true, for {lost}")])
            try:
                stored = self._outbox.commit(partial(self._change, asked, kind, sequence, partial(change, lost)))
            except _MovedError:
                continue
            if lost:
                log.warning("lockout_allowed", method=asked.method, caller=asked.caller.name, detail=lost)
            return stored
        raise ConflictError(f"others have changed policies in each of {ATTEMPTS} attempts")

    def _change(
        self, asked: Asked, kind: str, sequence: int, change: Callable[[Transaction], Stored], transaction: Transaction
    ) -> Stored:
        known = self._recalled(asked, kind, transaction) if asked.key else None
        if known is not None:
            return known
        if PolicyReading(transaction).moved(sequence):
            raise _MovedError
        stored = change(transaction)
        if asked.key:
            name = _name(stored.item)
            idempotency.remember(transaction, _scope(asked), asked.digest, name.encode(), self._clock())
        return stored

    def _recalled(self, asked: Asked, kind: str, reading: Transaction) -> Stored | None:
        """What was done already, as it is now. Raises NotFoundError where it is gone."""
        name = idempotency.recall(reading, _scope(asked), asked.digest, self._clock())
        if name is None:
            return None
        key = Key(kind, asked.caller.tenant, name.decode())
        return _found(PolicyReading(reading).get(key), key, 0)

    # --- what may be asked --------------------------------------------------------------------------------------

    def _check(self, item: Item, description: str) -> None:
        """Raises RequestError with every fault, by the names that the request has for its fields."""
        key = rows.key(item)
        found = [*faults(item), *excesses(item)]
        prefix = next((each for each in RESERVED if key.name.startswith(each)), "")
        if prefix:
            field = "id" if isinstance(item, Grant) else "name"
            found.append((field, f"names that begin with {prefix!r} are reserved, got {key.name[:80]!r}"))
        notes = {"description": description}
        if isinstance(item, Grant):
            notes = {"reason": item.reason, "approver": item.approver}
        found += [(field, problem) for field, text in notes.items() if (problem := _note_fault(text))]
        if not found and (size := len(rows.encode(item))) > LARGEST:
            raise RequestError([(key.kind, f"is {size} bytes as it is kept, expected {LARGEST} at most")])
        if found:
            raise RequestError(below(key.kind, dict.fromkeys(found)))

    @staticmethod
    def _check_version(section: str, version: int) -> None:
        if not 0 <= version < 1 << 62:
            field = f"{section}.version" if section else "version"
            raise RequestError([(field, f"expected that of what is there, or 0 for any, got {version}")])

    @staticmethod
    def _check_page(after: str, most: int, member: str, role: str) -> None:
        found: list[Fault] = []
        if not 1 <= most <= MOST_PAGE:
            found.append(("page_size", f"expected 1 to {MOST_PAGE}, got {most}"))
        if after and not _is_plain(after):
            found.append(("page_token", "expected that of the answer before"))
        if role and not _is_plain(role):
            found.append(("role", "expected a role's name"))
        if member:
            found += [
                ("member", problem)
                for field, problem in faults(Grant("x", (member,), "x", (names.EVERYTHING,)))
                if field == "members[0]"
            ]
        if found:
            raise RequestError(found)

    @staticmethod
    def _changeable(key: Key) -> None:
        if _is_fixed(key.name):
            raise UnchangeableError(f"{key} is not the store's")

    def _fixed(self, kind: str, tenant: str) -> list[Stored]:
        """What is not the store's: what every tenant has, and what the config has."""
        found = [*(builtin.ROLES if kind == "role" else ()), *self._live.configured(kind, tenant)]
        return [Stored(item) for item in sorted(found, key=_name)]


def _name(item: Item) -> str:
    return rows.key(item).name


def _is_fixed(name: str) -> bool:
    return name.startswith(RESERVED)


def _is_plain(name: str) -> bool:
    try:
        names.plain(name)
    except names.NameFault:
        return False
    return True


def _plain(key: Key) -> None:
    """Raises NotFoundError for what cannot be there."""
    if not _is_plain(key.name):
        raise NotFoundError(f"no {key.kind} has such a name")


def _found(stored: Stored | None, key: Key, version: int) -> Stored:
    if stored is None:
        raise NotFoundError(f"there is no {key}")
    if version and stored.version != version:
        raise VersionError(f"{key} has version {stored.version}, not {version}")
    return stored


def _numbered(item: Item, version: int) -> Item:
    return dataclasses.replace(item, version=version) if isinstance(item, Policy) else item


def _fitting(found: Sequence[Stored]) -> list[Stored]:
    """The first of them, as many as an answer has room for."""
    some: list[Stored] = []
    size = 0
    for each in found:
        size += len(rows.encode(each.item)) + len(each.description)
        if some and size > LARGEST_PAGE:
            break
        some.append(each)
    return some


def _names(item: Item, member: str, role: str) -> bool:
    if not isinstance(item, Grant):
        return True
    return (not member or member in item.members) and (not role or role == item.role)


def _refer(engine: Engine, item: Item, now: float) -> None:
    """Raises RequestError for a grant that would give nothing: of what is not there, or past."""
    if not isinstance(item, Grant):
        return
    found: list[Fault] = []
    if item.expires <= now:
        found.append(("expires", "is past, expected a time to come"))
    if engine.tables.role(item.tenant, item.role) is None:
        found.append(("role", f"there is no role {item.role!r}"))
    for at, member in enumerate(item.members):
        group = member.removeprefix(names.GROUP)
        if group != member and engine.tables.get(Group, item.tenant, group) is None:
            found.append((f"members[{at}]", f"there is no group {group!r}"))
    if found:
        raise RequestError(below("grant", found))


def _fit(engine: Engine, item: Item, before: Item | None) -> None:
    """Raises TooManyError."""
    more = breadth(item) - (breadth(before) if before else 0)
    if more > 0 and engine.tables.places + more > MOST_PLACES:
        there = f"{engine.tables.places} of {MOST_PLACES} places in indexes"
        raise TooManyError(f"tenant {item.tenant} has {there}, {more} more are needed")


def _permit(engine: Engine, asked: Asked, item: Item, before: Item | None, now: float) -> None:
    """Raises EscalationError."""
    given: Sequence[Given]
    match item:
        case Role():
            given = giving.of_role(item, before if isinstance(before, Role) else None)
        case Group():
            given = giving.of_group(engine, item, before if isinstance(before, Group) else None, now)
        case Grant():
            given = giving.of_grant(engine, item)
        case Policy():
            return
    found = [
        (rows.key(item).kind, f"gives {lack.permission}, which you do not have{_where(lack.scope)}")
        for lack in giving.lacking(given, giving.had(engine, asked.principal, now))
    ]
    if found:
        raise EscalationError(found)


def _released(store: PolicyStore, key: Key, force: bool, now: float, who: str) -> list[Written]:
    """Let go of a role or a group by all grants that name it. Raises InUseError where that is too much, or not asked.

    Those that are past give nothing, and go in any case.
    """
    count, octets = store.weight(key)
    if count > MOST_ALONG or octets > LARGEST_ALONG:
        most = f"at most {MOST_ALONG} of {LARGEST_ALONG >> 20} MiB together go along with it"
        raise InUseError(
            [("name", f"{count} grants of {octets / (1 << 20):.1f} MiB name {key}, revoke some first: {most}")]
        )
    using = store.using(key, MOST_ALONG)
    in_use = sum(_expires(each) > now for each in using)
    if in_use and not force:
        raise InUseError([("name", f"{in_use} grants name {key}: revoke them, or set force")])
    return [_let_go(store, each, key, now, who) for each in using]


def _let_go(store: PolicyStore, stored: Stored, key: Key, now: float, who: str) -> Written:
    grant = stored.item
    assert isinstance(grant, Grant)
    left = tuple(member for member in grant.members if key.kind == "group" and member != f"{names.GROUP}{key.name}")
    if not left or grant.expires <= now:
        store.remove(rows.key(grant))
        return Written(stored, None)
    item, version = dataclasses.replace(grant, members=left), stored.version + 1
    kept = stored._replace(item=item, version=version, updated=now, updater=who)
    store.put(kept)
    return Written(stored, kept)


def _expires(stored: Stored) -> float:
    assert isinstance(stored.item, Grant)
    return stored.item.expires


def _left_behind(stored: Stored) -> str:
    return f"grant {rows.key(stored.item).name!r} still names one that was deleted, revoke it first"


def _where(scope: str) -> str:
    return f" for as long, or with no more obligations, on {scope}" if scope else ""


def _note_fault(text: str) -> str:
    """What is wrong with a text of somebody's own, "" for nothing."""
    if len(text) > LONGEST_NOTE:
        return f"expected {LONGEST_NOTE} characters at most, got {len(text)}"
    if not text.replace("\n", " ").isprintable():
        return "expected printable characters and line breaks"
    return ""


def _scope(asked: Asked) -> Scope:
    return Scope(asked.caller.tenant, asked.caller.name, asked.method, asked.key)


def _new_id(now: float, random_bytes: Callable[[int], bytes]) -> str:
    """A UUIDv7. Source: RFC 9562, 5.7."""
    low = int.from_bytes(random_bytes(10))
    value = int(now * 1000) << 80 | 0x7 << 76 | (low >> 62 & 0xFFF) << 64 | 0b10 << 62 | low & (1 << 62) - 1
    return str(UUID(int=value))
