"""What is known of who issues tokens, and of a caller whose token was found good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from interceptors.facts import DEFAULT_TENANT, Attribute

Path: TypeAlias = tuple[str, ...]  # names of claims, from the outermost in
KEY_BINDING: Final = "jkt"  # in `cnf`: to a key, of which each call brings a proof (RFC 9449 6)
SKEW_S: Final = 60.0  # by which an issuer's clock may be ahead of ours


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, and what they may say.

    title: short and unique, the first part of its callers' names.  url: exactly its tokens' `iss`.
    audiences: of which a token names one.  algorithms: of `jwks.ALGORITHMS`.
    types: that a token's `typ` may name, lower case and without "application/"; "" is none at all.
    longest_s: from a token's `iat` to its `exp`, at most; inf for any.
    subject: the claim that names the caller.
    tenants: those that its tokens may name; tenant: the claim that does, () where the one there is goes without saying.
    roles: the claim that names them, () for none.  granted: role of ours by what the claim says; nothing else counts.
    attributes: by the name under which conditions know them.
    """

    title: str
    url: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    types: frozenset[str] = frozenset(("at+jwt", "jwt", ""))
    longest_s: float = float("inf")
    subject: Path = ("sub",)
    tenants: frozenset[str] = frozenset((DEFAULT_TENANT,))
    tenant: Path = ()
    roles: Path = ()
    granted: Mapping[str, str] | None = None
    attributes: Mapping[str, Path] | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """What whoever presents a token must hold beside it (RFC 7800). kind: the name in `cnf`.  thumbprint: as it stands
    there: SHA-256 in base64url of a certificate (RFC 8705) or of a key (RFC 9449)."""

    kind: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a good token is of. subject: as its issuer names them.  expires, issued: Unix seconds, 0 for unknown.

    token_id: `jti`, "" for none.
    """

    issuer: str
    subject: str
    tenant: str
    roles: frozenset[str]
    attributes: tuple[tuple[str, Attribute], ...]
    expires: float
    issued: float
    token_id: str
    binding: Binding | None

    @property
    def principal(self) -> str:
        """Its name begins with the issuer's title, so that no issuer can name another's."""
        return f"user:{self.issuer}/{self.subject}"
