"""What was answered already: who asks again under the same key is answered the same, and nothing is done twice.

A record is written by the transaction that does what was asked. It never holds a secret: whoever answers one writes
down the answer without it, for a secret that is shown once is not shown again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from interceptors.contract import Code
from sidecar.errors import RequestError, SidecarError
from sidecar.state.ports import Reading, Transaction

LONGEST_KEY: Final = 128  # characters
LARGEST: Final = 64 << 10  # bytes of an answer
KEEP_S: Final = 24 * 3600.0
DIGEST: Final = 32  # bytes


class IdempotencyError(SidecarError):
    """The key was used for another request."""

    code = Code.INVALID_ARGUMENT
    public = "the idempotency key was used for another request"
    wire_reason = "IDEMPOTENCY_KEY_REUSED"


class Scope(NamedTuple):
    """Whose key it is, and for what. caller: the principal's name.  method: the full one."""

    tenant: str
    caller: str
    method: str
    key: str


def recall(reading: Reading, scope: Scope, digest: bytes, now: float) -> bytes | None:
    """The answer, None where there was none. digest: SHA-256 of the request without its key.  now: Unix seconds.

    Raises IdempotencyError, and RequestError for a key of another form.
    """
    _check(scope, digest)
    found = reading.row(
        "SELECT digest, response FROM idempotency"
        " WHERE tenant = ? AND caller = ? AND method = ? AND key = ? AND expires > ?",
        *scope,
        now,
    )
    if found is None:
        return None
    known, response = found
    if known != digest:
        raise IdempotencyError(f"idempotency key of {scope.method} was used for another request")
    return bytes(response)


def remember(
    transaction: Transaction, scope: Scope, digest: bytes, response: bytes, now: float, keep_s: float = KEEP_S
) -> None:
    """response: without any secret. In the transaction in which `recall` found none."""
    _check(scope, digest)
    if len(response) > LARGEST:
        raise ValueError(f"answer of {scope.method} to be kept has {len(response)} bytes, expected at most {LARGEST}")
    transaction.run(
        "DELETE FROM idempotency WHERE tenant = ? AND caller = ? AND method = ? AND key = ? AND expires <= ?",
        *scope,
        now,
    )
    transaction.run(
        "INSERT INTO idempotency (tenant, caller, method, key, digest, response, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
        *scope,
        digest,
        response,
        now + keep_s,
    )


def forget(transaction: Transaction, now: float) -> int:
    """Drop what is not kept any longer; how many."""
    return transaction.run("DELETE FROM idempotency WHERE expires <= ?", now)


def _check(scope: Scope, digest: bytes) -> None:
    if not (0 < len(scope.key) <= LONGEST_KEY and scope.key.isascii() and scope.key.isprintable()):
        raise RequestError([("idempotency_key", f"expected 1 to {LONGEST_KEY} printable ASCII characters")])
    if len(digest) != DIGEST:
        raise ValueError(f"digest has {len(digest)} bytes, expected {DIGEST}")
