"""What is known of a revocation: a token, all tokens of somebody, or a client certificate that is taken back."""

from __future__ import annotations

import json
from hashlib import sha256
from sys import intern
from typing import Final, NamedTuple

from interceptors.contract import Code
from interceptors.facts import DEFAULT_TENANT
from sidecar.errors import SidecarError

NEVER: Final = float("inf")
DOMAIN, KIND = "identity", "revocation"  # of its changes
TOPIC: Final = "revocations"  # under which workers are told
SO: Final = "revocations_so"  # as of when they were told all: seconds of CLOCK_BOOTTIME

TOKEN: Final = "token"  # noqa: S105 - by the SHA-256 of what is signed of it
TOKEN_ID: Final = "token_id"  # noqa: S105 - by `iss` and `jti`
PRINCIPAL: Final = "principal"  # all tokens of somebody
ISSUER: Final = "issuer"  # all tokens of an issuer
CERTIFICATE: Final = "certificate"  # by the SHA-256 of its DER form
CERTIFICATE_ID: Final = "certificate_id"  # by its issuer's name and its serial number
CERTIFICATES: Final = frozenset((CERTIFICATE, CERTIFICATE_ID))


class RevocationsFullError(SidecarError):
    """There are so many already that workers could not hold more."""

    code = Code.RESOURCE_EXHAUSTED
    public = "too many revocations are in force; revoke all tokens of a principal or an issuer, or let some expire"
    wire_reason = "REVOCATIONS_FULL"


class OtherTenantError(SidecarError):
    """Certificates are nobody's but the default tenant's."""

    code = Code.PERMISSION_DENIED
    public = "only callers of the default tenant revoke certificates"
    wire_reason = "REVOCATION_TENANT"


class Subject(NamedTuple):
    """What is revoked. issuer: a token's `iss`, or the name of a certificate's issuer, "" where the name says it all.

    name: by kind: SHA-256 in hex, `jti`, principal, "", SHA-256 in hex, serial number in hex.
    """

    kind: str
    issuer: str
    name: str


class Revocation(NamedTuple):
    """tenant: in which it revokes, DEFAULT_TENANT for every one.  issued_before: Unix seconds, NEVER for any token.

    revoked: when.  expires: when what it revokes ends by itself, NEVER where that is not known.  revoker: who asked.
    """

    tenant: str
    subject: Subject
    issued_before: float
    revoked: float
    expires: float
    revoker: str
    reason: str

    @property
    def id(self) -> str:
        """The same for the same subject and tenant."""
        return sha256("\n".join((self.tenant, *self.subject)).encode()).hexdigest()[:32]


class Told(NamedTuple):
    """What workers are told of one."""

    tenant: str
    subject: Subject
    issued_before: float


def encode(revocation: Revocation) -> bytes:
    """For workers."""
    return json.dumps([revocation.tenant, *revocation.subject, revocation.issued_before]).encode()


def decode(octets: bytes) -> Told:
    """What `encode` made. Of texts that many share there is one."""
    tenant, kind, issuer, name, issued_before = json.loads(octets)
    return Told(intern(tenant), Subject(intern(kind), intern(issuer), name), issued_before)


def scopes(tenant: str) -> tuple[str, ...]:
    """The tenants in whose name something of this one may be revoked."""
    return (tenant,) if tenant == DEFAULT_TENANT else (DEFAULT_TENANT, tenant)
