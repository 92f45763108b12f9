"""How a tenant gets its first administrator: a one-time credential is made, and claimed by somebody who is known.

Safe for many threads. A credential, the grant that it becomes and what is recorded of it are written together or not
at all, so it is good once, whoever asks at once and whatever is killed meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from interceptors.bounded import Bounded
from interceptors.events import Durability, Event
from sidecar.identity import bootstrap_model as model
from sidecar.identity.bootstrap_model import (
    KINDS,
    AdministeredError,
    ClaimantError,
    Credential,
    CredentialError,
    Record,
    TriesError,
)
from sidecar.identity.bootstrap_store_sql import BootstrapReading, BootstrapStore
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.internal.mac import Caller
from sidecar.logs import Log
from sidecar.state.outbox import Outbox
from sidecar.state.ports import Reading, Store, Transaction

log = Log("access")

KEY_FILE: Final = "one-time.key"  # beside the database: the key of credentials' hashes
ROLE: Final = "builtin.admin"
TRIES, PER_S = 5, 60.0  # of one caller
MOST_CALLERS: Final = 10_000  # whose tries are remembered


class Administrators(Protocol):
    """Who administers a tenant, and how somebody comes to."""

    def there(self, reading: Reading, tenant: str, now: float) -> bool:
        """Whether anybody may give others what they may do, anywhere in the tenant."""

    def has(self, reading: Reading, tenant: str, grant: str) -> bool:
        """Whether there is a grant."""

    def add(self, transaction: Transaction, claimed: Record) -> None:
        """Give the claimant ROLE on everything of the tenant, without an end, by a grant that `claimed` names."""


class Claimed(NamedTuple):
    record: Record
    again: bool


def make(
    outbox: Outbox, administrators: Administrators, hash_key: bytes, credential: Credential, wanted: Record
) -> None:
    """Put a credential in the place of those of its tenant that nobody has claimed. wanted: but for its hash.

    It is recorded by whoever opens the database next. Raises AdministeredError.
    """
    record = wanted._replace(hash=model.keyed_hash(credential, hash_key))

    def work(transaction: Transaction) -> None:
        store = BootstrapStore(transaction)
        there = administrators.there(transaction, record.tenant, record.made) or store.claimed(record.tenant)
        if there and not record.beside:
            raise AdministeredError(f"tenant {record.tenant} has or has had an administrator")
        store.replace(record)
        until = datetime.fromtimestamp(record.expires, UTC).isoformat(timespec="seconds")
        said = f"{record.id} until {until} by {record.maker}{', beside administrators' if there else ''}"
        outbox.put(
            transaction,
            Event("administrator.offered", record.made, Durability.COMMIT, record.tenant, reason=said),
        )

    outbox.commit(work)


class BootstrapDesk:
    """outbox: of the store.  key_file: of the hashes, read with each claim.  clock: Unix seconds."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        administrators: Administrators,
        key_file: Path,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._administrators = administrators
        self._key_file = key_file
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: Bounded[tuple[str, str], list[float]] = Bounded(MOST_CALLERS)

    def claim(self, caller: Caller, method: str, text: str) -> Record:
        """Raises ClaimantError, TriesError, CredentialError and AdministeredError."""
        now = self._clock()
        # A pattern as a member would give to everybody whom it reaches.
        if caller.kind not in KINDS or "*" in caller.name:
            raise ClaimantError(f"{caller.name!r} cannot be an administrator")
        self._count(caller, now)
        try:
            credential, hash_key = self._read(caller, text)
        except CredentialError as error:
            _log(caller, error)
            raise

        def work(transaction: Transaction) -> Claimed | CredentialError | AdministeredError:
            """What refuses is an outcome: what is raised would undo that it is recorded."""
            try:
                claimed = self._claim(transaction, caller, credential, hash_key, now)
            except (CredentialError, AdministeredError) as error:
                reason = error.reason if isinstance(error, CredentialError) else "administered"
                said = f"{credential.id}: {reason}"
                self._note(transaction, "administrator.refused", caller, method, said, now)
                return error
            if not claimed.again:
                it = claimed.record
                said = f"{it.grant}: {ROLE} on ** to {it.claimant}; by {it.id} of {it.maker}"
                self._note(transaction, "administrator.claimed", caller, method, said, now)
            return claimed

        outcome = self._outbox.write(work)
        if not isinstance(outcome, Claimed):
            _log(caller, outcome)
            raise outcome
        record = outcome.record
        if not outcome.again:
            log.warning("administrator_claimed", principal=caller.name, tenant=caller.tenant, grant=record.grant)
        return record

    def _read(self, caller: Caller, text: str) -> tuple[Credential, bytes]:
        """A credential that there is a record of, and the key of its hash.

        Raises CredentialError: whoever is known to some issuer may come with any text, and that costs no commit.
        """
        credential = model.parse(text)
        known = self._store.read(lambda reading: BootstrapReading(reading).get(credential.id))
        if known is None or known.tenant != caller.tenant or not self._key_file.exists():
            raise CredentialError("unknown")
        return credential, FileHashKeys(self._key_file).current.key

    def _claim(
        self, transaction: Transaction, caller: Caller, credential: Credential, hash_key: bytes, now: float
    ) -> Claimed:
        """Raises CredentialError and AdministeredError."""
        store = BootstrapStore(transaction)
        record = model.check(store.get(credential.id), credential, hash_key, caller.tenant, now)
        if record.claimed:
            # Whose answer was lost asks again; what was taken back is not given again.
            if record.claimant == caller.name and self._administrators.has(transaction, record.tenant, record.grant):
                return Claimed(record, True)
            raise CredentialError("used")
        if not record.beside and self._administrators.there(transaction, record.tenant, now):
            raise AdministeredError(f"tenant {record.tenant} has got an administrator meanwhile")
        record = record._replace(claimed=now, claimant=caller.name, grant=f"administrator-{record.id}")
        store.claim(record)
        self._administrators.add(transaction, record)
        return Claimed(record, False)

    def _count(self, caller: Caller, now: float) -> None:
        """A secret of 256 bits is not found by trying; this keeps those who try from filling the record."""
        who = caller.tenant, caller.name
        with self._lock:
            tries = [at for at in self._tries.get(who, ()) if now - PER_S < at <= now]
            if len(tries) >= TRIES:
                raise TriesError(f"{caller.name!r} has tried {TRIES} times within {PER_S:.0f} s")
            self._tries.keep(who, [*tries, now])

    def _note(self, transaction: Transaction, kind: str, caller: Caller, method: str, reason: str, now: float) -> None:
        self._outbox.put(
            transaction,
            Event(kind, now, Durability.COMMIT, caller.tenant, caller.name, caller.source, method, reason=reason),
        )


def _log(caller: Caller, error: CredentialError | AdministeredError) -> None:
    log.warning("claim_refused", principal=caller.name, tenant=caller.tenant, detail=str(error))
