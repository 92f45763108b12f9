"""What links know about a call and hand on, keyed by type; `contract.Call.put` and `get` carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

DEFAULT_TENANT = "default"
Kind: TypeAlias = Literal["spiffe", "dns", "cn", "user", "key"]
Attribute: TypeAlias = str | int | float | bool | tuple[str, ...]
NO_ROLES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class PeerCertificate:
    """What a verified client certificate says. Compared by identity: one object per connection.

    uris, dns: subject alternative names.  common_name: of the subject, "" when absent.
    not_after: Unix seconds, the earliest in the verified chain.  fingerprint: SHA-256 of the DER form, hex.
    trust_domains: those whose own CA file holds the root of the verified chain.
    chain: what each certificate of the verified chain is known by: its fingerprint, and its serial number in hex with
    its issuer as `distinguished.canonical` spells names, "7f CN=example ca".
    """

    uris: tuple[str, ...]
    dns: tuple[str, ...]
    common_name: str
    not_after: float
    fingerprint: str
    trust_domains: frozenset[str]
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. kind and name together are the identity; kinds never compare across each other.

    name: with its prefix, as rules spell it: "spiffe://example.org/team/a", "dns:host", "cn:name",
    "user:issuer/subject", "key:id".
    roles, attributes: what whoever vouches for the caller says of them, as far as the config lets it.
    """

    kind: Kind
    name: str
    tenant: str = DEFAULT_TENANT
    roles: frozenset[str] = NO_ROLES
    attributes: tuple[tuple[str, Attribute], ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """By what a caller was identified. expires: Unix seconds, from which it proves nothing; inf for never.

    issued: Unix seconds, 0 where nobody tells: how old the proof is.
    """

    kind: Literal["certificate", "token", "api_key"]
    issued: float
    expires: float


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What an API key permits, and all that its holder may do. permissions: patterns, dotted.

    resources: patterns such as "models/fraud-*", relative to the holder's tenant; () for all of it.
    """

    permissions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(slots=True, init=False)
class TraceContext:
    """The sidecar's own span within a W3C trace. Ids are lower-case hex of 16 and 8 bytes.

    parent_id: the caller's span, "" when the trace begins here.  sampled: the W3C flag.
    Never changed once put; not frozen, and made by a constructor that is compiled, for one is made with every call.
    """

    trace_id: str
    span_id: str
    parent_id: str
    sampled: bool

    def __init__(self, trace_id: str, span_id: str, parent_id: str, sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.sampled = sampled


@dataclass(slots=True, init=False)
class CalledModel:
    """The model that a call named last, for records; a stream may name several. "" is the server's default.

    Never changed once put, as TraceContext.
    """

    name: str
    version: str

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version

    @property
    def text(self) -> str:
        """As records spell it: "digits" or "digits/2"."""
        return f"{self.name}/{self.version}" if self.version else self.name
