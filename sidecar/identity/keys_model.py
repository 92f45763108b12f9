"""What is known of an API key, and when it is good. The form of the key itself is `api_keys`'."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from interceptors.contract import Code
from interceptors.ledger import Bucket
from sidecar.errors import SidecarError

NEVER: Final = float("inf")
PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}  # seconds
RATE: Final = re.compile(rf"([1-9][0-9]{{0,11}})/({'|'.join(PERIODS)})")
DUE_S: Final = 7 * 86400.0  # before a key expires, or a quarter of its life where that is less
# created, expires, overlap_ends, revoked, auto_rotate, whether there is a hash, the hash
NUMBERS: Final = Struct("<dddd??32s")
FIELD, ITEM = "\x1f", "\x1e"  # neither is printable
DOMAIN, KIND = "identity", "api_key"  # of its changes
KEYS, FILE = "api_keys", "api_keys_file"  # topics under which workers are told
SO = "api_keys_so"  # as of when they were told all, and when whoever tells began: seconds of CLOCK_BOOTTIME
USED = "api_keys_used"  # what workers hand in


class KeyNotFoundError(SidecarError):
    """There is no such key in this tenant."""

    code = Code.NOT_FOUND
    public = "no such API key"
    wire_reason = "API_KEY_NOT_FOUND"


class KeyStateError(SidecarError):
    """A key of that kind, but not as it is now."""

    code = Code.FAILED_PRECONDITION
    public = "not possible with this API key as it is"
    wire_reason = "API_KEY_STATE"


class NotOwnerError(SidecarError):
    """It is for the key's owner alone."""

    code = Code.PERMISSION_DENIED
    public = "only the owner of this API key may do that"
    wire_reason = "API_KEY_NOT_OWNER"


class KeyRecord(NamedTuple):
    """Times are Unix seconds.

    owner: a principal's name.  expires: NEVER for never.  rate: "1000/hour", "" for no limit.
    auto_rotate: a successor is prepared before it expires.
    line: the id of the first of the keys that succeeded each other; what is counted by key is counted by line, so that
    a rotation grants nothing.
    rotated_to: its successor's id, "" for none.  overlap_ends: when it ends for its successor's sake.
    revoked: when, 0 for not.  hash_key: the id of the key of its hash.  hash: b"" while nobody has the key.
    last_used: to COARSE_S, 0 for never; it is not of the record that workers have.
    """

    key_id: str
    tenant: str
    owner: str
    title: str
    permissions: tuple[str, ...]
    resources: tuple[str, ...]
    created: float
    expires: float
    rate: str
    auto_rotate: bool
    line: str
    rotated_to: str
    overlap_ends: float
    revoked: float
    hash_key: str
    hash: bytes
    last_used: float = 0.0

    @property
    def ends(self) -> float:
        return min(self.expires, self.overlap_ends)

    @property
    def due(self) -> float:
        """When a successor is to be prepared, NEVER for not by itself."""
        if not self.auto_rotate or not self.hash or self.rotated_to or self.revoked:
            return NEVER
        return self.expires - min(DUE_S, (self.expires - self.created) / 4)

    def unusable(self, now: float) -> str:
        """Why it proves nothing now, "" where it does; stable, for the record."""
        if not self.hash:
            return "identify.key_not_fetched"
        if self.revoked:
            return "identify.key_revoked"
        if now >= self.expires:
            return "identify.key_expired"
        if now >= self.overlap_ends:
            return "identify.key_rotated"
        return ""


@dataclass(frozen=True, slots=True)
class HashKey:
    """A key of keyed hashes. name: tells it from others, and nothing of it."""

    name: str
    key: bytes = field(repr=False)


def holder(record: KeyRecord) -> str:
    """The principal: after the first of keys that succeeded each other, so that a rotation changes nobody's name."""
    return f"key:{record.line}"


def bucket(rate: str) -> Bucket:
    """Raises ValueError for another form."""
    found = RATE.fullmatch(rate)
    if found is None:
        raise ValueError('expected a rate such as "1000/hour"')
    return Bucket(int(found[1]), PERIODS[found[2]], int(found[1]))


def encode(record: KeyRecord) -> bytes:
    """All but `last_used`, for workers. Raises ValueError for a text that is not printable."""
    texts = (*record[:4], *record.permissions, *record.resources, record.rate, record.line, record.rotated_to,
             record.hash_key)  # fmt: skip
    if not all(text.isprintable() for text in texts):
        raise ValueError(f"API key {record.key_id} has a text that is not printable")
    numbers = NUMBERS.pack(
        record.created,
        record.expires,
        record.overlap_ends,
        record.revoked,
        record.auto_rotate,
        bool(record.hash),
        record.hash,
    )
    lists = ITEM.join(record.permissions), ITEM.join(record.resources)
    tail = FIELD.join((*record[:4], *lists, record.rate, record.line, record.rotated_to, record.hash_key))
    return numbers + tail.encode()


def decode(octets: bytes) -> KeyRecord:
    """What `encode` made."""
    created, expires, overlap_ends, revoked, auto_rotate, known, digest = NUMBERS.unpack_from(octets)
    texts = octets[NUMBERS.size :].decode().split(FIELD)
    key_id, tenant, owner, title, permissions, resources, rate, line, rotated_to, hash_key = texts
    return KeyRecord(
        key_id,
        tenant,
        owner,
        title,
        tuple(permissions.split(ITEM)),
        tuple(resources.split(ITEM)) if resources else (),
        created,
        expires,
        rate,
        auto_rotate,
        line,
        rotated_to,
        overlap_ends,
        revoked,
        hash_key,
        digest if known else b"",
    )
