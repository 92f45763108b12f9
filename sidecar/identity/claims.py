"""A token's claims (RFC 7519) → who calls, or why it proves nothing. Whether it is signed is `jws`'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from interceptors.facts import Attribute
from sidecar.identity.jws import Token, TokenError
from sidecar.identity.model import KEY_BINDING, SKEW_S, Binding, Identified, Issuer, Path

LATEST: Final = 253_402_300_799.0  # Unix seconds: the end of the year 9999
LONGEST: Final = 256  # characters of a subject, a tenant, a text of an attribute
MOST: Final = 256  # members of a list
THUMBPRINT: Final = 43  # characters: SHA-256 in base64url
BINDINGS: Final = ("x5t#S256", KEY_BINDING)


def identify(token: Token, issuer: Issuer, now: float) -> Identified:
    """now: Unix seconds. Raises TokenError for what the issuer may not say, and for what is over or not begun."""
    claims = token.claims
    kind = token.type.lower().removeprefix("application/")
    if kind not in issuer.types:
        raise TokenError("identify.token_type")
    if claims.get("iss") != issuer.url:
        raise TokenError("identify.token_issuer")
    if issuer.audiences.isdisjoint(_texts(claims.get("aud"), "identify.token_audience")):
        raise TokenError("identify.token_audience")
    expires, issued = _times(claims, issuer, now)
    return Identified(
        issuer.title,
        _name(_at(claims, issuer.subject), "identify.token_subject"),
        _tenant(claims, issuer),
        _roles(claims, issuer),
        _attributes(claims, issuer),
        expires,
        issued,
        _name(claims["jti"], "identify.token_id") if "jti" in claims else "",
        _binding(claims),
    )


def _times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> tuple[float, float]:
    """A token ends on the second; only where it begins is a clock that is ahead of ours forgiven."""
    expires = _time(claims, "exp")
    begins, issued = (_time(claims, name) if name in claims else 0.0 for name in ("nbf", "iat"))
    if now >= expires:
        raise TokenError("identify.token_expired")
    if begins > now + SKEW_S or issued > now + SKEW_S:
        raise TokenError("identify.token_early")
    if expires - issued > issuer.longest_s:
        raise TokenError("identify.token_lifetime")
    return expires, issued


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TokenError("identify.token_time")
    try:
        seconds = float(value)
    except OverflowError:
        raise TokenError("identify.token_time") from None
    if not 0 <= seconds <= LATEST:
        raise TokenError("identify.token_time")
    return seconds


def _tenant(claims: Mapping[str, Any], issuer: Issuer) -> str:
    if not issuer.tenant:
        (tenant,) = issuer.tenants
        return tenant
    tenant = _name(_at(claims, issuer.tenant), "identify.token_tenant")
    if tenant not in issuer.tenants:
        raise TokenError("identify.token_tenant")
    return tenant


def _roles(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    if not issuer.roles or not issuer.granted:
        return frozenset()
    said = _at(claims, issuer.roles)
    if said is None:
        return frozenset()
    # RFC 8693 4.2 and Azure AD's "scp" spell several in one text.
    names = said.split(" ") if isinstance(said, str) else _texts(said, "identify.token_roles")
    return frozenset(issuer.granted[name] for name in names if name in issuer.granted)


def _attributes(claims: Mapping[str, Any], issuer: Issuer) -> tuple[tuple[str, Attribute], ...]:
    """A claim that is not there is no attribute, and a condition that asks for it denies."""
    found: list[tuple[str, Attribute]] = []
    for name, path in (issuer.attributes or {}).items():
        value = _at(claims, path)
        if (isinstance(value, str) and len(value) <= LONGEST) or isinstance(value, (bool, int, float)):
            found.append((name, value))
        elif value is not None:
            found.append((name, _texts(value, "identify.token_attribute")))
    return tuple(found)


def _binding(claims: Mapping[str, Any]) -> Binding | None:
    """RFC 7800 3.1: a way of confirmation that we do not know cannot be checked, so the token proves nothing."""
    if "cnf" not in claims:
        return None
    match claims["cnf"]:
        case {**only} if len(only) == 1:
            ((kind, thumbprint),) = only.items()
            if kind in BINDINGS and isinstance(thumbprint, str) and len(thumbprint) == THUMBPRINT:
                return Binding(kind, thumbprint)
    raise TokenError("identify.token_binding")


def _at(claims: Mapping[str, Any], path: Path) -> Any:
    """The claim at a path, None where there is none."""
    value: Any = claims
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _name(value: object, reason: str) -> str:
    """A text that stands in names and records: printable, and not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or not value.isprintable():
        raise TokenError(reason)
    return value


def _texts(value: object, reason: str) -> tuple[str, ...]:
    """RFC 7519 4.1.3: a text, or a list of them."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > MOST:
        raise TokenError(reason)
    texts = tuple(each for each in listed if isinstance(each, str) and len(each) <= LONGEST)
    if len(texts) != len(listed):
        raise TokenError(reason)
    return texts
