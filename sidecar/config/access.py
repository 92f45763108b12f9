"""The `authentication` and `authorization` sections: who a caller is, and what it may call."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from sidecar.config.fields import (
    Attribute,
    AttributeName,
    FilePath,
    IdentityPattern,
    IssuerUrl,
    KeysUrl,
    Many,
    MetadataName,
    MethodPattern,
    Name,
    Network,
    OneOrMore,
    Origin,
    PermissionPattern,
    ResourceOrIdentityPattern,
    Section,
    Spelt,
    Title,
    TrustDomainName,
    Within,
    section_or_defaults,
    written,
)
from sidecar.config.units import Duration


class TrustDomain(Section):
    """A SPIFFE trust domain whose callers are known."""

    name: TrustDomainName = Field(description="Its name, such as `example.org`.")
    ca: FilePath | None = Field(
        None, description="PEM file: this domain's own CAs; `listen.tls.client_ca` where unset."
    )


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Mtls(Section):
    """Callers are identified by their client certificates."""

    trust_domains: OneOrMore[
        Annotated[TrustDomain, BeforeValidator(_named), Spelt({"type": "string", "title": "trust domain"})]
    ] = Field(
        description="Trust domains whose CAs are believed: a name, or `{name: …, ca: file}` for one with CAs of its "
        "own. A certificate's SPIFFE id must be of the domain whose CA issued it."
    )
    allow_common_name: bool = Field(
        False,
        description="Let a certificate without a URI or DNS name be identified by its subject's common name, as "
        "`cn:…`. Off because nothing scopes a common name.",
    )


Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


def _path(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


# A claim, or names of claims from the outermost in.
Claim: TypeAlias = Annotated[OneOrMore[Name], BeforeValidator(_path), Spelt({"type": "string", "title": "claim"})]


class TokenKeys(Section):
    """The keys that an issuer signs with. With neither `file` nor `url`, its OpenID Connect discovery document says
    where they are."""

    file: FilePath | None = Field(
        None, description="JSON file of them, a JWK set (RFC 7517); read again when it changes."
    )
    url: KeysUrl | None = Field(
        None, description="Where the issuer publishes them; https, or http on this host. Redirects are not followed."
    )
    ca: FilePath | None = Field(
        None, description="PEM file: the CAs of the issuer's server and of its keys'; the system's where unset."
    )
    refresh: Annotated[Duration, Within(Duration(10), Duration(86400))] = Field(
        written("10m"),
        description="How often they are fetched. A token with a key that is not known has them fetched at once, but "
        "no more than every 5 seconds.",
    )
    longest: Annotated[Duration, Within(Duration(60), Duration(30 * 86400))] = Field(
        written("1d"), description="How long keys stay in force that cannot be fetched again."
    )


class TokenTenants(Section):
    """Whose tenants an issuer speaks for."""

    claim: Claim = Field(description="The claim that names the tenant.")
    allowed: OneOrMore[Name] = Field(description="Those that it may name; a token that names another is refused.")


class TokenRoles(Section):
    """What an issuer may make of its callers."""

    claim: Claim = Field(description="The claim that lists roles, groups or scopes: a list, or a text with spaces.")
    grant: dict[Name, Name] = Field(
        description="By what the claim says, the role that a caller has here. What is not listed counts for nothing."
    )


class TokenIssuer(Section):
    """Somebody whose tokens callers are identified by."""

    name: Title = Field(description="Short and unique: callers are `user:<name>/<subject>`.")
    issuer: IssuerUrl = Field(description="Exactly what its tokens say in `iss`.")
    audiences: OneOrMore[Name] = Field(description="What a token's `aud` must hold one of.")
    keys: Annotated[TokenKeys, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="The keys that it signs with."
    )
    algorithms: OneOrMore[Algorithm] = Field(
        written(["RS256", "ES256", "EdDSA", "Ed25519"]), description="Those that its tokens may be signed by."
    )
    types: OneOrMore[Literal["at+jwt", "JWT", "none"]] = Field(
        written(["at+jwt", "JWT", "none"]),
        description="What a token's `typ` may say; `none` is no `typ` at all. With `at+jwt` alone, no ID token of the "
        "same issuer passes for an access token (RFC 9068).",
    )
    longest: Duration | None = Field(None, description="From a token's `iat` to its `exp` at most; unset, any.")
    subject: Claim = Field(written(["sub"]), description="The claim that names the caller.")
    tenant: Name = Field(written("default"), description="The tenant of its callers, where `tenants` is unset.")
    tenants: TokenTenants | None = Field(None, description="Where its tokens name their tenant.")
    roles: TokenRoles | None = Field(None, description="What of its tokens makes roles here; unset, nothing.")
    attributes: dict[Name, Claim] = Field(
        written({}), description="By name, the claims that conditions may ask for: a text, a number, a list of texts."
    )


class Dpop(Section):
    """Tokens that are bound to a key are taken with a proof of that key, another for each call (DPoP, RFC 9449)."""

    origins: OneOrMore[Origin] = Field(
        description="Under which callers reach the sidecar, such as `https://models.example.org:8443`. A proof is for "
        "one of them; what a call says of its own authority counts for nothing."
    )
    algorithms: OneOrMore[Algorithm] = Field(
        written(["RS256", "ES256", "EdDSA", "Ed25519"]), description="Those that proofs may be signed by."
    )
    window: Annotated[Duration, Within(Duration(5), Duration(600))] = Field(
        written("60s"), description="How far a proof's time may be from this host's, before it and after."
    )
    nonce: bool = Field(
        False,
        description="Take proofs only with a nonce of the sidecar's, which answers have in `dpop-nonce`, and which is "
        "good for one to two times `window`; then clients' clocks need not be right.",
    )


class ApiKeys(Section):
    """Callers are identified by API keys, which the sidecar makes, keeps and takes back."""

    hash_key: FilePath | None = Field(
        None,
        description="File with the key of their hashes, 32 bytes or more, which nobody else may read; made in "
        "`state.directory` where unset. Sidecars that share a database need the same.",
    )


class Authentication(Section):
    """How callers prove who they are."""

    mtls: Mtls | None = Field(None, description="By client certificate, where a call brings no credential of its own.")
    jwt: Many[TokenIssuer] = Field(
        (),
        description="By a token in `authorization: Bearer …`, signed by one of these issuers. With any, the header is "
        "ours: it is taken off every call, and a call whose token is not good is refused.",
    )
    api_keys: ApiKeys | None = Field(
        None,
        description="By an API key in `authorization: Bearer ltk_…`; the header is ours, as with `jwt`. `{}` turns "
        "them on with all defaults.",
    )
    dpop: Dpop | None = Field(
        None,
        description="By a token in `authorization: DPoP …` with a proof in `dpop`, where its issuer binds it to a key "
        "(`cnf.jkt`); such a token is refused without one.",
    )
    revocations: bool = Field(
        False,
        description="Let tokens and client certificates be revoked by `langtrain.v1.RevocationService`. With it, who "
        "brings one is let in only where a worker has heard of revocations within `state.max_staleness`.",
    )


class Rule(Section):
    """Allows the callers it names to call what it names."""

    identities: OneOrMore[IdentityPattern] = Field(
        description="Who: patterns typed by form, `spiffe://…`, `dns:…` or `cn:…`. `*` stays within a segment, `**` "
        "crosses `/`."
    )
    methods: OneOrMore[MethodPattern] = Field(
        description="What: method patterns such as `/inference.GRPCInferenceService/*`, or `/**` for all."
    )
    models: OneOrMore[Name] | None = Field(
        None,
        description="Only calls that name one of these models (patterns); unset, any call. Answers that list models "
        "hold these alone.",
    )
    permissions: OneOrMore[PermissionPattern] | None = Field(
        None,
        description="Grants these and no others: names such as `models.inference`, `models.*` for all below, `*` for "
        "all. Unset, all but `models.shared_memory`, `models.trace_settings`, `models.log_settings`, "
        "`models.load_files`, `models.load_config` and `upstream.unknown`, which go around other checks "
        "([permissions](permissions.md)).",
    )


class Authorization(Section):
    """What callers may do: nothing, but for what a rule allows."""

    rules: Many[Rule] = Field((), description="Each allows something; a call that none allows is denied.")
    policies: bool = Field(
        False,
        description="Let roles, grants and policies decide as well, which `langtrain.v1.PolicyService` keeps in "
        "`state.url` ([policies](policies.md)).",
    )
    bootstrap_admins: Many[IdentityPattern] = Field(
        (),
        description="Who has `builtin.admin` on everything of the default tenant, and so gives others what they may "
        "do: patterns as of `rules`. Needs `policies`.",
    )
    attributes: dict[ResourceOrIdentityPattern, dict[AttributeName, Attribute]] = Field(
        written({}),
        description="What conditions of policies may ask for, by pattern: of resources, as in "
        "`models/fraud-*: {classification_level: 3}`, or of identities, as in `spiffe://example.org/team/*: {team: "
        "fraud}`, beside what their tokens say and before that. Of several patterns that match, the longest has the "
        "say.",
    )
    metadata: dict[AttributeName, MetadataName] = Field(
        written({}),
        description="Attributes of requests, and the metadata that has each: with `purpose: x-purpose`, conditions may "
        "ask for `request.purpose`. It is what the caller says, nothing more.",
    )
    locations: dict[Name, OneOrMore[Network]] = Field(
        written({}),
        description="Where callers are: a name such as `eu`, and the networks of it. Conditions ask for "
        "`environment.location`; of several networks that hold an address the smallest counts.",
    )
    unsafe_shared_sequences: bool = Field(
        False,
        description="UNSAFE: let `sequence_id` through as callers say it, so that each can enter another's sequence of "
        "requests, if he knows or guesses its id.",
    )
