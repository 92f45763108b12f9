"""What the sections of a config demand of each other. One rule, one function; each says which keys it reads.

A rule runs where all it reads is sound, so that it is never wrong about a value that is a fault by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sidecar.config.access import Authentication
from sidecar.config.addresses import TcpAddress, UnixAddress
from sidecar.config.faults import Place, visible
from sidecar.config.model import Config
from sidecar.config.units import Size
from sidecar.config.upstream import NAMES_MODELS
from sidecar.internal.urls import fetchable


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that does not hold, and the place of the value to change."""

    place: Place
    expected: str
    came: str = ""
    hint: str = ""


Check: TypeAlias = Callable[[Config], Iterator[Breach]]


@dataclass(frozen=True, slots=True)
class CrossRule:
    """reads: key paths, each with all that lies below it."""

    reads: Sequence[Place]
    check: Check


MTLS = ("authentication", "mtls")
JWT = ("authentication", "jwt")
API_KEYS = ("authentication", "api_keys")
DPOP = ("authentication", "dpop")
PROVED = "this, authentication.jwt or authentication.api_keys proves them"
TLS = ("listen", "tls")
RULES = ("authorization", "rules")
POLICIES = ("authorization", "policies")
ADMINS = ("authorization", "bootstrap_admins")
ATTRIBUTES = ("authorization", "attributes")
METADATA = ("authorization", "metadata")
OF_REQUESTS = ("method", "model", "size", "version")  # attributes
LIMITS: Place = ("limits",)
MEMORY: Place = ("listen", "limits", "memory")
MOST_DAYS = 366  # in which a limit's bucket refills


def plaintext_stays_local(config: Config) -> Iterator[Breach]:
    listen = config.listen
    if listen.tls is None and not listen.address.loopback and not listen.unsafe_plaintext:
        yield Breach(
            TLS,
            "TLS on an address that other hosts reach",
            f"none on {listen.address}",
            "listen on 127.0.0.1 or a Unix socket, or set listen.unsafe_plaintext: true",
        )


def certificates_need_tls(config: Config) -> Iterator[Breach]:
    if config.authentication.mtls and config.listen.tls is None:
        yield Breach(TLS, "TLS, because authentication.mtls reads client certificates", "none")


def certificates_are_asked_for(config: Config) -> Iterator[Breach]:
    tls = config.listen.tls
    if config.authentication.mtls and tls and tls.client_certificates == "none":
        yield Breach(
            (*TLS, "client_certificates"),
            "'required' or 'optional', because authentication.mtls reads client certificates",
            "'none'",
        )


def certificates_have_a_ca(config: Config) -> Iterator[Breach]:
    tls, mtls = config.listen.tls, config.authentication.mtls
    if tls is None or tls.client_ca or tls.client_certificates == "none":
        return
    lacking = [domain.name for domain in mtls.trust_domains if domain.ca is None] if mtls else []
    if lacking or mtls is None:
        who = f"trust domain {', '.join(lacking)}" if lacking else "client certificates"
        yield Breach((*TLS, "client_ca"), f"a PEM file with the CAs of {who}", "nothing")


def domains_are_distinct(config: Config) -> Iterator[Breach]:
    names: set[str] = set()
    for index, domain in enumerate(config.authentication.mtls.trust_domains if config.authentication.mtls else ()):
        if domain.name in names:
            yield Breach((*MTLS, "trust_domains", index), "each trust domain once", f"'{domain.name}' again")
        names.add(domain.name)


def issuers_are_distinct(config: Config) -> Iterator[Breach]:
    names: set[str] = set()
    urls: set[str] = set()
    for index, issuer in enumerate(config.authentication.jwt):
        if issuer.name in names:
            yield Breach((*JWT, index, "name"), "each issuer's name once", f"'{issuer.name}' again")
        if issuer.issuer in urls:
            yield Breach((*JWT, index, "issuer"), "each issuer once", f"'{visible(issuer.issuer)}' again")
        names.add(issuer.name)
        urls.add(issuer.issuer)


