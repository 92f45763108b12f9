"""The engine of the services process: as the store is whenever it is used, and what the config adds.

Safe for many threads, one after the other.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sidecar.policy import rows
from sidecar.policy.engine import Engine
from sidecar.policy.model import Item, Snapshot
from sidecar.policy.rows import KINDS, Key
from sidecar.policy.store_sql import PolicyReading
from sidecar.policy.validate import PolicyError
from sidecar.state.changes import Change, GapError
from sidecar.state.following import changes_after
from sidecar.state.ports import DEADLINE_S, Head, Reading, StateError, StateTimeoutError, Store

ALL_S: Final = 60.0  # for everything to be read
NOT_READ: Final = -1


class Live:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._engine = Engine()
        self._sequence = NOT_READ
        self._configured: dict[Key, Item] = {}  # that are in the engine
        self._wanted: dict[Key, Item] = {}  # that are to be
        self._counts: Counter[tuple[str, str]] = Counter()  # of the store's, by kind and tenant

    def configure(self, items: Iterable[Item]) -> None:
        """The config's own, in place of those before; their names are reserved, so that none is the store's.

        It waits for nobody: whoever uses the engine next has them.
        """
        self._wanted = {rows.key(item): item for item in items}

    def configured(self, kind: str, tenant: str) -> list[Item]:
        """By name."""
        found = self._wanted
        return [found[key] for key in sorted(found) if (key.kind, key.tenant) == (kind, tenant)]

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """For this thread alone, and as of now; its tables' sequence says of which change. Raises StateError."""
        if not self._lock.acquire(timeout=DEADLINE_S):
            raise StateTimeoutError("policies are read or looked through, and that takes long")
        try:
            self._catch_up()
            self._put_configured()
            yield self._engine
        finally:
            self._lock.release()

    def warm(self) -> None:
        """Read what there is, so that whoever asks first does not wait for it. Raises StateError."""
        with self.engine():
            pass

    def count(self, kind: str, tenant: str) -> int:
        """How many the store has, as of the last use of the engine."""
        return self._counts[kind, tenant]

    def _catch_up(self) -> None:
        if self._sequence == NOT_READ:
            self._read_all()
        try:
            for changes in changes_after(self._store, self._sequence):
                self._apply(changes)
        except GapError:
            self._read_all()

    def _read_all(self) -> None:
        def all_there_is(reading: Reading) -> tuple[Head, list[tuple[Key, bytes]]]:
            return reading.head(), list(PolicyReading(reading).bodies())

        head, found = self._store.read(all_there_is, ALL_S)
        engine = Engine(Snapshot(head.sequence))
        try:
            for key, body in found:
                engine.put(rows.decode(key.kind, body))
        except PolicyError as error:
            raise StateError(f"policies in the state cannot be read: {error}") from error
        self._engine, self._sequence, self._configured = engine, head.sequence, {}
        self._counts = Counter((key.kind, key.tenant) for key, _ in found)

    def _put_configured(self) -> None:
        wanted, there = self._wanted, self._configured
        for key in there.keys() - wanted.keys():
            self._engine.drop(KINDS[key.kind], key.tenant, key.name)
        for key, item in wanted.items():
            if there.get(key) != item:
                self._engine.put(item)
        self._configured = wanted

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.domain == rows.DOMAIN:
                try:
                    self._apply_one(rows.read_key(change.key), change.body)
                except (PolicyError, ValueError) as error:
                    self._sequence = NOT_READ
                    raise StateError(f"change {change.sequence} of policies cannot be read: {error}") from error
            self._sequence = self._engine.tables.sequence = change.sequence

    def _apply_one(self, key: Key, body: bytes) -> None:
        kind = KINDS[key.kind]
        there = self._engine.tables.get(kind, key.tenant, key.name) is not None
        if body:
            self._engine.put(rows.decode(key.kind, body))
        else:
            self._engine.drop(kind, key.tenant, key.name)
        self._counts[key.kind, key.tenant] += bool(body) - there
