"""The log of changes, for those who follow: what changed after what they know, in the order in which it was written.

Who is too far behind, or knows of changes that this database has not, begins again with all there is, of one `Reading`
and as of its `head`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.state.ports import Reading, Transaction

MOST: Final = 1_000  # at a time


class GapError(SidecarError):
    """What was asked for is not in the log: begin again with a snapshot."""

    code = Code.OUT_OF_RANGE
    public = "changes are not kept any more"
    wire_reason = "STATE_CHANGES_GAP"


class Change(NamedTuple):
    """key: of what has changed.  body: as its domain spells it; b"" where it is gone.  at: Unix seconds."""

    sequence: int
    domain: str
    kind: str
    key: str
    body: bytes
    at: float


def changes_since(reading: Reading, sequence: int, most: int = MOST) -> list[Change]:
    """The first of those after `sequence`, without a gap; none where there are none yet. Raises GapError."""
    head = reading.head()
    if not head.compacted <= sequence <= head.sequence:
        raise GapError(f"changes after {sequence} are asked for, and {head.compacted} to {head.sequence} are there")
    rows = reading.rows(
        "SELECT sequence, domain, kind, key, body, at FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?",
        sequence,
        most,
    )
    return [Change(*row) for row in rows]


def compact(transaction: Transaction, keep: int) -> int:
    """Drop all but the last `keep`; how many. Nobody is to need those who has not taken a snapshot since."""
    head = transaction.head()
    below = max(head.compacted, head.sequence - keep)
    transaction.run("UPDATE head SET compacted = ?", below)
    return transaction.run("DELETE FROM changes WHERE sequence <= ?", below)