def issuers_have_keys(config: Config) -> Iterator[Breach]:
    for index, issuer in enumerate(config.authentication.jwt):
        place, keys = (*JWT, index, "keys"), issuer.keys
        if keys.file and keys.url:
            yield Breach(place, "a file or a url", "both")
        elif not keys.file and not keys.url and not fetchable(issuer.issuer):
            yield Breach(
                place, "a file or a url, for an issuer that is no https URL has no discovery document", "neither"
            )


def proofs_have_tokens(config: Config) -> Iterator[Breach]:
    if config.authentication.dpop and not config.authentication.jwt:
        yield Breach(DPOP, "an issuer in authentication.jwt, whose tokens proofs are of", "none")


def identities_can_occur(config: Config) -> Iterator[Breach]:
    if _nobody_is_known(config.authentication):
        if config.authorization.rules:
            yield Breach(MTLS, f"a mapping, because authorization.rules name identities; {PROVED}", "nothing")
        elif config.authorization.bootstrap_admins:
            yield Breach(MTLS, f"a mapping, because authorization.bootstrap_admins are identities; {PROVED}", "nothing")
        return
    named: list[tuple[Place, str]] = [
        ((*RULES, index, "identities", number), identity)
        for index, rule in enumerate(config.authorization.rules)
        for number, identity in enumerate(rule.identities)
    ]
    named += [((*ADMINS, index), identity) for index, identity in enumerate(config.authorization.bootstrap_admins)]
    for place, identity in named:
        if identity.startswith("key:"):
            yield Breach(place, "no API key: what its holder may do is said by the key", f"'{visible(identity)}'")
        else:
            yield from _impossible(identity, config.authentication, place)


def admins_need_policies(config: Config) -> Iterator[Breach]:
    if config.authorization.bootstrap_admins and not config.authorization.policies:
        yield Breach(POLICIES, "true, because authorization.bootstrap_admins are granted a role", "false")


def attributes_can_occur(config: Config) -> Iterator[Breach]:
    for pattern in config.authorization.attributes:
        if pattern.startswith(("spiffe://", "dns:", "cn:", "user:", "key:")):
            yield from _impossible(pattern, config.authentication, (*ATTRIBUTES, pattern))


def metadata_has_names_of_its_own(config: Config) -> Iterator[Breach]:
    for name in config.authorization.metadata:
        if name in OF_REQUESTS:
            yield Breach((*METADATA, name), "another name, for every request has an attribute of this one", f"'{name}'")


def _nobody_is_known(authentication: Authentication) -> bool:
    return authentication.mtls is None and not authentication.jwt and authentication.api_keys is None


def _impossible(identity: str, authentication: Authentication, place: Place) -> Iterator[Breach]:
    """An identity that no caller can ever have."""
    kind, _, name = identity.partition(":")
    came, hint = f"'{visible(identity)}'", ""
    if kind == "user":
        wanted, possible = "an issuer of authentication.jwt", {issuer.name for issuer in authentication.jwt}
        said = name.partition("/")[0]
        if "*" in said:
            possible = {said} if possible else possible
    elif kind == "key":
        wanted, said = "no API key where authentication.api_keys is not set", kind
        possible = set() if authentication.api_keys is None else {kind}
    elif kind == "spiffe":
        wanted, said = "a trust domain of authentication.mtls.trust_domains", name.removeprefix("//").partition("/")[0]
        possible = {domain.name for domain in authentication.mtls.trust_domains} if authentication.mtls else set()
    else:
        wanted, said = "an identity that authentication.mtls proves", kind
        possible = {"dns", "cn"} if authentication.mtls else set()
        if kind == "cn" and authentication.mtls and not authentication.mtls.allow_common_name:
            possible, hint = {"dns"}, "cn: needs authentication.mtls.allow_common_name: true"
    if said not in possible:
        yield Breach(place, wanted, came, hint)


