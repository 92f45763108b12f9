"""The `authentication` and `authorization` sections: who a caller is, and what it may call."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from sidecar.config.fields import (
    FilePath,
    IdentityPattern,
    Many,
    MethodPattern,
    Name,
    OneOrMore,
    Section,
    Spelt,
    TrustDomainName,
)


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


class Authentication(Section):
    """How callers prove who they are."""

    mtls: Mtls | None = Field(None, description="By client certificate. Unset, no caller is identified.")


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
        None, description="Only calls that name one of these models (patterns); unset, any call."
    )


class Authorization(Section):
    """What callers may do: nothing, but for what a rule allows."""

    rules: Many[Rule] = Field((), description="Each allows something; a call that none allows is denied.")
