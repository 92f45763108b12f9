"""A config → what its parts are made of. `app` serves with it; `check` tries the same without serving."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

from interceptors.access import Access, covers
from interceptors.authorize import KINDS, Authorize, Rule, RuleError
from interceptors.chain import Chain, ChainError
from interceptors.contract import Interceptor
from interceptors.correlate import Correlate
from interceptors.identify import Identify
from interceptors.ledger import Bucket, Ledger
from interceptors.limit import Budget, Limit
from interceptors.nonces import Nonces as TellNonces
from interceptors.record import Record
from interceptors.sequences import Sequences
from interceptors.trace import Trace
from interceptors.visible import Visible
from sidecar import plugins
from sidecar.config.access import Rule as ConfigRule
from sidecar.config.access import TokenIssuer
from sidecar.config.addresses import TcpAddress
from sidecar.config.faults import visible
from sidecar.config.limits import Limit as ConfigLimit
from sidecar.config.model import Config
from sidecar.errors import SettingError
from sidecar.identity import dpop, jwks
from sidecar.identity.credentials import Credentials
from sidecar.identity.dpop import Proofs
from sidecar.identity.dpop_nonces import Nonces
from sidecar.identity.held import Followed, Held, Told
from sidecar.identity.jwks import KeySet
from sidecar.identity.keys_known import KeysKnown
from sidecar.identity.model import Identified, Issuer
from sidecar.identity.revocations_known import RevocationsKnown
from sidecar.identity.sources import KeySource
from sidecar.identity.tokens import Tokens
from sidecar.policy import names
from sidecar.policy.access import Given, PolicyAccess
from sidecar.policy.known import Known as PolicyKnown
from sidecar.relay.codecs.registry import registry
from sidecar.relay.tls import ClientTlsSettings, ServerTlsSettings, TrustAnchor

# Whoever is known by a certificate or a token may claim what `langtrain-sidecar init` has printed.
CLAIM = Rule(
    tuple(f"{KINDS[kind]}**" for kind in ("spiffe", "dns", "cn", "user")),
    ("/langtrain.v1.AdministratorService/ClaimAdministrator",),
    permissions=("administrators.claim",),
)
WILD = frozenset("*?")  # in patterns of models
UNSERVED = bytes(32)  # in place of a key where a config is only tried
UNTOLD = Told(lambda: inf)
UNKNOWN = PolicyKnown(lambda: inf, lambda tenants: None, lambda: 0.0)


class WiringError(SettingError):
    """Parts of a config that do not fit together."""


def server_tls(config: Config) -> ServerTlsSettings | None:
    """None where callers come in plaintext."""
    tls, mtls = config.listen.tls, config.authentication.mtls
    if tls is None:
        return None
    if mtls is None:
        anchors = [("", tls.client_ca)]
    else:
        anchors = [(domain.name, domain.ca or tls.client_ca) for domain in mtls.trust_domains]
    trust = tuple(TrustAnchor(name, ca) for name, ca in anchors if ca)
    return ServerTlsSettings(
        certificate=tls.certificate,
        key=tls.key,
        trust=trust if tls.client_certificates != "none" else (),
        client_certificates=tls.client_certificates,
        crl=tls.crl,
        unsafe_allow_missing_crl=tls.unsafe_allow_missing_crl,
    )


def client_tls(config: Config) -> ClientTlsSettings | None:
    """None where the model server is reached in plaintext."""
    tls = config.upstream.tls
    if tls is None:
        return None
    # Each connection says which host it is for; a Unix socket has none, and a config that names one then.
    host = next((address.host for address in config.upstream.address if isinstance(address, TcpAddress)), "")
    return ClientTlsSettings(
        ca=tls.ca,
        server_name=tls.server_name or host,
        certificate=tls.certificate,
        key=tls.key,
        unsafe_allow_tls12=tls.unsafe_allow_tls12,
    )


def chain(
    config: Config,
    random_bytes: Callable[[int], bytes],
    ledger: Ledger,
    sequence_key: bytes,
    identify: Identify | None = None,
    authorize: Authorize | None = None,
) -> Chain:
    """Trace (or correlate, where no spans are exported), identify, nonces (where proofs need them), authorize,
    visible, limit (where there are limits),
    the config's own interceptors, sequences, record.

    random_bytes: as of random.Random.randbytes, for ids of spans.  ledger: of the limits.  sequence_key: as of
    Sequences.  identify, authorize: those links of this config's, where they have been made.  Raises WiringError.
    """
    links: list[Interceptor] = [
        Trace(random_bytes, config.telemetry.sample) if config.telemetry.otlp else Correlate(),
        identify or identification(config, keys(config, UNTOLD)),
        *([TellNonces()] if config.authentication.dpop is not None and config.authentication.dpop.nonce else ()),
        authorize or authorization(config, access(config, UNKNOWN)),
        *(() if config.unsafe_observe_only else [Visible()]),
        *([_limit(config, ledger)] if config.limited else ()),
    ]
    last: list[Interceptor] = [
        # Nearest to the model server: the config's own links see what callers say, and hear what callers will.
        *(() if config.authorization.unsafe_shared_sequences else [Sequences(sequence_key)]),
        Record(),
    ]
    links += [*_own(config, {link.name for link in (*links, *last)}), *last]
    try:
        return Chain(links, config.unsafe_observe_only)
    except ChainError as error:
        raise WiringError("interceptors", str(error)) from error


def standing(config: Config, identify: Identify, authorize: Authorize) -> Chain:
    """The links that decide who may call what, alone: asked again, of calls that are open, when the config changes.

    identify, authorize: as of `chain`.
    """
    return Chain([identify.again(), authorize], config.unsafe_observe_only)


def identification(
    config: Config,
    held: Held,
    known: KeysKnown | None = None,
    revoked: RevocationsKnown | None = None,
    ledger: Ledger | None = None,
    nonce_key: bytes = UNSERVED,
) -> Identify:
    """The link of the config's ways to know callers.

    held: its issuers' keys.  known: API keys.  revoked: what is.  ledger: of proofs that were used.
    nonce_key: of this boot, where anything is served.
    """
    mtls, issuers, api_keys = config.authentication.mtls, config.authentication.jwt, config.authentication.api_keys
    domains = [domain.name for domain in mtls.trust_domains] if mtls else []
    staleness_s = config.state.max_staleness
    revoked = revoked if config.authentication.revocations else None
    urls = {each.name: each.issuer for each in issuers}

    def token_revoked(who: Identified, digest: bytes) -> bool:
        return revoked is not None and revoked.token(who, urls[who.issuer], digest, staleness_s)

    credentials: Credentials | None = None
    if issuers or api_keys is not None:
        tokens = Tokens(map(issuer, issuers), held, token_revoked) if issuers else None
        reads = proofs(config, nonce_key)
        share = None if reads is None else dpop.share(len(tenants(config)), reads.kept_s)
        credentials = Credentials(tokens, None if api_keys is None else known, staleness_s, reads, share)
    refuse = None if revoked is None else partial(revoked.refuse, max_staleness_s=staleness_s)
    return Identify(domains, bool(mtls and mtls.allow_common_name), credentials, refuse, ledger)


def tenants(config: Config) -> frozenset[str]:
    """Those that tokens can be of."""
    return frozenset(tenant for each in config.authentication.jwt for tenant in issuer(each).tenants)


def proofs(config: Config, nonce_key: bytes) -> Proofs | None:
    """How proofs of possession are read; None where tokens that are bound to a key are not taken."""
    said = config.authentication.dpop
    if said is None:
        return None
    return Proofs(said.origins, said.algorithms, said.window, Nonces(nonce_key, said.window) if said.nonce else None)


def keys(config: Config, told: Told) -> Held:
    """The keys of the config's issuers: those that files hold now, and those that are told of.

    Raises WiringError for a file that holds none.
    """
    files: dict[str, KeySet] = {}
    followed: dict[str, Followed] = {}
    faults: list[tuple[str, str]] = []
    for at, each in enumerate(config.authentication.jwt):
        if each.keys.file is None:
            followed[each.name] = Followed(source(each).key, frozenset(each.algorithms), each.keys.longest)
            continue
        try:
            files[each.name] = jwks.read(each.keys.file.read_bytes(), each.algorithms)
        except OSError as error:
            faults.append((f"authentication.jwt[{at}].keys.file", f"{each.keys.file}: {error.strerror}"))
        except jwks.KeySetError as error:
            faults.append((f"authentication.jwt[{at}].keys.file", f"{each.keys.file}: {error}"))
    if faults:
        raise WiringError(*faults[0], *faults[1:])
    return Held(files, followed, told, config.state.max_staleness)


def sources(config: Config) -> list[KeySource]:
    """Where the keys are that are fetched."""
    return [source(each) for each in config.authentication.jwt if each.keys.file is None]


def source(said: TokenIssuer) -> KeySource:
    keys = said.keys
    return KeySource(said.issuer, keys.url or "", str(keys.ca) if keys.ca else "", keys.refresh)


def issuer(said: TokenIssuer) -> Issuer:
    """An issuer as tokens are held against it."""
    roles, tenants = said.roles, said.tenants
    return Issuer(
        said.name,
        said.issuer,
        frozenset(said.audiences),
        frozenset(said.algorithms),
        frozenset("" if kind == "none" else kind.lower() for kind in said.types),
        inf if said.longest is None else said.longest,
        said.subject,
        frozenset((said.tenant,) if tenants is None else tenants.allowed),
        () if tenants is None else tenants.claim,
        () if roles is None else roles.claim,
        None if roles is None else dict(roles.grant),
        dict(said.attributes),
    )


def _reachable(pattern: str) -> None:
    """Raises WiringError for resources of which no call can ever be about one."""
    try:
        names.reachable(pattern)
    except names.NameFault as error:
        raise WiringError(f"authorization.attributes.{visible(pattern)}", str(error)) from error


def access(config: Config, known: PolicyKnown) -> PolicyAccess | None:
    """Who decides by roles and policies; None where they are off. known: what there is of them."""
    said = config.authorization
    if not said.policies:
        return None
    # The order of a config's keys says nothing.
    patterns = sorted(said.attributes, key=lambda pattern: (len(pattern), pattern))
    of_identities = {pattern for pattern in patterns if pattern.startswith(tuple(KINDS.values()))}
    for pattern in patterns:
        if pattern not in of_identities:
            _reachable(pattern)
    given = Given(
        tuple((pattern, dict(said.attributes[pattern])) for pattern in patterns if pattern not in of_identities),
        tuple((pattern, dict(said.attributes[pattern])) for pattern in patterns if pattern in of_identities),
        tuple((name, header.encode()) for name, header in sorted(said.metadata.items())),
        tuple((name, network) for name, networks in sorted(said.locations.items()) for network in networks),
    )
    return PolicyAccess(known, given, config.state.max_staleness)


def authorization(config: Config, access: Access | None = None) -> Authorize:
    """The link of the config's rules. access: as of the function of that name.

    Raises WiringError for a rule that cannot be read, or names what nobody needs.
    """
    needed = registry(config.upstream.protocol, config.upstream.services).permissions
    for at, said in enumerate(config.authorization.rules):
        for number, pattern in enumerate(said.permissions or ()):
            if not any(covers(pattern, permission) for permission in needed):
                place = f"authorization.rules[{at}].permissions[{number}]"
                problem = f"expected a permission that some method needs, came '{pattern}'"
                raise WiringError(place, f"{problem}; there are {', '.join(sorted(needed))}")
    rules = [Rule(rule.identities, rule.methods, rule.models, rule.permissions) for rule in config.authorization.rules]
    if config.authorization.policies:
        rules.append(CLAIM)
    try:
        return Authorize(rules, config.authentication.api_keys is not None, access)
    except RuleError as error:
        place, _, problem = str(error).partition(": ")
        raise WiringError(f"authorization.{place}", problem) from error


def _limit(config: Config, ledger: Ledger) -> Limit:
    """What the config or a known protocol spells out has a bucket of its own; callers choose what else there is."""
    said: list[ConfigRule | ConfigLimit] = [*config.authorization.rules, *config.limits]
    methods = [method for each in said for method in each.methods or () if "*" not in method]
    models = [model for each in said for model in each.models or () if not WILD.intersection(model)]
    known = registry(config.upstream.protocol, config.upstream.services).paths
    own = config.authentication.api_keys is not None
    return Limit([budget(limit) for limit in config.limits], ledger, known.union(methods), models, own)


def budget(limit: ConfigLimit) -> Budget:
    """A limit as the link takes it."""
    bucket = Bucket(limit.rate.count, int(limit.rate.period), limit.capacity)
    # However the config lists them, the same parts name the same buckets.
    per = tuple(sorted(limit.per))
    return Budget(limit.title, bucket, per, limit.weight, limit.identities, limit.methods, limit.models)


def _own(config: Config, taken: set[str]) -> list[Interceptor]:
    """The config's own links. taken: names of others, which reasons and logs tell links apart by.

    Raises WiringError with every fault.
    """
    links: list[Interceptor] = []
    faults: list[tuple[str, str]] = []
    for number, plugin in enumerate(config.interceptors):
        try:
            link = plugins.load(plugin.use, plugin.settings)
        except plugins.PluginError as error:
            faults.append((f"interceptors[{number}]", str(error)))
            continue
        name = getattr(link, "name", "")
        if name in taken:
            faults.append(
                (f"interceptors[{number}]", f"expected a name that no other link has, came '{visible(name)}'")
            )
        taken.add(name)
        links.append(link)
    if faults:
        raise WiringError(*faults[0], *faults[1:])
    return links