def names_models(config: Config) -> bool:
    upstream = config.upstream
    return upstream.protocol in NAMES_MODELS or any(service.model_field for service in upstream.services)


def rules_can_tell_models(config: Config) -> Iterator[Breach]:
    if names_models(config):
        return
    for index, rule in enumerate(config.authorization.rules):
        if rule.models is not None:
            yield Breach(
                (*RULES, index, "models"),
                "no models with upstream.protocol 'opaque', which names none",
                f"a list of {len(rule.models)}",
                "set the protocol, or model_field of a service in upstream.services",
            )


def limits_are_distinct(config: Config) -> Iterator[Breach]:
    # That of keys' own rates.
    titles = set() if config.authentication.api_keys is None else {"api-key"}
    for index, limit in enumerate(config.limits):
        if limit.title in titles:
            place: Place = ("limits", index, "name") if limit.name else ("limits", index)
            yield Breach(
                place, "each limit's name once", f"'{limit.title}' again", "set name, which is yours to choose"
            )
        titles.add(limit.title)


def limits_have_their_unit(config: Config) -> Iterator[Breach]:
    for index, limit in enumerate(config.limits):
        bytes_wanted = limit.weight == "bytes"
        form = 'of bytes, such as "10MiB/second",' if bytes_wanted else 'without a unit of bytes, such as "100/second",'
        if bool(limit.rate.size) != bytes_wanted:
            yield Breach(("limits", index, "rate"), f"a rate {form} for weight {limit.weight}", f"'{limit.rate}'")
        if limit.burst is not None and isinstance(limit.burst, Size) != bytes_wanted:
            what = 'a size such as "20MiB"' if bytes_wanted else "a whole number"
            yield Breach(("limits", index, "burst"), f"{what} for weight {limit.weight}", f"'{limit.burst}'")


def limits_refill(config: Config) -> Iterator[Breach]:
    for index, limit in enumerate(config.limits):
        days = limit.capacity * limit.rate.period / limit.rate.count / 86400
        if days > MOST_DAYS:
            yield Breach(
                ("limits", index, "burst"), f"a bucket that refills within {MOST_DAYS} days", f"one of {days:.0f} days"
            )


def limits_can_tell(config: Config) -> Iterator[Breach]:
    for index, limit in enumerate(config.limits):
        if limit.asks_model and not names_models(config):
            yield Breach(
                ("limits", index),
                "no limit by model or batch with upstream.protocol 'opaque', which tells neither",
                "one",
                "set the protocol, or model_field of a service in upstream.services",
            )


def limits_can_identify(config: Config) -> Iterator[Breach]:
    authentication = config.authentication
    for index, limit in enumerate(config.limits):
        if _nobody_is_known(authentication):
            if "identity" in limit.per or limit.identities:
                yield Breach(MTLS, f"a mapping, because limits[{index}] is about identities; {PROVED}", "nothing")
            continue
        for number, identity in enumerate(limit.identities or ()):
            yield from _impossible(identity, authentication, ("limits", index, "identities", number))


def remote_upstreams_have_tls(config: Config) -> Iterator[Breach]:
    upstream = config.upstream
    if upstream.remote and not upstream.tls and not upstream.unsafe_open_upstream:
        yield Breach(
            ("upstream", "tls"),
            "TLS to a model server on another host",
            f"none to {next(address for address in upstream.address if not address.loopback)}",
            "else set upstream.unsafe_open_upstream: true",
        )


def upstream_tls_is_whole(config: Config) -> Iterator[Breach]:
    tls = config.upstream.tls
    if tls is None:
        return
    for has, lacks in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, has) and not getattr(tls, lacks):
            yield Breach(("upstream", "tls", lacks), f"a file, because upstream.tls.{has} is set", "nothing")
    if tls.server_name is None and any(isinstance(address, UnixAddress) for address in config.upstream.address):
        yield Breach(
            ("upstream", "tls", "server_name"), "the name in its certificate, for a Unix socket has none", "nothing"
        )


