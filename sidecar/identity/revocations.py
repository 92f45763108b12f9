"""What is done with revocations: pure, within the transaction of a `RevocationsStore`; and what may be revoked.

Each function that names a subject says with RequestError which field of the request is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from interceptors import distinguished
from interceptors.distinguished import DistinguishedNameError
from interceptors.facts import DEFAULT_TENANT
from sidecar.errors import RequestError
from sidecar.identity import jws
from sidecar.identity.api_keys import PREFIX
from sidecar.identity.jws import TokenError
from sidecar.identity.model import SKEW_S
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATE_ID,
    ISSUER,
    NEVER,
    PRINCIPAL,
    TOKEN,
    TOKEN_ID,
    Revocation,
    RevocationsFullError,
    Subject,
)

MOST: Final = 25_000  # in force: each worker holds them all
MOST_OF_OTHERS: Final = 20_000  # in force, from which on only the default tenant, which revokes in all, adds to them
MOST_OF_ONE: Final = 5_000  # of one of those
MOST_PAGE: Final = 1_000
LONGEST: Final = 256  # characters of a name, a reason
LONGEST_ISSUER: Final = 1_024  # characters of a certificate's issuer
LONGEST_PEM: Final = 64 << 10  # characters
LATEST: Final = 253_402_300_799.0  # Unix seconds: the end of the year 9999
GRACE_S: Final = 3600.0  # beyond the end of what is revoked: other hosts' clocks are not ours
SHA256: Final = re.compile(r"[0-9a-f]{64}")
# Octets, with colons or blanks between or with nothing; where one lacks a digit nobody can tell which.
SERIAL: Final = re.compile(r"[0-9a-f]{1,2}(?P<between>[: ])[0-9a-f]{2}(?:(?P=between)[0-9a-f]{2})*|[0-9a-f]+")
MOST_SERIAL: Final = 160  # bits, RFC 5280 4.1.2.2
SERIAL_TWICE: Final = re.compile(r"([0-9]{1,49}) \(0x([0-9a-f]{1,40})\)")  # as OpenSSL shows small ones
ID: Final = re.compile(r"[0-9a-f]{32}")


class Ending(NamedTuple):
    """A subject, and when it ends by itself, Unix seconds."""

    subject: Subject
    expires: float


class Page(NamedTuple):
    """after: where the next begins, "" after the last."""

    revocations: list[Revocation]
    after: str


class RevocationsReading(Protocol):
    def get(self, name: str) -> Revocation | None:
        """By id."""

    def page(self, tenant: str, after: str, most: int) -> list[Revocation]:
        """By id, those after `after`. tenant: the default one has all."""

    def count(self, tenant: str) -> int:
        """How many are a tenant's; of DEFAULT_TENANT those of all."""


class RevocationsStore(RevocationsReading, Protocol):
    def put(self, revocation: Revocation) -> None:
        """In place of the one with its id. Followers learn of it."""

    def drop(self, expired: float, most: int) -> int:
        """Those that expire by then, so many at most; how many. Followers learn of it."""


def revoke(store: RevocationsStore, wanted: Revocation) -> tuple[Revocation, bool]:
    """The revocation as it is in force now, and whether it was not before. Raises RevocationsFullError."""
    known = store.get(wanted.id)
    if known is None:
        _find_room(store, wanted.tenant)
    elif known.issued_before >= wanted.issued_before and known.expires >= wanted.expires:
        return known, False
    else:
        # INVARIANT: what is revoked stays so, for as long as anybody said.
        wanted = wanted._replace(
            issued_before=max(known.issued_before, wanted.issued_before), expires=max(known.expires, wanted.expires)
        )
    store.put(wanted)
    return wanted, True


def _find_room(store: RevocationsReading, tenant: str) -> None:
    """Raises RevocationsFullError."""
    count, most = store.count(DEFAULT_TENANT), MOST if tenant == DEFAULT_TENANT else MOST_OF_OTHERS
    if count >= most:
        raise RevocationsFullError(f"{count} revocations are in force, tenant {tenant} may add to fewer than {most}")
    if tenant != DEFAULT_TENANT and store.count(tenant) >= MOST_OF_ONE:
        raise RevocationsFullError(f"{MOST_OF_ONE} revocations of tenant {tenant} are in force")


def drop(store: RevocationsStore, now: float, most: int) -> int:
    """Drop those of what has ended by itself, so many at most; how many."""
    return store.drop(now - GRACE_S, most)


def page(store: RevocationsReading, tenant: str, after: str, most: int) -> Page:
    """By id. after: of the page before. Raises RequestError."""
    if after and not ID.fullmatch(after):
        raise RequestError([("page_token", "expected that of the answer before")])
    found = store.page(tenant, after, most + 1)
    return Page(found[:most], found[most - 1].id if len(found) > most else "")


# --- what may be revoked -----------------------------------------------------------------------------------------


