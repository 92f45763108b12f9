"""What is done with API keys: pure, within the transaction of a `KeysStore`.

A key is shown once, when it is made. Rotation makes a successor with a secret of its own, and lets the predecessor go
on for an overlap, never beyond its own expiry. Automatic rotation cannot tell a holder its new key, and nothing here
keeps a key that could be told later: so when it is due a successor is prepared that has no secret yet and proves
nothing, and the owner, who learns of it from the list or the audit trail, fetches it by a call of their own. Its secret
is made at that moment. Whoever does not fetch it finds that the key ends when it was said to end: nothing is extended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from sidecar.errors import RequestError
from sidecar.identity import api_keys
from sidecar.identity.api_keys import ApiKey
from sidecar.identity.keys_model import (
    NEVER,
    HashKey,
    KeyNotFoundError,
    KeyRecord,
    KeyStateError,
    NotOwnerError,
    bucket,
)
from sidecar.identity.keys_ports import KeysReading, KeysStore

LONGEST: Final = 256  # characters of a name, a title, a pattern
MOST_PATTERNS: Final = 64
MOST_PAGE: Final = 1_000
LONGEST_OVERLAP_S: Final = 30 * 86400.0
LAST: Final = 253_402_300_799.0  # Unix seconds: the end of the year 9999, beyond which no Timestamp may be
COARSE_S: Final = 300.0
KEY_ID: Final = re.compile(rf"[0-9A-Za-z]{{{api_keys.ID}}}")
PERMISSION: Final = re.compile(r"\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?")
RESOURCE: Final = re.compile(r"[^\s/\x00-\x20\x7f-\x9f]+(/[^\s/\x00-\x20\x7f-\x9f]+)*")

RandomBytes = Callable[[int], bytes]


class Wanted(NamedTuple):
    """A key that is asked for; as of `KeyRecord`."""

    tenant: str
    owner: str
    permissions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    title: str = ""
    expires: float = NEVER
    rate: str = ""
    auto_rotate: bool = False


class Made(NamedTuple):
    """key: shown to whoever asked for it, and then forgotten."""

    record: KeyRecord
    key: ApiKey


class Page(NamedTuple):
    """after: where the next begins, "" after the last."""

    records: list[KeyRecord]
    after: str


def create(store: KeysStore, wanted: Wanted, hash_key: HashKey, now: float, random_bytes: RandomBytes) -> Made:
    """now: Unix seconds.  random_bytes: as os.urandom. Raises RequestError for every fault of what is wanted at once.

    Whether whoever asks may grant what the key is permitted is not decided here.
    """
    if faults := _faults(wanted, now):
        raise RequestError(faults)
    key = api_keys.new(random_bytes)
    record = KeyRecord(
        key.key_id,
        wanted.tenant,
        wanted.owner,
        wanted.title,
        wanted.permissions,
        wanted.resources,
        now,
        wanted.expires,
        wanted.rate,
        wanted.auto_rotate,
        line=key.key_id,
        rotated_to="",
        overlap_ends=NEVER,
        revoked=0.0,
        hash_key=hash_key.name,
        hash=api_keys.keyed_hash(key, hash_key.key),
    )
    store.add(record)
    return Made(record, key)


def get(store: KeysReading, tenant: str, key_id: str) -> KeyRecord:
    """Raises KeyNotFoundError, for a key of another tenant as well."""
    record = store.get(key_id) if KEY_ID.fullmatch(key_id) else None
    if record is None or record.tenant != tenant:
        raise KeyNotFoundError(f"tenant {tenant} has no API key {key_id[:LONGEST]!r}")
    return record


def page(store: KeysReading, tenant: str, owner: str = "", after: str = "", most: int = MOST_PAGE) -> Page:
    """By id. owner: "" for anyone's.  after: of the page before. Raises RequestError."""
    faults = [("page_token", "expected that of the answer before")] if after and not KEY_ID.fullmatch(after) else []
    if len(owner) > LONGEST or not owner.isprintable():
        faults.append(("owner", f"expected up to {LONGEST} printable characters"))
    if faults:
        raise RequestError(faults)
    most = min(max(most, 1), MOST_PAGE)
    records = store.page(tenant, owner, after, most + 1)
    return Page(records[:most], records[most - 1].key_id if len(records) > most else "")


def revoke(store: KeysStore, tenant: str, key_id: str, now: float, *, successors: bool) -> list[KeyRecord]:
    """Revoke a key, for good; those that were not revoked before, as they are now.

    successors: whether those that it was rotated to are revoked as well, as whoever has stolen a key may have them. One
    that nobody has fetched always is.
    """
    record: KeyRecord | None = get(store, tenant, key_id)
    revoked: list[KeyRecord] = []
    while record is not None:
        if not record.revoked:
            record = record._replace(revoked=now)
            store.replace(record)
            revoked.append(record)
        successor = store.get(record.rotated_to) if record.rotated_to else None
        record = successor if successor is not None and (successors or not successor.hash) else None
    return revoked


