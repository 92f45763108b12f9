"""Names of resources, permissions and identities: how they are spelt, and which names a pattern reaches.

A resource is `tenants/{tenant}`, or a child of one: `tenants/{tenant}/models/{model}/versions/{version}`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from interceptors.authorize import KINDS
from interceptors.patterns import LONGEST
from interceptors.permits import LONGEST_MODEL

LONGEST_NAME: Final = 1024  # characters of a resource
LONGEST_PLAIN: Final = 128  # characters of a role, a group, a policy, a grant, a tenant
GROUP: Final = "group:"
EVERYTHING: Final = "**"
# Kinds of resources that conditions know by a name of their own.
ROOTS_OF_KINDS: Final = {"models": "model", "datasets": "dataset"}

_SEGMENT: Final = r"[^/*\x00-\x1f\x7f]+"
_RESOURCE: Final = re.compile(rf"tenants/{_SEGMENT}(?:/[a-z][a-z0-9_]*/{_SEGMENT})*")
_PLAIN: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_PLAIN - 1}}}")
_PERMISSION: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")
_PERMISSIONS: Final = re.compile(r"\*|[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*(?:\.\*|\.[a-z][a-z0-9_]*)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SAFE: Final = " !$&'()+,:;=@"
_UNQUOTED: Final = re.compile(rf"[A-Za-z0-9_.~/*{re.escape(_SAFE)}-]*")


class NameFault(ValueError):
    """A name or a pattern of names that is none. expected: what it should have been."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected


class Resource(NamedTuple):
    """kind, id: "models" and "fraud-1", both "" of a tenant itself.  lineage: its own name, … its tenant's."""

    name: str
    tenant: str
    kind: str
    id: str
    lineage: tuple[str, ...]


@lru_cache(maxsize=16384)
def resource(name: str) -> Resource:
    """Raises NameFault."""
    if len(name) > LONGEST_NAME or not _RESOURCE.fullmatch(name):
        raise NameFault(f"tenants/TENANT/KIND/ID, of {LONGEST_NAME} characters at most")
    parts = name.split("/")
    lineage = tuple("/".join(parts[:end]) for end in range(len(parts), 1, -2))
    kind, of = parts[2:4] or ("", "")
    return Resource(name, parts[1], kind, of, lineage)


def segment(text: str) -> str:
    """A text that callers choose, such as a model's name, as it stands in a resource's name: it begins no child."""
    return quote(text, safe=_SAFE, errors="surrogatepass")


def _spelt(pattern: str) -> str:
    """A pattern of resources, its names quoted as `segment` does."""

    def quoted(part: re.Match[str]) -> str:
        return quote(unquote_to_bytes(part[0].encode("utf-8", "surrogatepass")), safe=_SAFE)

    return re.sub(r"[^*/]+", quoted, pattern)


@lru_cache(maxsize=16384)
def scope(pattern: str, tenant: str) -> str:
    """A pattern of resources as full names have it; short ones are the tenant's. Raises NameFault.

    Whoever is reached by it is reached with all children, so everything is the tenant itself.
    """
    own = f"tenants/{tenant}"
    if pattern in (EVERYTHING, own):
        return own
    full = pattern if pattern.startswith("tenants/") else f"{own}/{pattern}"
    if not full.startswith(f"{own}/"):
        raise NameFault(f"resources of tenant {tenant}")
    if len(full) > LONGEST:
        raise NameFault(f"{LONGEST} characters at most")
    parts = full.split("/")
    if "" in parts or (EVERYTHING not in full and len(parts) % 2):
        raise NameFault("KIND/ID such as models/fraud-*, or ** for everything")
    if not _UNQUOTED.fullmatch(full) and (spelt := _spelt(full)) != full:
        # No resource has another spelling, so a policy that denies would deny nothing.
        raise NameFault(f"names as resources have them, {spelt.removeprefix(own + '/')}")
    return full


def reachable(pattern: str) -> None:
    """Raises NameFault for resources that no call is ever about. pattern: of them, or one's name; in full or relative.

    Who spells one otherwise, or names a model that no call may name, would deny nothing, and be told nothing.
    """
    if (spelt := _spelt(pattern)) != pattern:
        raise NameFault(f"names as resources have them, {spelt}")
    parts = pattern.split("/")
    for kind, name in zip(parts[::2], parts[1::2], strict=False):
        if EVERYTHING in kind or EVERYTHING in name:
            return  # from there on nobody knows what is a kind
        if kind in ("models", "versions"):
            said = unquote_to_bytes(name.replace("*", "")).decode("utf-8", "surrogatepass")
            if "\0" in said or len(said) > LONGEST_MODEL:
                raise NameFault(f"a model's name or version: {LONGEST_MODEL} characters at most, and no NUL")


def plain(name: str) -> None:
    """Raises NameFault."""
    if not _PLAIN.fullmatch(name):
        raise NameFault(f"1 to {LONGEST_PLAIN} letters, digits, '_', '.' or '-', a letter or digit first")


def permission(name: str) -> None:
    """Raises NameFault."""
    if len(name) > LONGEST_PLAIN or not _PERMISSION.fullmatch(name):
        raise NameFault("a permission such as models.inference")


def permissions(pattern: str) -> None:
    """Raises NameFault."""
    if len(pattern) > LONGEST_PLAIN or not _PERMISSIONS.fullmatch(pattern):
        raise NameFault("a permission such as models.inference, models.* for all below, or * for all")


@lru_cache(maxsize=4096)
def reaching(permission: str) -> tuple[str, ...]:
    """The patterns that reach a permission: "a.b.c" is reached by itself, "a.b.*", "a.*" and "*"."""
    parts = permission.split(".")
    return (permission, *(".".join((*parts[:end], "*")) for end in range(len(parts) - 1, -1, -1)))


def identity(pattern: str) -> str:
    """A pattern of identities as it is compared: hosts in lower case (RFC 4343). Raises NameFault."""
    kind = pattern.partition(":")[0]
    prefix = KINDS.get(kind, pattern)
    if pattern == prefix or not pattern.startswith(prefix) or len(pattern) > LONGEST or _CONTROL.search(pattern):
        raise NameFault(" or ".join(f"{prefix}…" for prefix in KINDS.values()))
    return pattern.lower() if kind == "dns" else pattern
