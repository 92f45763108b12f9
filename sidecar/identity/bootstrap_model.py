"""One-time credentials, by which a tenant gets its first administrator: their form, and what is kept of one.

    lto_ 4Zk2hJm8QwEr _ q7…43 characters…Xb 0aB3dE

As API keys are, so that scanners know one and a typing error costs no look-up. It says nothing of who brings it, and
is no way to be known: whoever claims it is known by something else.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.identity.api_keys import CHECK, ID, SECRET, checksum, random_text

PREFIX: Final = "lto_"
LIFETIME_S: Final = 3600.0
SHORTEST_S, LONGEST_S = 60.0, 86400.0
KINDS: Final = frozenset(("spiffe", "dns", "cn", "user"))  # of principals that may become administrators
_FORM: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{ID}}})_([0-9A-Za-z]{{{SECRET}}})([0-9A-Za-z]{{{CHECK}}})")
_LABEL: Final = "langtrain one-time credential\n"


class CredentialError(SidecarError):
    """What was presented is good for nothing, or not for this caller. reason: stable, for the record."""

    code = Code.PERMISSION_DENIED
    public = "credential is not valid"
    wire_reason = "CREDENTIAL_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ClaimantError(SidecarError):
    """Whoever asks cannot be an administrator."""

    code = Code.PERMISSION_DENIED
    public = "an administrator is known by a certificate or a token, under a name without *"
    wire_reason = "CLAIMANT_UNFIT"


class AdministeredError(SidecarError):
    """The tenant has an administrator, or has had one by a credential, and the credential is not for such a one."""

    code = Code.FAILED_PRECONDITION
    public = "the tenant has or has had an administrator"
    wire_reason = "ADMINISTRATOR_EXISTS"


class TriesError(SidecarError):
    """The caller has tried too often of late."""

    code = Code.RESOURCE_EXHAUSTED
    public = "too many tries; wait a minute"
    wire_reason = "CLAIM_TRIES"


class Credential(NamedTuple):
    """As its holder has it. text: all of it, shown once."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        said = f"{PREFIX}{self.id}_{self.secret}"
        return said + checksum(said)


class Record(NamedTuple):
    """What is kept. Times are Unix seconds.

    maker: who has made it, for people.  beside: whether it is good in a tenant that has an administrator.
    claimed: 0 for not.  claimant: name of the principal.  grant: id of what he got.
    """

    id: str
    tenant: str
    hash: bytes
    made: float
    expires: float
    maker: str
    beside: bool
    claimed: float = 0.0
    claimant: str = ""
    grant: str = ""


def new(random_bytes: Callable[[int], bytes]) -> Credential:
    """random_bytes: as os.urandom."""
    return Credential(random_text(random_bytes, ID), random_text(random_bytes, SECRET))


def parse(text: str) -> Credential:
    """Raises CredentialError for another form, and where the checksum is not that of the rest."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise CredentialError("malformed")
    if checksum(text[:-CHECK]) != found[3]:
        raise CredentialError("checksum")
    return Credential(found[1], found[2])


def keyed_hash(credential: Credential, hash_key: bytes) -> bytes:
    """What is kept: 32 bytes. The secret has 256 bits of its own."""
    return hmac.digest(hash_key, f"{_LABEL}{credential.id}_{credential.secret}".encode("ascii"), "sha256")


def check(record: Record | None, credential: Credential, hash_key: bytes, tenant: str, now: float) -> Record:
    """The record, where the credential is it, is of the tenant, and was claimed or still can be.

    Raises CredentialError. How much of a secret matches, the time does not tell.
    """
    kept = record.hash if record is not None else bytes(32)
    matches = hmac.compare_digest(keyed_hash(credential, hash_key), kept)
    if record is None or record.tenant != tenant:
        raise CredentialError("unknown")
    if not matches:
        raise CredentialError("secret")
    if not record.claimed and now >= record.expires:
        raise CredentialError("expired")
    return record
