"""The engines of the services process, one for each tenant that is asked about: as the store is whenever one is used,
and what the config adds.

Those that were not used for longest are let go of when all together take more than their budget. Reading a tenant's
things keeps nobody waiting but who asks about that tenant.
Safe for many threads, of which one at a time uses an engine.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from interceptors.facts import DEFAULT_TENANT
from sidecar.policy import rows
from sidecar.policy.engine import Engine
from sidecar.policy.model import Item, Snapshot
from sidecar.policy.rows import KINDS, Key
from sidecar.policy.store_sql import PolicyReading
from sidecar.policy.validate import PolicyError, breadth
from sidecar.state.changes import Change, GapError
from sidecar.state.following import changes_after
from sidecar.state.ports import DEADLINE_S, Head, Reading, StateError, StateTimeoutError, Store

ALL_S: Final = 60.0  # for everything to be read
NOT_READ: Final = -1
BUDGET: Final = 256 << 20  # bytes of all engines, as they are estimated
PER_ENGINE: Final = 16 << 10  # bytes, about: of one that has nothing
# Of something in it: by itself, for each byte that is kept of it, and for each place in an index.
PER_ITEM, PER_BYTE, PER_PLACE = 700, 2, 500


class _Held:
    """A tenant's engine. using: threads that use it, or wait to.  size: bytes, estimated."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.lock = threading.Lock()
        self.using = 0
        self.engine = Engine()
        self.sequence = NOT_READ
        self.size = PER_ENGINE
        self.counts: Counter[str] = Counter()  # of the store's, by kind
        self.configured: dict[Key, Item] = {}  # of the config's, that are in the engine


class Live:
    """budget: bytes. An engine that takes more than that by itself is held for as long as no other is asked for."""

    def __init__(self, store: Store, budget: int = BUDGET) -> None:
        self._store = store
        self._budget = budget
        self._lock = threading.Lock()  # over which engines are held: never while one is read
        self._held: OrderedDict[str, _Held] = OrderedDict()  # by tenant, the one used last at the end
        self._wanted: dict[Key, Item] = {}  # of the config's, that are to be in the engines

    def configure(self, items: Iterable[Item]) -> None:
        """The config's own, in place of those before; their names are reserved, so that none is the store's.

        It waits for nobody: whoever uses an engine next has them.
        """
        self._wanted = {rows.key(item): item for item in items}

    def configured(self, kind: str, tenant: str) -> list[Item]:
        """By name."""
        found = self._wanted
        return [found[key] for key in sorted(found) if (key.kind, key.tenant) == (kind, tenant)]

    @property
    def tenants(self) -> list[str]:
        """Whose engines are held, the one used last at the end."""
        with self._lock:
            return list(self._held)

    @contextmanager
    def engine(self, tenant: str) -> Iterator[Engine]:
        """For this thread alone, and as of now; its tables' sequence says of which change. Raises StateError."""
        with self._using(tenant) as held:
            yield held.engine

    def prepare(self, tenant: str) -> None:
        """Read what there is, so that whoever uses the engine next does not wait for it. Raises StateError."""
        with self._using(tenant):
            pass

    def warm(self) -> None:
        """Prepare what is held, or at first what will be asked for most likely. Raises StateError."""
        for tenant in self.tenants or [DEFAULT_TENANT]:
            self.prepare(tenant)

    @contextmanager
    def _using(self, tenant: str) -> Iterator[_Held]:
        held = self._take(tenant)
        try:
            if not held.lock.acquire(timeout=DEADLINE_S):
                raise StateTimeoutError(f"policies of tenant {tenant} are read or looked through, and that takes long")
            try:
                self._catch_up(held)
                self._put_configured(held)
                yield held
            finally:
                held.engine.forget()  # what was decided counts for nothing in the budget
                held.lock.release()
        finally:
            self._give_back(held)

    def count(self, kind: str, tenant: str) -> int:
        """How many the store has, for who uses the tenant's engine."""
        with self._lock:
            return self._held[tenant].counts[kind]

    def _take(self, tenant: str) -> _Held:
        with self._lock:
            held = self._held.get(tenant)
            if held is None:
                held = self._held[tenant] = _Held(tenant)
            self._held.move_to_end(tenant)
            held.using += 1
            return held

    def _give_back(self, held: _Held) -> None:
        with self._lock:
            held.using -= 1
            taken = sum(each.size for each in self._held.values())
            for each in list(self._held.values()):
                if taken <= self._budget:
                    break
                if not each.using and each is not held:
                    del self._held[each.tenant]
                    taken -= each.size

    def _catch_up(self, held: _Held) -> None:
        if held.sequence == NOT_READ:
            self._read_all(held)
        try:
            for changes in changes_after(self._store, held.sequence):
                self._apply(held, changes)
        except GapError:
            self._read_all(held)

    def _read_all(self, held: _Held) -> None:
        def all_there_is(reading: Reading) -> tuple[Head, list[tuple[Key, bytes]]]:
            return reading.head(), list(PolicyReading(reading).bodies(held.tenant))

        head, found = self._store.read(all_there_is, ALL_S)
        engine = Engine(Snapshot(head.sequence))
        size = PER_ENGINE
        try:
            for key, body in found:
                item = rows.decode(key.kind, body)
                engine.take(item)
                size += _size(item, body)
        except (PolicyError, ValueError) as error:
            raise StateError(f"policies in the state cannot be read: {error}") from error
        held.engine, held.sequence, held.configured, held.size = engine, head.sequence, {}, size
        held.counts = Counter(key.kind for key, _ in found)

    def _put_configured(self, held: _Held) -> None:
        wanted = {key: item for key, item in self._wanted.items() if key.tenant == held.tenant}
        there = held.configured
        for key in there.keys() - wanted.keys():
            held.engine.drop(KINDS[key.kind], key.tenant, key.name)
        for key, item in wanted.items():
            if there.get(key) != item:
                held.engine.put(item)
        held.configured = wanted

    def _apply(self, held: _Held, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.domain == rows.DOMAIN:
                try:
                    key = rows.read_key(change.key)
                    if key.tenant == held.tenant:
                        self._apply_one(held, key, change.body)
                except (PolicyError, ValueError) as error:
                    held.sequence = NOT_READ
                    raise StateError(f"change {change.sequence} of policies cannot be read: {error}") from error
            held.sequence = held.engine.tables.sequence = change.sequence

    def _apply_one(self, held: _Held, key: Key, body: bytes) -> None:
        kind = KINDS[key.kind]
        before = held.engine.tables.get(kind, key.tenant, key.name)
        if body:
            item = rows.decode(key.kind, body)
            held.engine.take(item)
            held.size += _size(item, body)
        else:
            held.engine.drop(kind, key.tenant, key.name)
        if before is not None:
            held.size -= _size(before, rows.encode(before))
        held.counts[key.kind] += bool(body) - (before is not None)


def _size(item: Item, body: bytes) -> int:
    return PER_ITEM + PER_BYTE * len(body) + PER_PLACE * breadth(item)
