"""What the audit trail says of a change: which thing, its versions before and after, and what it was and is.

In JSON, so that no name can be taken for two. It holds all of the thing, which is bounded where it is kept, for what
is cut off is where somebody would hide a member.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, NamedTuple

from interceptors.events import Durability, Event
from sidecar.policy import rows
from sidecar.policy.asked import Asked
from sidecar.policy.store_sql import Stored

# Kinds of events: of what is made, of what is changed, of what is gone.
CREATED: Final = {
    "role": "role.created", "group": "group.created", "grant": "grant.created", "policy": "policy.created",
}  # fmt: skip
UPDATED: Final = {
    "role": "role.updated", "group": "group.updated", "grant": "grant.updated", "policy": "policy.updated",
}  # fmt: skip
GONE: Final = {"role": "role.deleted", "group": "group.deleted", "grant": "grant.revoked", "policy": "policy.deleted"}


class Written(NamedTuple):
    """One thing as it was and as it is; None where there is none."""

    before: Stored | None
    after: Stored | None

    @property
    def stored(self) -> Stored:
        """As it is, or was."""
        stored = self.after or self.before
        assert stored is not None
        return stored


def event(asked: Asked, written: Written, now: float, reason: str = "", lost: str = "") -> Event:
    """reason: of whoever asked.  lost: what he loses by it, "" for nothing.  now: Unix seconds."""
    kinds = GONE if written.after is None else CREATED if written.before is None else UPDATED
    caller, key = asked.caller, rows.key(written.stored.item)
    return Event(
        kinds[key.kind], now, Durability.COMMIT, caller.tenant, caller.name, caller.source, asked.method,
        reason=said(written, reason, lost),
    )  # fmt: skip


def said(written: Written, reason: str = "", lost: str = "") -> str:
    """A JSON object of

    kind, name             of the thing; a grant's name is its id
    before, after          its versions; 0 for none
    changed                names of what is another, of a change
    now, now_sha256        what it is, and the SHA-256 of that as compact JSON; of what is gone was, was_sha256
    was_sha256             of what it was: the now_sha256 of the record before
    reason                 whoever asked gave, if any
    lockout                what he loses by it and allowed to be lost, if anything
    """
    before, after = written.before, written.after
    key = rows.key(written.stored.item)
    told: dict[str, Any] = {
        "kind": key.kind,
        "name": key.name,
        "before": before.version if before else 0,
        "after": after.version if after else 0,
    }
    if before and after:
        was, now = _content(before), _content(after)
        told["changed"] = sorted(name for name in was | now if was.get(name) != now.get(name))
    if after:
        told |= {"now": _content(after), "now_sha256": _digest(after)}
    if before:
        told |= {"was_sha256": _digest(before)} if after else {"was": _content(before), "was_sha256": _digest(before)}
    if reason:
        told["reason"] = reason
    if lost:
        told["lockout"] = lost
    return json.dumps(told, separators=(",", ":"))


def _content(stored: Stored) -> dict[str, Any]:
    """All that it says, but for its name, tenant and version."""
    told = rows.plain(stored.item)
    for name in ("id", "name", "tenant", "version"):
        told.pop(name, None)
    return told | ({"description": stored.description} if stored.description else {})


def _digest(stored: Stored) -> str:
    return hashlib.sha256(json.dumps(_content(stored), separators=(",", ":")).encode()).hexdigest()