def rotate(
    store: KeysStore,
    tenant: str,
    key_id: str,
    overlap_s: float,
    hash_key: HashKey,
    now: float,
    random_bytes: RandomBytes,
) -> Made:
    """A successor for as long as the key was made for, with all that it may; the key goes on for `overlap_s`.

    Raises KeyNotFoundError, KeyStateError for a key that is not good any more or has a successor, and RequestError.
    """
    if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
        raise RequestError([("overlap", f"expected 0 to {LONGEST_OVERLAP_S:.0f} seconds")])
    record = get(store, tenant, key_id)
    if why := record.unusable(now):
        raise KeyStateError(f"API key {key_id} cannot be rotated: {why}")
    prepared = store.get(record.rotated_to) if record.rotated_to else None
    if record.rotated_to and (prepared is None or prepared.hash or prepared.revoked):
        raise KeyStateError(f"API key {key_id} was rotated to {record.rotated_to}")
    secret = api_keys.new(random_bytes)
    key = ApiKey(prepared.key_id, secret.secret) if prepared else secret
    successor = (prepared or _successor(record, key.key_id))._replace(
        created=now,
        expires=_lasting(record, now),
        hash_key=hash_key.name,
        hash=api_keys.keyed_hash(key, hash_key.key),
    )
    if prepared:
        store.replace(successor)
    else:
        store.add(successor)
    store.replace(record._replace(rotated_to=key.key_id, overlap_ends=now + overlap_s))
    return Made(successor, key)


def fetch(
    store: KeysStore,
    tenant: str,
    key_id: str,
    by: str,
    overlap_s: float,
    hash_key: HashKey,
    now: float,
    random_bytes: RandomBytes,
) -> Made:
    """The successor that was prepared for the key `key_id`, for its owner. by: the caller's principal.

    Raises NotOwnerError, KeyStateError where none is prepared, and as `rotate`.
    """
    record = get(store, tenant, key_id)
    if by != record.owner:
        raise NotOwnerError(f"API key {key_id} is {record.owner}'s, not {by}'s")
    if not record.rotated_to:
        raise KeyStateError(f"API key {key_id} has no successor to be fetched")
    return rotate(store, tenant, key_id, overlap_s, hash_key, now, random_bytes)


def prepare_due(store: KeysStore, now: float, most: int, random_bytes: RandomBytes) -> list[KeyRecord]:
    """Prepare successors of keys that are due, up to `most`; the keys, whose owners are to be told."""
    prepared: list[KeyRecord] = []
    for record in store.due(now, most):
        successor = _successor(record, api_keys.new(random_bytes).key_id)._replace(created=now)
        store.add(successor)
        store.replace(record._replace(rotated_to=successor.key_id))
        prepared.append(record._replace(rotated_to=successor.key_id))
    return prepared


def touch(store: KeysStore, used: Mapping[str, float]) -> None:
    """used: Unix seconds by key id, as workers have gathered them. An id that is none counts for nothing."""
    store.touch({key_id: at - at % COARSE_S for key_id, at in used.items()})


def _lasting(record: KeyRecord, now: float) -> float:
    """Until when a successor is good that begins now."""
    return NEVER if record.expires == NEVER else min(now + (record.expires - record.created), LAST)


def _successor(record: KeyRecord, key_id: str) -> KeyRecord:
    """One that nobody has yet. It ends with its predecessor, unless it is fetched."""
    return record._replace(key_id=key_id, rotated_to="", overlap_ends=NEVER, hash=b"", last_used=0.0)


def _faults(wanted: Wanted, now: float) -> list[tuple[str, str]]:
    faults = [
        (name, f"expected 1 to {LONGEST} printable characters")
        for name, value in (("tenant", wanted.tenant), ("owner", wanted.owner))
        if not 0 < len(value) <= LONGEST or not value.isprintable()
    ]
    if len(wanted.title) > LONGEST or not wanted.title.isprintable():
        faults.append(("title", f"expected up to {LONGEST} printable characters"))
    if not wanted.permissions:
        faults.append(("permissions", "expected one or more: without any, a key is for nothing"))
    faults += _pattern_faults("permissions", wanted.permissions, PERMISSION, '"models.inference", "models.*" or "*"')
    faults += _pattern_faults("resources", wanted.resources, RESOURCE, 'a resource such as "models/fraud-*"')
    home = f"tenants/{wanted.tenant}/"
    faults += [
        (f"resources[{at}]", f"{text!r} is of another tenant, expected {home}…")
        for at, text in enumerate(wanted.resources)
        if text.startswith("tenants/") and not text.startswith(home)
    ]
    if not wanted.expires > now:
        faults.append(("expires", "is past, expected a time to come"))
    elif LAST < wanted.expires < NEVER:
        faults.append(("expires", "is beyond the year 9999, expected an earlier time, or none for never"))
    if wanted.auto_rotate and wanted.expires == NEVER:
        faults.append(("auto_rotate", "a key that never expires is not rotated by itself; expected expires"))
    if wanted.rate:
        try:
            bucket(wanted.rate)
        except ValueError as error:
            faults.append(("rate", f"{error}, came {wanted.rate[:LONGEST]!r}"))
    return faults


def _pattern_faults(name: str, texts: Sequence[str], form: re.Pattern[str], expected: str) -> list[tuple[str, str]]:
    if len(texts) > MOST_PATTERNS:
        return [(name, f"{len(texts)} of them, expected at most {MOST_PATTERNS}")]
    return [
        (f"{name}[{at}]", f"expected {expected}, came {text[:LONGEST]!r}")
        for at, text in enumerate(texts)
        if len(text) > LONGEST or not text.isprintable() or form.fullmatch(text) is None
    ]
