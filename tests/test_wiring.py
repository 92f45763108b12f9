from ipaddress import ip_network
from pathlib import Path
from random import Random

import pytest

from interceptors.contract import Method, View
from interceptors.ledger import Bucket, NoLedger
from interceptors.limit import Budget
from sidecar import wiring
from sidecar.policy.access import Given, PolicyAccess
from sidecar.relay.tls import TrustAnchor
from tests.config.configs import DIRECTORY, SOUND, load

CA = DIRECTORY / "ca.pem"


def test_each_trust_domain_has_its_own_ca_or_the_common_one() -> None:
    text = "listen: {tls: {client_ca: ca.pem, crl: crl.pem}}\n"
    settings = wiring.server_tls(load(text + "authentication: {mtls: {trust_domains: [a, {name: b, ca: b.pem}]}}"))
    assert settings is not None
    assert settings.trust == (TrustAnchor("a", CA), TrustAnchor("b", DIRECTORY / "b.pem"))
    assert settings.crl == DIRECTORY / "crl.pem"
    alone = wiring.server_tls(load(text))
    assert alone is not None
    assert alone.trust == (TrustAnchor("", CA),)


def test_nobody_is_trusted_where_no_certificate_is_asked_for() -> None:
    settings = wiring.server_tls(load("listen: {tls: {client_ca: ca.pem, client_certificates: none}}"))
    assert settings is not None
    assert settings.trust == ()
    assert wiring.server_tls(load("listen: {tls: none}")) is None


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("address: 'model.test:1', tls: {ca: ca.pem}", "model.test"),
        ("address: 'model.test:1', tls: {ca: ca.pem, server_name: other.test}", "other.test"),
        ("address: 'unix:///a', tls: {ca: ca.pem, server_name: other.test}", "other.test"),
    ],
)
def test_the_model_server_is_known_by_its_host_unless_named(upstream: str, name: str) -> None:
    settings = wiring.client_tls(load(f"{SOUND}upstream: {{{upstream}}}"))
    assert settings is not None
    assert settings.server_name == name
    assert settings.ca == CA
    assert wiring.client_tls(load(SOUND)) is None


SOURCE = """
from interceptors.contract import Interceptor
from interceptors.facts import CalledModel

class Late(Interceptor):
    name = "late"
    needs = frozenset({{{needs}}})
"""


@pytest.mark.parametrize(
    ("telemetry", "first"), [("", "correlate"), ("telemetry: {otlp: 'http://127.0.0.1:4317'}\n", "trace")]
)
def test_the_order_of_the_chain(tmp_path: Path, telemetry: str, first: str) -> None:
    (tmp_path / "late.py").write_text(SOURCE.format(needs=""))
    config = load(f"{SOUND}{telemetry}interceptors: [{{use: '{tmp_path}/late.py:Late'}}]\nunsafe_observe_only: true")
    chain = wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32))
    # Who only observes takes nothing out of answers.
    assert [link.name for link in chain.links] == [first, "identify", "authorize", "late", "sequences", "record"]
    assert chain.observe_only


def test_nonces_are_told_right_behind_who_calls() -> None:
    text = JWT + "  dpop: {origins: ['https://a.test'], nonce: %s}\n"
    for said, expected in (
        ("true", ["correlate", "identify", "nonces", "authorize"]),
        ("false", ["correlate", "identify", "authorize"]),
    ):
        chain = wiring.chain(load(text % said), Random(0).randbytes, NoLedger(), bytes(32))
        assert [link.name for link in chain.links][: len(expected)] == expected


def test_tenants_are_those_that_issuers_speak_for() -> None:
    assert wiring.tenants(load(JWT)) == {"default", "acme", "globex"}
    assert wiring.tenants(load(SOUND)) == frozenset()


JWT = """
listen: {tls: {client_ca: ca.pem, client_certificates: none}}
authentication:
  jwt:
    - {name: a, issuer: "https://a.test", audiences: [x]}
    - {name: b, issuer: "https://b.test", audiences: [x], tenants: {claim: t, allowed: [acme, globex]}}
    - {name: c, issuer: "https://c.test", audiences: [x], tenant: acme}
"""
POLICIES = """
authorization:
  policies: true
  attributes: {"models/fraud-*": {level: 3}, "models/*": {level: 1, regions: [eu]}, "dns:*": {team: a}}
  metadata: {purpose: x-purpose}
  locations: {lab: [10.1.0.0/16], eu: [10.0.0.0/8]}
"""