def services_are_distinct(config: Config) -> Iterator[Breach]:
    services: set[str] = set()
    for index, service in enumerate(config.upstream.services):
        place: Place = ("upstream", "services", index)
        if service.service in services:
            yield Breach((*place, "service"), "each service once", f"'{service.service}' again")
        services.add(service.service)
        methods: set[str] = set()
        for number, method in enumerate(service.methods):
            if method.name in methods:
                yield Breach((*place, "methods", number, "name"), "each method once", f"'{method.name}' again")
            methods.add(method.name)


def sockets_differ(config: Config) -> Iterator[Breach]:
    if config.listen.address in config.upstream.address:
        yield Breach(("upstream", "address"), "another address than listen.address", f"'{config.listen.address}'")


def connections_grow(config: Config) -> Iterator[Breach]:
    upstream = config.upstream
    if upstream.connections_most is not None and upstream.connections_most < upstream.connections:
        yield Breach(
            ("upstream", "connections_most"),
            f"at least upstream.connections, which is {upstream.connections}",
            f"the number {upstream.connections_most}",
        )


def probes_stand_apart(config: Config) -> Iterator[Breach]:
    probes, listen = config.probes.address, config.listen.address
    if isinstance(probes, TcpAddress) and isinstance(listen, TcpAddress) and probes.port == listen.port != 0:
        yield Breach(("probes", "address"), "another port than listen.address", f"'{probes}'")


def workers_are_replaced_first(config: Config) -> Iterator[Breach]:
    """Memory that a process has once held it may keep: one that refuses calls for good must not also be kept."""
    memory = config.listen.limits.memory
    if memory is not None and memory <= config.worker_memory:
        yield Breach(MEMORY, f"more than worker_memory, which is {config.worker_memory}", f"'{memory}'")


LISTEN_TLS = (("listen", "address"), TLS, ("listen", "unsafe_plaintext"))
CROSS_RULES: tuple[CrossRule, ...] = (
    CrossRule(LISTEN_TLS, plaintext_stays_local),
    CrossRule((TLS, MTLS), certificates_need_tls),
    CrossRule((TLS, MTLS), certificates_are_asked_for),
    CrossRule((TLS, MTLS), certificates_have_a_ca),
    CrossRule((MTLS,), domains_are_distinct),
    CrossRule((MTLS, JWT, API_KEYS), identities_can_occur),
    CrossRule((POLICIES, ADMINS), admins_need_policies),
    CrossRule((MTLS, JWT, API_KEYS, ATTRIBUTES), attributes_can_occur),
    CrossRule((METADATA,), metadata_has_names_of_its_own),
    CrossRule((JWT,), issuers_are_distinct),
    CrossRule((JWT,), issuers_have_keys),
    CrossRule((JWT, DPOP), proofs_have_tokens),
    CrossRule((("upstream", "protocol"), ("upstream", "services")), rules_can_tell_models),
    CrossRule((LIMITS, API_KEYS), limits_are_distinct),
    CrossRule((LIMITS,), limits_have_their_unit),
    CrossRule((LIMITS,), limits_refill),
    CrossRule((LIMITS, ("upstream", "protocol"), ("upstream", "services")), limits_can_tell),
    CrossRule((LIMITS, MTLS, JWT, API_KEYS), limits_can_identify),
    CrossRule(
        (("upstream", "address"), ("upstream", "tls"), ("upstream", "unsafe_open_upstream")), remote_upstreams_have_tls
    ),
    CrossRule((("upstream", "address"), ("upstream", "tls")), upstream_tls_is_whole),
    CrossRule((("upstream", "services"),), services_are_distinct),
    CrossRule((("upstream", "address"), ("listen", "address")), sockets_differ),
    CrossRule((("upstream", "connections"), ("upstream", "connections_most")), connections_grow),
    CrossRule((("probes", "address"), ("listen", "address")), probes_stand_apart),
    CrossRule((MEMORY, ("worker_memory",)), workers_are_replaced_first),
)
