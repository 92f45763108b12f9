"""API keys for whoever may manage them: `keys` within the store's transactions, recorded before it is answered.

Safe for many threads. That the caller may do what is asked is settled before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from interceptors.events import Durability, Event
from sidecar.identity import keys
from sidecar.identity.keys import Made, Page, RandomBytes, Wanted
from sidecar.identity.keys_model import KeyRecord
from sidecar.identity.keys_ports import HashKeys, KeysStore
from sidecar.identity.keys_store_sql import SqlKeysReading, SqlKeysStore
from sidecar.internal.mac import Caller
from sidecar.state import idempotency
from sidecar.state.idempotency import Scope
from sidecar.state.outbox import Outbox
from sidecar.state.ports import Store, Transaction

T = TypeVar("T")
PREPARE_MOST: Final = 1_000


class Asked(NamedTuple):
    """Who asks for what. key: of idempotency, "" for none.  digest: SHA-256 of the request without it."""

    caller: Caller
    method: str
    key: str = ""
    digest: bytes = b""


class Given(NamedTuple):
    """text: of the key, "" where this was answered before, for it is shown once."""

    record: KeyRecord
    text: str


class KeyDesk:
    """outbox: of the store.  clock: Unix seconds.  random_bytes: as os.urandom."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        hash_keys: HashKeys,
        clock: Callable[[], float],
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._hash_keys = hash_keys
        self._clock = clock
        self._random_bytes = random_bytes

    def create(self, asked: Asked, wanted: Wanted, lifetime_s: float) -> Given:
        """wanted: but for its `expires`, which is `lifetime_s` from now, NEVER for never."""

        def make(store: KeysStore) -> Made:
            now = self._clock()
            timed = wanted._replace(expires=now + lifetime_s)
            return keys.create(store, timed, self._hash_keys.current, now, self._random_bytes)

        return self._make(asked, "api_key.created", make)

    def rotate(self, asked: Asked, key_id: str, overlap_s: float) -> Given:
        def make(store: KeysStore) -> Made:
            tenant, current = asked.caller.tenant, self._hash_keys.current
            return keys.rotate(store, tenant, key_id, overlap_s, current, self._clock(), self._random_bytes)

        return self._make(asked, "api_key.rotated", make)

    def fetch(self, asked: Asked, key_id: str, overlap_s: float) -> Given:
        def make(store: KeysStore) -> Made:
            caller, current = asked.caller, self._hash_keys.current
            return keys.fetch(
                store, caller.tenant, key_id, caller.name, overlap_s, current, self._clock(), self._random_bytes
            )

        return self._make(asked, "api_key.fetched", make)

    def get(self, asked: Asked, key_id: str) -> KeyRecord:
        return self._store.read(lambda reading: keys.get(SqlKeysReading(reading), asked.caller.tenant, key_id))

    def page(self, asked: Asked, owner: str, after: str, most: int) -> Page:
        tenant = asked.caller.tenant
        return self._store.read(lambda reading: keys.page(SqlKeysReading(reading), tenant, owner, after, most))

    def revoke(self, asked: Asked, key_id: str, successors: bool) -> list[KeyRecord]:
        def work(transaction: Transaction) -> list[KeyRecord]:
            store, tenant = SqlKeysStore(transaction), asked.caller.tenant
            revoked = keys.revoke(store, tenant, key_id, self._clock(), successors=successors)
            for record in revoked:
                self._note(transaction, asked, "api_key.revoked", record)
            return revoked

        return self._outbox.write(work)

    def prepare_due(self) -> list[KeyRecord]:
        """Prepare successors of keys that are about to expire; what `fetch` then gives to their owners."""

        def work(transaction: Transaction) -> list[KeyRecord]:
            now = self._clock()
            prepared = keys.prepare_due(SqlKeysStore(transaction), now, PREPARE_MOST, self._random_bytes)
            for record in prepared:
                event = Event("api_key.due", now, Durability.COMMIT, record.tenant, reason=record.key_id)
                self._outbox.put(transaction, event)
            return prepared

        return self._outbox.write(work)

    def touch(self, used: dict[str, float]) -> None:
        self._store.write(lambda transaction: keys.touch(SqlKeysStore(transaction), used))

    def _make(self, asked: Asked, kind: str, make: Callable[[KeysStore], Made]) -> Given:
        scope = Scope(asked.caller.tenant, asked.caller.name, asked.method, asked.key)

        def work(transaction: Transaction) -> Given:
            store = SqlKeysStore(transaction)
            if asked.key:
                known = idempotency.recall(transaction, scope, asked.digest, self._clock())
                if known is not None:
                    return Given(keys.get(store, scope.tenant, known.decode()), "")
            made = make(store)
            self._note(transaction, asked, kind, made.record)
            if asked.key:
                key_id = made.record.key_id.encode()
                idempotency.remember(transaction, scope, asked.digest, key_id, self._clock())
            return Given(made.record, made.key.text)

        return self._outbox.write(work)

    def _note(self, transaction: Transaction, asked: Asked, kind: str, record: KeyRecord) -> None:
        caller = asked.caller
        event = Event(
            kind, self._clock(), Durability.COMMIT, caller.tenant, caller.name, caller.source, asked.method,
            reason=f"{record.key_id} of {record.owner}",
        )  # fmt: skip
        self._outbox.put(transaction, event)