def token(text: str, issuers: Mapping[str, str], now: float) -> Ending:
    """A token, by its text. issuers: `iss` by title.

    Its signature is not looked at: whatever it says, it is said of the token with this very text.
    """
    if text.startswith(PREFIX):
        raise RequestError([("text", "is an API key, expected a token; ApiKeyService revokes keys")])
    try:
        found = jws.parse(text)
    except TokenError:
        raise RequestError([("text", "is no signed token")]) from None
    claims = found.claims
    if claims.get("iss") not in issuers.values():
        raise RequestError([("text", f"is of another issuer, expected {_one_of(issuers.values())}")])
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, (int, float)) or not 0 <= expires <= LATEST:
        raise RequestError([("text", "does not say when it expires, so nobody lets it in")])
    if expires <= now:
        raise RequestError([("text", "has expired")])
    return Ending(Subject(TOKEN, "", found.digest.hex()), float(expires))


def token_digest(text: str) -> Subject:
    return Subject(TOKEN, "", _sha256(text))


def token_id(issuer: str, jti: str, issuers: Mapping[str, str]) -> Subject:
    faults = []
    if issuer not in issuers.values():
        faults.append(("id.issuer", f"expected {_one_of(issuers.values())}, came {issuer[:LONGEST]!r}"))
    if not 0 < len(jti) <= LONGEST or not jti.isprintable():
        faults.append(("id.jti", f"expected 1 to {LONGEST} printable characters"))
    if faults:
        raise RequestError(faults)
    return Subject(TOKEN_ID, issuer, jti)


def principal(name: str, issuers: Mapping[str, str]) -> Subject:
    kind, _, rest = name.partition(":")
    title, slash, subject = rest.partition("/")
    if kind != "user" or title not in issuers or not slash or not 0 < len(subject) <= LONGEST or not name.isprintable():
        expected = _one_of(f"user:{title}/…" for title in issuers)
        raise RequestError([("principal", f"expected {expected}, came {name[:LONGEST]!r}")])
    return Subject(PRINCIPAL, "", name)


def issuer(url: str, issuers: Mapping[str, str]) -> Subject:
    if url not in issuers.values():
        raise RequestError([("issuer", f"expected {_one_of(issuers.values())}, came {url[:LONGEST]!r}")])
    return Subject(ISSUER, url, "")


def issued_before(wanted: float, now: float) -> float:
    """wanted: Unix seconds. One ahead of now revokes what an issuer whose clock is ahead has issued."""
    if not 0 < wanted <= now + SKEW_S:
        raise RequestError([("issued_before", f"expected a time up to {SKEW_S:.0f} seconds from now")])
    return wanted


def certificate(pem: str, now: float) -> Ending:
    """A certificate, by itself."""
    if len(pem) > LONGEST_PEM:
        raise RequestError([("pem", f"has {len(pem)} characters, expected at most {LONGEST_PEM}")])
    try:
        (found,) = x509.load_pem_x509_certificates(pem.encode())
        expires = found.not_valid_after_utc
    except ValueError:
        raise RequestError([("pem", "expected one certificate in PEM")]) from None
    if expires <= datetime.fromtimestamp(now, UTC):
        raise RequestError([("pem", "has expired")])
    return Ending(Subject(CERTIFICATE, "", found.fingerprint(hashes.SHA256()).hex()), expires.timestamp())


def certificate_digest(text: str) -> Subject:
    return Subject(CERTIFICATE, "", _sha256(text.replace(":", "")))


def certificate_id(issuer: str, serial: str) -> Subject:
    """However these are spelt; kept in the one spelling that certificates' issuers and numbers are compared in."""
    faults: list[tuple[str, str]] = []
    number, name = _serial(serial), ""
    if not number:
        faults.append(("id.serial", f"expected a positive number of up to 20 octets in hex, came {serial[:LONGEST]!r}"))
    if not 0 < len(issuer) <= LONGEST_ISSUER:
        faults.append(("id.issuer", f"expected 1 to {LONGEST_ISSUER} characters"))
    else:
        try:
            name = distinguished.canonical(distinguished.parse(issuer))
        except DistinguishedNameError as error:
            faults.append(("id.issuer", f'{error}, in a name such as "CN=Example CA,O=Example" (RFC 4514)'))
    if faults:
        raise RequestError(faults)
    return Subject(CERTIFICATE_ID, name, f"{number:x}")


def _serial(text: str) -> int:
    """0 for none."""
    said = text.strip().lower()
    if (twice := SERIAL_TWICE.fullmatch(said)) is not None:
        return int(twice[1]) if int(twice[1]) == int(twice[2], 16) else 0
    said = said.removeprefix("serial=").removeprefix("0x")
    if len(said) > LONGEST or not SERIAL.fullmatch(said):
        return 0
    number = int(said.replace(":", "").replace(" ", ""), 16)
    return number if number.bit_length() <= MOST_SERIAL else 0


def expires(wanted: float, now: float) -> float:
    """wanted: when what is revoked ends by itself, Unix seconds; NEVER where nobody says."""
    if not now < wanted or LATEST < wanted < NEVER:
        raise RequestError([("expires", "expected a time to come, before the year 10000, or none")])
    return wanted


def reason(text: str) -> str:
    if len(text) > LONGEST or not text.isprintable():
        raise RequestError([("reason", f"expected up to {LONGEST} printable characters")])
    return text


def _sha256(text: str) -> str:
    digest = text.lower()
    if not SHA256.fullmatch(digest):
        raise RequestError([("sha256", "expected 64 hex digits")])
    return digest


def _one_of(known: Iterable[str]) -> str:
    listed = sorted(known)
    return f"one of {', '.join(listed)}" if listed else "an issuer of authentication.jwt, which has none"
