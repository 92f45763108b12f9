"""The proofs on an internal call: the relay's, of whom it calls for, and the helper's, that it is the helper.

A sealed call is a header of its own: caller, nonce and expiry in the clear, an HMAC-SHA256 over them and the method.
The answer begins with an HMAC over the same nonce and method, so that only who holds the key can have answered this
very call. Messages are not covered: that nobody stands between is what `peer` looks at.

Times are seconds of CLOCK_BOOTTIME, which the processes of one host share and nobody can step.
Sockets, clocks and randomness are not handled here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from interceptors.contract import Code, RawField
from interceptors.facts import DEFAULT_TENANT
from sidecar.errors import SidecarError

CALL_HEADER: Final = "x-langtrain-internal-bin"
PROOF_HEADER: Final = "x-langtrain-proof-bin"
KEY_SIZE: Final = 32  # bytes
NONCE_SIZE: Final = 16  # bytes
LIFE_S: Final = 5.0  # from sealing to expiry
LONGEST: Final = 8192  # bytes of a sealed call; a SPIFFE ID has 2048 at most
LONGEST_ROLES: Final = 1024  # bytes of all of a caller's roles

# One key, several meanings: each begins with a text of its own, so that none passes for another.
_CALL: Final = b"langtrain internal call 1"
_PROOF: Final = b"langtrain internal proof 1"
_TAG_SIZE: Final = hashlib.sha256().digest_size
_ROLE: Final = "\x1f"  # between names of roles, none of which has it
_EXPIRY: Final = struct.Struct(">Q")  # microseconds


class SealError(SidecarError):
    """An internal call, or its answer, that does not prove itself. why: stable, for the record."""

    code: ClassVar[Code] = Code.UNAUTHENTICATED
    public: ClassVar[str] = "internal call refused"
    wire_reason: ClassVar[str] = "INTERNAL_CALL_REFUSED"

    def __init__(self, why: str, problem: str) -> None:
        self.why = why
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a call is made for, as the relay identified them.

    kind, name: of the principal, "spiffe" and "spiffe://example.org/team/a"; both "" for nobody.
    source: the host they called from.
    roles: that whoever vouches for them asserts; none of them, where they take more than LONGEST_ROLES.
    """

    kind: str
    name: str
    tenant: str = DEFAULT_TENANT
    source: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedCall:
    """A call that proved itself. expires: seconds of CLOCK_BOOTTIME."""

    caller: Caller
    nonce: bytes
    expires: float


def seal(key: bytes, caller: Caller, method: str, nonce: bytes, now: float) -> bytes:
    """The value of CALL_HEADER for one call of `method`, "/package.Service/Method".

    nonce: NONCE_SIZE random bytes, of this call only: a call tried again is sealed again.
    """
    _check_key(key)
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"nonce is {len(nonce)} bytes, expected {NONCE_SIZE}")
    expiry = _EXPIRY.pack(int((now + LIFE_S) * 1_000_000))
    body = _joined([*(text.encode() for text in _texts(caller)), nonce, expiry])
    return body + _tag(key, _CALL, method, body)


def unseal(key: bytes, method: str, sealed: bytes, now: float) -> SealedCall:
    """Raises SealError. Whether its nonce came before is for `replays.Replays` to say."""
    _check_key(key)
    if len(sealed) > LONGEST:
        raise SealError("internal.malformed", f"a sealed call is {len(sealed)} bytes, the most are {LONGEST}")
    body, tag = sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:]
    if not hmac.compare_digest(tag, _tag(key, _CALL, method, body)):
        raise SealError("internal.forged", "a sealed call's MAC does not hold")
    # From here on it is what `seal` wrote.
    *texts, nonce, expiry = _parted(body, len(_texts(Caller("", ""))) + 2)
    expires = _EXPIRY.unpack(expiry)[0] / 1_000_000
    if not now < expires <= now + LIFE_S + 1:
        raise SealError("internal.expired", f"a sealed call holds until {expires:.3f}, now is {now:.3f}")
    kind, name, tenant, source, roles = (text.decode() for text in texts)
    return SealedCall(Caller(kind, name, tenant, source, tuple(roles.split(_ROLE)) if roles else ()), nonce, expires)


def prove(key: bytes, method: str, nonce: bytes) -> bytes:
    """The value of PROOF_HEADER for the answer to a call."""
    _check_key(key)
    return _tag(key, _PROOF, method, nonce)


def verify_reply(key: bytes, method: str, nonce: bytes, fields: Sequence[RawField]) -> None:
    """That the answer whose header fields these are came from who holds the key. Raises SealError.

    fields: as they stand on the wire, where binary values are base64.
    """
    proofs = [value for name, value in fields if name == PROOF_HEADER.encode()]
    if len(proofs) != 1:
        raise SealError("internal.unproved", f"an answer has {len(proofs)} proofs, expected 1")
    if not hmac.compare_digest(from_wire(proofs[0]), prove(key, method, nonce)):
        raise SealError("internal.unproved", "an answer's proof does not hold")


def field(sealed: bytes) -> RawField:
    """A sealed call as the header field that travels. PROTOCOL-HTTP2.md, "Binary-Header": base64 without padding."""
    return CALL_HEADER.encode(), b64encode(sealed).rstrip(b"=")


def from_wire(value: bytes) -> bytes:
    """The bytes of a binary header's value. Raises SealError."""
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except Base64Error:
        raise SealError("internal.malformed", "a binary header is not base64") from None


def _texts(caller: Caller) -> tuple[str, ...]:
    roles = _ROLE.join(caller.roles)
    return caller.kind, caller.name, caller.tenant, caller.source, roles if len(roles.encode()) <= LONGEST_ROLES else ""


def _tag(key: bytes, domain: bytes, method: str, body: bytes) -> bytes:
    return hmac.digest(key, _joined((domain, method.encode(), body)), "sha256")


def _joined(parts: Sequence[bytes]) -> bytes:
    """Parts one after the other, each behind its length: no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _parted(joined: bytes, count: int) -> list[bytes]:
    parts, at = [], 0
    for _ in range(count):
        size = int.from_bytes(joined[at : at + 4], "big")
        parts.append(joined[at + 4 : at + 4 + size])
        at += 4 + size
    return parts


def _check_key(key: bytes) -> None:
    if len(key) != KEY_SIZE:
        raise ValueError(f"key is {len(key)} bytes, expected {KEY_SIZE}")