def test_policies_decide_where_the_config_says_so() -> None:
    assert wiring.access(load(SOUND), wiring.UNKNOWN) is None
    config = load(SOUND + POLICIES)
    made = wiring.access(config, wiring.UNKNOWN)
    given = Given(
        (("models/*", {"level": 1, "regions": ("eu",)}), ("models/fraud-*", {"level": 3})),
        (("dns:*", {"team": "a"}),),
        (("purpose", b"x-purpose"),),
        (("eu", ip_network("10.0.0.0/8")), ("lab", ip_network("10.1.0.0/16"))),
    )
    assert made is not None
    assert made.like(PolicyAccess(wiring.UNKNOWN, given, config.state.max_staleness))
    chain = wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32))
    assert chain.plan(Method("/a.B/C", True, True)).request_view is View.BYTES


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("models/a b%2fc", "names as resources have them, models/a b%2Fc"),
        ("models/modèle-*", "names as resources have them, models/mod%C3%A8le-*"),
        ("models/a%00*", "a model's name or version: 256 characters at most, and no NUL"),
        (f"models/{'m' * 257}", "a model's name or version: 256 characters at most, and no NUL"),
        (f"models/m/versions/{'1' * 257}", "a model's name or version: 256 characters at most, and no NUL"),
    ],
)
def test_attributes_of_what_no_call_can_be_about(pattern: str, expected: str) -> None:
    config = load(SOUND + f'authorization: {{policies: true, attributes: {{"{pattern}": {{level: 1}}}}}}')
    with pytest.raises(wiring.WiringError) as raised:
        wiring.access(config, wiring.UNKNOWN)
    ((place, problem),) = raised.value.faults
    assert problem == f"expected {expected}"
    assert place.startswith(f"authorization.attributes.{pattern[:80]}")


LIMITS = """
authorization: {rules: [{identities: ["dns:a"], methods: ["/a.B/*", "/a.B/C"], models: [m, "n*"]}]}
limits:
- {per: identity, rate: 1000/second, burst: 200}
- {per: [source, model], rate: 10MiB/minute, weight: bytes, name: big, models: [o]}
"""


def test_limits_stand_behind_authorization() -> None:
    names = [link.name for link in wiring.chain(load(SOUND), Random(0).randbytes, NoLedger(), bytes(32)).links]
    assert names == ["correlate", "identify", "authorize", "visible", "sequences", "record"]
    chain = wiring.chain(load(SOUND + LIMITS), Random(0).randbytes, NoLedger(), bytes(32))
    names = [link.name for link in chain.links]
    assert names == ["correlate", "identify", "authorize", "visible", "limit", "sequences", "record"]
    # Bytes are counted of every message, so that none is passed through unseen.
    assert chain.plan(Method("/a.B/C", True, True)).request_view is View.BYTES


def test_budgets_are_what_the_config_says() -> None:
    first, second = (wiring.budget(limit) for limit in load(SOUND + LIMITS).limits)
    assert first == Budget("identity", Bucket(1000, 1, 200), ("identity",))
    assert second == Budget("big", Bucket(10 << 20, 60, 10 << 20), ("model", "source"), "bytes", models=("o",))


def test_a_wrong_order_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(SOURCE.format(needs="int"))
    config = load(f"{SOUND}interceptors: [{{use: '{tmp_path}/late.py:Late'}}]")
    with pytest.raises(
        wiring.WiringError, match="link 'late' needs the fact int; it is given by no link of this chain"
    ):
        wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32))


def test_an_interceptor_that_does_not_load_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(SOURCE.format(needs="int"))
    uses = ["interceptors.record:Record", f"{tmp_path}/none.py:A", f"{tmp_path}/late.py:Late", f"{tmp_path}/late.py:No"]
    config = load(SOUND + f"interceptors: [{', '.join(f'{{use: {use!r}}}' for use in uses)}]")
    with pytest.raises(wiring.WiringError) as raised:
        wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32))
    assert [path for path, _ in raised.value.faults] == ["interceptors[0]", "interceptors[1]", "interceptors[3]"]
    assert raised.value.faults[0][1] == "expected a name that no other link has, came 'record'"


def test_a_rule_that_the_chain_cannot_read_is_a_fault() -> None:
    rule = f"{{identities: ['dns:a'], methods: ['/a.B/{'c' * 3000}']}}"
    config = load(f"{SOUND}authorization: {{rules: [{rule}]}}")
    with pytest.raises(wiring.WiringError, match=r"^authorization.rules\[0\].methods\[0\]: "):
        wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32))


def test_sequences_are_shared_where_the_config_says_so() -> None:
    config = load(SOUND + "authorization: {unsafe_shared_sequences: true}")
    assert "sequences" not in [
        link.name for link in wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(32)).links
    ]
    assert config.warnings() == ("authorization.unsafe_shared_sequences",)


@pytest.mark.parametrize(
    ("permissions", "fault"),
    [
        ("[models.*, sidecar.drain, upstream.opaque, acme.score, acme.reload]", ""),
        ("[models.read, models.shared_memroy]", "authorization.rules[0].permissions[1]"),
        ("[model.*]", "authorization.rules[0].permissions[0]"),
    ],
)
def test_a_permission_that_nothing_needs_is_a_fault(permissions: str, fault: str) -> None:
    rule = f"{{identities: ['dns:a'], methods: ['/**'], permissions: {permissions}}}"
    methods = "[{name: Reload, permission: acme.reload}]"
    services = f"[{{service: acme.v1.Scorer, permission: acme.score, methods: {methods}}}]"
    config = load(f"{SOUND}upstream: {{services: {services}}}\nauthorization: {{rules: [{rule}]}}")
    if not fault:
        link = wiring.authorization(config)
        assert link.depth(Method("/a.B/C"), frozenset()) is None
        return
    with pytest.raises(wiring.WiringError, match="expected a permission that some method needs") as raised:
        wiring.authorization(config)
    assert [path for path, _ in raised.value.faults] == [fault]
