# ruff: noqa: E501  # a fault is told in one line, and stands here in one
import pytest

from tests.config.configs import SOUND, faults, load

LISTEN = "listen: {tls: {client_ca: ca.pem}}\n"
JWT = "listen: {{tls: {{client_certificates: none}}}}\nauthentication: {{jwt: [{}]}}\n"
PLAIN = "listen: {tls: none}\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", '"[::1]:1"', '"unix:///run/s.sock"'])
def test_plaintext_is_for_loopback(address: str) -> None:
    assert load(f"listen: {{address: {address}, tls: none}}").listen.tls is None


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:1", "example.org:1", '"[::]:1"'])
def test_plaintext_elsewhere_is_unsafe(address: str) -> None:
    (fault,) = faults(f"listen: {{address: {address}, tls: none}}")
    assert fault.startswith("listen.tls (line 1): expected TLS on an address that other hosts reach, came none on ")
    config = load(f"listen: {{address: {address}, tls: none, unsafe_plaintext: true}}")
    assert config.warnings() == ("listen.unsafe_plaintext",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "listen.tls.client_ca: expected a PEM file with the CAs of client certificates, came nothing"),
        (
            "authentication: {mtls: {trust_domains: [a, {name: b, ca: b.pem}, c]}}",
            "listen.tls.client_ca: expected a PEM file with the CAs of trust domain a, c, came nothing",
        ),
        (
            PLAIN + "authentication: {mtls: {trust_domains: [a]}}",
            "listen.tls (line 1): expected TLS, because authentication.mtls reads client certificates, came none",
        ),
        (
            "listen: {tls: {client_certificates: none}}\nauthentication: {mtls: {trust_domains: [a]}}",
            "listen.tls.client_certificates (line 1): expected 'required' or 'optional', because authentication.mtls reads "
            "client certificates, came 'none'",
        ),
        (
            LISTEN + "authentication: {mtls: {trust_domains: [a, {name: a, ca: b.pem}]}}",
            "authentication.mtls.trust_domains[1] (line 2): expected each trust domain once, came 'a' again",
        ),
        (
            LISTEN + 'authorization: {rules: [{identities: ["dns:a"], methods: [/**]}]}',
            "authentication.mtls: expected a mapping, because authorization.rules name identities; this, "
            "authentication.jwt or authentication.api_keys proves them, came nothing",
        ),
        (
            SOUND + 'authorization: {rules: [{identities: ["cn:a"], methods: [/**]}]}',
            "authorization.rules[0].identities[0] (line 4): expected an identity that authentication.mtls proves, came 'cn:a'; "
            "cn: needs authentication.mtls.allow_common_name: true",
        ),
        (
            SOUND + 'authorization: {attributes: {"user:okta/*": {a: 1}}}',
            "authorization.attributes.user:okta/* (line 4): expected an issuer of authentication.jwt, came 'user:okta/*'",
        ),
        (
            SOUND + "authorization: {metadata: {size: x-size}}",
            "authorization.metadata.size (line 4): expected another name, for every request has an attribute of this one, "
            "came 'size'",
        ),
        (
            SOUND + "authorization: {attributes: {models: {a: 1}}}",
            'authorization.attributes.models.[key] (line 4): expected a pattern of resources such as "models/fraud-*", or '
            "of identities such as \"spiffe://domain/path\", came 'models'",
        ),
        (
            SOUND + 'authorization: {attributes: {"models/*": {1a: 1}}}',
            'authorization.attributes.models/*.1a (line 4): expected an attribute\'s name: letters, digits or "_", no digit '
            "first, came '1a'",
        ),
        (
            SOUND + 'authorization: {attributes: {"models/*": {a: [1]}}}',
            "authorization.attributes.models/*.a (line 4): expected a text, a number, true or false, or a list of texts, "
            "came a list of 1",
        ),
        (
            SOUND + 'authorization: {attributes: {"models/*": {a: 9223372036854775808}}}',
            "authorization.attributes.models/*.a (line 4): expected a finite number of 64 bits at most, came the number "
            "9223372036854775808",
        ),
        (
            SOUND + "authorization: {metadata: {a: X-A}}",
            "authorization.metadata.a (line 4): expected a metadata name in lower case, without -bin at its end, came "
            "'X-A'",
        ),
        (
            SOUND + "authorization: {metadata: {a: x-bin}}",
            "authorization.metadata.a (line 4): expected a metadata name in lower case, without -bin at its end, came "
            "'x-bin'",
        ),
        (
            SOUND + "authorization: {locations: {eu: [10.0.0.1/8]}}",
            "authorization.locations.eu[0] (line 4): expected a network such as 10.0.0.0/8 or 2001:db8::/32, came "
            "'10.0.0.1/8'",
        ),
        (
            SOUND + 'authorization: {bootstrap_admins: ["spiffe://example.org/a"]}',
            "authorization.policies (line 4): expected true, because authorization.bootstrap_admins are granted a role, "
            "came false",
        ),
        (
            SOUND + 'authorization: {policies: true, bootstrap_admins: ["spiffe://example.com/a"]}',
            "authorization.bootstrap_admins[0] (line 4): expected a trust domain of "
            "authentication.mtls.trust_domains, came 'spiffe://example.com/a'",
        ),
        (
            SOUND + 'authorization: {policies: true, bootstrap_admins: ["key:a"]}',
            "authorization.bootstrap_admins[0] (line 4): expected no API key: what its holder may do is said by the key, "
            "came 'key:a'",
        ),
        (
            LISTEN + 'authorization: {policies: true, bootstrap_admins: ["dns:a"]}',
            "authentication.mtls: expected a mapping, because authorization.bootstrap_admins are identities; this, "
            "authentication.jwt or authentication.api_keys proves them, came nothing",
        ),
        (
            SOUND + 'authorization: {rules: [{identities: ["spiffe://example.com/*"], methods: [/**]}]}',
            "authorization.rules[0].identities[0] (line 4): expected a trust domain of "
            "authentication.mtls.trust_domains, came 'spiffe://example.com/*'",
        ),
        (
            JWT.format('{name: login, issuer: "https://a", audiences: [s]}')
            + 'authorization: {rules: [{identities: ["user:logon/*"], methods: [/**]}]}',
            "authorization.rules[0].identities[0] (line 3): expected an issuer of authentication.jwt, came 'user:logon/*'",
        ),
        (
            JWT.format('{name: login, issuer: "https://a", audiences: [s]}')
            + 'authorization: {rules: [{identities: ["dns:a"], methods: [/**]}]}',
            "authorization.rules[0].identities[0] (line 3): expected an identity that authentication.mtls proves, came 'dns:a'",
        ),
        (
            JWT.format('{name: login, issuer: "https://a", audiences: [s]}')
            + 'limits: [{per: identity, rate: 1/second, identities: ["key:abc"]}]',
            "limits[0].identities[0] (line 3): expected no API key where authentication.api_keys is not set, came 'key:abc'",
        ),
        (
            JWT.format(
                '{name: login, issuer: "https://a", audiences: [s]}, {name: login, issuer: "https://b", audiences: [s]}'
            ),
            "authentication.jwt[1].name (line 2): expected each issuer's name once, came 'login' again",
        ),
        (
            JWT.format(
                '{name: a, issuer: "https://a", audiences: [s]}, {name: b, issuer: "https://a", audiences: [s]}'
            ),
            "authentication.jwt[1].issuer (line 2): expected each issuer once, came 'https://a' again",
        ),
        (
            JWT.format('{name: a, issuer: "https://a", audiences: [s], keys: {file: k, url: "https://k"}}'),
            "authentication.jwt[0].keys (line 2): expected a file or a url, came both",
        ),
        (
            JWT.format("{name: a, issuer: an-issuer, audiences: [s]}"),
            "authentication.jwt[0].keys (line 2): expected a file or a url, for an issuer that is no https URL has no discovery document, came neither",
        ),
        (
            LISTEN + "authentication: {mtls: {trust_domains: [a]}, dpop: {origins: [https://a.example]}}",
            "authentication.dpop (line 2): expected an issuer in authentication.jwt, whose tokens proofs are of, came none",
        ),
        (
            JWT.format('{name: a, issuer: an-issuer, audiences: [s], keys: {url: "http://k.example/"}}'),
            "authentication.jwt[0].keys.url (line 2): expected an https URL, or an http URL of this host such as http://127.0.0.1:8080/keys, came 'http://k.example/'",
        ),
        (
            SOUND
            + 'authorization: {rules: [{identities: ["dns:a"], methods: [/**], models: [m]}]}\nupstream: {protocol: opaque}',
            "authorization.rules[0].models (line 4): expected no models with upstream.protocol 'opaque', which names none, "
            "came a list of 1; set the protocol, or model_field of a service in upstream.services",
        ),
        (
            LISTEN + "upstream: {address: 10.0.0.1:8001}",
            "upstream.tls (line 2): expected TLS to a model server on another host, came none to 10.0.0.1:8001; else set "
            "upstream.unsafe_open_upstream: true",
        ),
        (
            LISTEN + "upstream: {tls: {ca: a, certificate: b}}",
            "upstream.tls.key (line 2): expected a file, because upstream.tls.certificate is set, came nothing",
        ),
        (
            LISTEN + "upstream: {tls: {ca: a, key: b}}",
            "upstream.tls.certificate (line 2): expected a file, because upstream.tls.key is set, came nothing",
        ),
        (
            LISTEN + 'upstream: {address: "unix:///a", tls: {ca: a}}',
            "upstream.tls.server_name (line 2): expected the name in its certificate, for a Unix socket has none, came nothing",
        ),
        (
            LISTEN + "upstream: {services: [{service: a.B}, {service: a.B}]}",
            "upstream.services[1].service (line 2): expected each service once, came 'a.B' again",
        ),
        (
            LISTEN + "upstream: {services: [{service: a.B, methods: [{name: C}, {name: C}]}]}",
            "upstream.services[0].methods[1].name (line 2): expected each method once, came 'C' again",
        ),
        (
            LISTEN + "upstream: {address: [127.0.0.1:1, '10.0.0.1:1']}",
            "upstream.tls (line 2): expected TLS to a model server on another host, came none to 10.0.0.1:1; else set upstream.unsafe_open_upstream: true",
        ),
        (
            "listen: {tls: none, limits: {memory: 1GiB}}",
            "listen.limits.memory (line 1): expected more than worker_memory, which is 2GiB, came '1GiB'",
        ),
        (
            LISTEN + "upstream: {connections: 3, connections_most: 2}",
            "upstream.connections_most (line 2): expected at least upstream.connections, which is 3, came the number 2",
        ),
        (
            LISTEN + "upstream: {address: [127.0.0.1:1, 127.0.0.1:8443]}",
            "upstream.address (line 2): expected another address than listen.address, came '127.0.0.1:8443'",
        ),
        (
            LISTEN + "upstream: {address: 127.0.0.1:8443}",
            "upstream.address (line 2): expected another address than listen.address, came '127.0.0.1:8443'",
        ),
    ],
)
def test_one_breach(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_common_names_and_models_where_they_can_be_told() -> None:
    text = """
listen: {tls: {client_ca: ca.pem}}
authentication: {mtls: {trust_domains: [a], allow_common_name: true}}
authorization: {rules: [{identities: ["cn:A Name"], methods: ["/a.B/C"], models: [m]}]}
upstream: {protocol: opaque, services: [{service: a.B, model_field: [2, 1]}]}
"""
    assert load(text).authorization.rules[0].models == ("m",)


def test_every_unsafe_setting_is_told() -> None:
    text = """
listen: {address: "0.0.0.0:1", tls: {client_ca: ca.pem, unsafe_allow_missing_crl: true}, unsafe_plaintext: true}
upstream: {address: "10.0.0.1:1", tls: {ca: ca.pem, unsafe_allow_tls12: true}, unsafe_open_upstream: true}
unsafe_observe_only: true
"""
    assert load(text).warnings() == (
        "listen.tls.unsafe_allow_missing_crl",
        "listen.unsafe_plaintext",
        "upstream.tls.unsafe_allow_tls12",
        "upstream.unsafe_open_upstream",
        "unsafe_observe_only",
    )


def test_a_rule_says_nothing_about_a_value_that_is_a_fault_by_itself() -> None:
    assert faults("listen: {address: 0.0.0.0:1, tls: none, unsafe_plaintext: yes}") == [
        "listen.unsafe_plaintext (line 1): expected true or false, came 'yes'"
    ]


@pytest.mark.parametrize(
    "origin", ["https://a.example", "https://a.example:8443", "http://127.0.0.1:1", "https://[::1]:1", "https://A.b"]
)
def test_an_origin_of_proofs(origin: str) -> None:
    said = f'{{jwt: [{{name: a, issuer: "https://a.example", audiences: [b]}}], dpop: {{origins: ["{origin}"]}}}}'
    config = load(f"listen: {{tls: {{client_certificates: none}}}}\nauthentication: {said}")
    assert config.authentication.dpop is not None
    assert config.authentication.dpop.origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    ["", "a.example", "https://a.example/", "https://a.example/x", "https://u@a.example", "ftp://a", "https://a:0"],
)
def test_what_is_no_origin(origin: str) -> None:
    said = f'{{jwt: [{{name: a, issuer: "https://a.example", audiences: [b]}}], dpop: {{origins: ["{origin}"]}}}}'
    (fault,) = faults(f"listen: {{tls: {{client_certificates: none}}}}\nauthentication: {said}")
    assert "authentication.dpop.origins[0] (line 2): expected an origin such as https://" in fault
