# ruff: noqa: E501  # a fault is told in one line, and stands here in one
from pathlib import Path

import pytest

from sidecar.config.addresses import TcpAddress, UnixAddress
from sidecar.config.faults import ConfigError
from sidecar.config.load import Loader
from sidecar.config.load import load as load_file
from sidecar.config.units import Rate
from tests.config.configs import SOUND, faults, load

EXAMPLE = Path(__file__).parents[2] / "examples" / "sidecar.yaml"
BASE = "listen: {tls: {client_ca: ca.pem}}\n"  # sound; each fault below stands on line 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("upstream: {address: 8001}", "upstream.address (line 2): expected host:port, [v6 address]:port or unix:///absolute/path, came the number 8001"),
        ("upstream: {address: 'host:0'}", "upstream.address (line 2): expected a port from 1 to 65535: nothing can be reached at port 0, came 'host:0'"),
        ("upstream: {address: ['[::1]:1', '[::1]:1']}", "upstream.address (line 2): expected each entry once, came '[::1]:1' twice"),
        ("upstream: {address: []}", "upstream.address (line 2): expected a list of at least one, came an empty list"),
        ("upstream: {address: ['[::1]:1', b]}", "upstream.address[1] (line 2): expected host:port, [v6 address]:port or unix:///absolute/path, came 'b'"),
        ("upstream: {health: {check: http}}", "upstream.health.check (line 2): expected 'tcp' or 'grpc', came 'http'"),
        ("upstream: {health: {service: a/b}}", "upstream.health.service (line 2): expected a gRPC service name such as \"package.Service\", came 'a/b'"),
        ("upstream: {ejection: {share: 1}}", "upstream.ejection.share (line 2): expected less than 1, came the number 1"),
        ("upstream: {retries: {attempts: -1}}", "upstream.retries.attempts (line 2): expected at least 0, came the number -1"),
        ("upstream: {when_unready: hang}", "upstream.when_unready (line 2): expected 'fail_fast' or 'wait', came 'hang'"),
        ("upstream: {adress: a:1}", "upstream.adress (line 2): expected a known key; did you mean 'address'?"),
        ("upstream: {protocol: oip}", "upstream.protocol (line 2): expected 'auto', 'open-inference', 'tf-serving' or 'opaque', came 'oip'"),
        ("upstream: {ports: 8000}", "upstream.ports (line 2): expected a list, came the number 8000"),
        ("upstream: {ports: [0]}", "upstream.ports[0] (line 2): expected at least 1, came the number 0"),
        ("upstream: {ports: [65536]}", "upstream.ports[0] (line 2): expected at most 65535, came the number 65536"),
        ("upstream: {ports: [1, 2, 1]}", "upstream.ports (line 2): expected each entry once, came '1' twice"),
        ("upstream: {connections: 1.0}", "upstream.connections (line 2): expected a whole number, came the number 1.0"),
        ("upstream: {connections: true}", "upstream.connections (line 2): expected a whole number, came true"),
        ("upstream: {connect_timeout: 5}", 'upstream.connect_timeout (line 2): expected a duration with a unit, such as "500ms", "10s", "5m", "1h" or "30d", came the number 5'),
        ("upstream: {connect_timeout: 1h}", "upstream.connect_timeout (line 2): expected a value from 100ms to 5m, came '1h'"),
        ("upstream: {stream_window: 1KiB}", "upstream.stream_window (line 2): expected a value from 64KiB to 1GiB, came '1KiB'"),
        ("upstream: {services: [{}]}", "upstream.services[0].service (line 2): expected a value, came nothing"),
        ("upstream: {services: [{service: /a.B}]}", "upstream.services[0].service (line 2): expected a gRPC service name such as \"package.Service\", came '/a.B'"),
        ("upstream: {tls: {}}", "upstream.tls.ca (line 2): expected a value, came nothing"),
        ("upstream: {tls: on}", "upstream.tls (line 2): expected a mapping, came 'on'"),
        ("upstream: {unsafe_open_upstream: yes}", "upstream.unsafe_open_upstream (line 2): expected true or false, came 'yes'"),
        ("upstream: []", "upstream (line 2): expected a mapping, came an empty list"),
        ("state: {directory: ''}", "state.directory (line 2): expected a file path, came ''"),
        ("state: {directory: 5}", "state.directory (line 2): expected a file path, came the number 5"),
        ("authentication: {mtls: {trust_domains: []}}", "authentication.mtls.trust_domains (line 2): expected a list of at least one, came an empty list"),
        ("authentication: {mtls: {trust_domains: [A]}}", 'authentication.mtls.trust_domains[0] (line 2): expected a trust domain: lower-case letters, digits, ".", "-" or "_", came \'A\''),
        ("authentication: {mtls: {trust_domains: [{name: a, key: b}]}}", "authentication.mtls.trust_domains[0].key (line 2): expected a known key; known keys: name, ca"),
        ("authentication: {basic: x}", "authentication.basic (line 2): expected a known key; known keys: mtls, jwt, api_keys, dpop, revocations"),
        ("interceptors: [{use: shout}]", 'interceptors[0].use (line 2): expected a class, as "./path/file.py:Class" or "package.module:Class", came \'shout\''),
        ("interceptors: [{use: 'a:B', settings: [x]}]", "interceptors[0].settings (line 2): expected a mapping, came a list of 1"),
        ("audit: {file: a/}\ntelemetry: {otlp: x}", 'telemetry.otlp (line 3): expected a URL such as "http://127.0.0.1:4317", of http or https, with a port and nothing else, came \'x\''),
        ("telemetry: {otlp: 'http://u:hunter2@h:1'}", 'telemetry.otlp (line 2): expected a URL such as "http://127.0.0.1:4317", of http or https, with a port and nothing else, came one with credentials, a path or a query, withheld'),
        ("telemetry: {sample: 1.5}", "telemetry.sample (line 2): expected at most 1, came the number 1.5"),
        ("telemetry: {sample: .nan}", "telemetry.sample (line 2): expected a finite number, came the number nan"),
        ("telemetry: {access_log: {file: 5}}", "telemetry.access_log.file (line 2): expected a file path, stderr or off, came the number 5"),
        ("telemetry: {access_log: {sample: 2}}", "telemetry.access_log.sample (line 2): expected at most 1, came the number 2"),
        ("probes: {address: 'unix:///run/probes'}", "probes.address (line 2): expected host:port or [v6 address]:port, came 'unix:///run/probes'"),
        ("probes: {address: 0.0.0.0:8443}", "probes.address (line 2): expected another port than listen.address, came '0.0.0.0:8443'"),
        ("probes: {max_staleness: 1ms}", "probes.max_staleness (line 2): expected a value from 1s to 1h, came '1ms'"),
        ('telemetry: {service_name: "a\\tb"}', "telemetry.service_name (line 2): expected a text of 1 to 255 printable characters, came 'a\\tb'"),
        ("workers: 0", "workers (line 2): expected a number from 1 to 64, or auto, came the number 0"),
        ("workers: true", "workers (line 2): expected a number from 1 to 64, or auto, came true"),
        ("worker_memory: 1MiB", "worker_memory (line 2): expected a value from 128MiB to 1024GiB, came '1MiB'"),
        ("unsafe_observe_only: off", "unsafe_observe_only (line 2): expected true or false, came 'off'"),
        ("pasword: hunter2", "pasword (line 2): expected a known key; known keys: listen, upstream, state, authentication, authorization, limits, interceptors, audit, telemetry, probes, workers, worker_memory, unsafe_observe_only"),
        ("autorization: {}", "autorization (line 2): expected a known key; did you mean 'authorization'?"),
        ('"a\\e[31m": 1', "a\\x1b[31m (line 2): expected a known key; known keys: listen, upstream, state, authentication, authorization, limits, interceptors, audit, telemetry, probes, workers, worker_memory, unsafe_observe_only"),
    ],
)  # fmt: skip
def test_one_fault(text: str, fault: str) -> None:
    assert faults(BASE + text) == [fault]


@pytest.mark.parametrize(
    ("tls", "fault"),
    [
        ("", "listen.tls (line 1): expected a mapping with certificate, key and client_ca, or none, came nothing"),
        ("off", "listen.tls (line 1): expected a mapping with certificate, key and client_ca, or none, came 'off'"),
        ("false", "listen.tls (line 1): expected a mapping with certificate, key and client_ca, or none, came false"),
        ("{client_ca: a, client_certificates: off}", "listen.tls.client_certificates (line 1): expected 'required', 'optional' or 'none', came 'off'"),
        ("{client_ca: a, key: [x]}", "listen.tls.key (line 1): expected a file path, came a list of 1"),
        ('{client_ca: a, key: "-----BEGIN PRIVATE KEY-----\\nhunter2"}', "listen.tls.key (line 1): expected a file path, came a text of 35 characters, withheld"),
        ('{client_ca: a, certificate: "-----BEGIN PRIVATE KEY-----\\nhunter2"}', "listen.tls.certificate (line 1): expected a file path, came a text of 35 characters, withheld"),
    ],
)  # fmt: skip
def test_listen_tls(tls: str, fault: str) -> None:
    assert faults(f"listen: {{tls: {tls}}}") == [fault]


def test_every_fault_at_once() -> None:
    text = """
listen:
  adress: foo
  address: 0.0.0.0:8443
  tls: none
  grace: 10
  limits: {resets: 10/fortnight, pings: {rate: 1/second, burst: 0}, idle: 0s}
upstream: {address: foo, ports: [1, 1, 0]}
authorization:
  rules:
    - {identities: [someone], methods: [/a]}
    - {identities: ["spiffe://example.org/*"]}
    - {identities: ["cn:x", "spiffe://other.org/x"], methods: [/a.B/*], models: []}
    - {identities: ["cn:x", "spiffe://other.org/x"], methods: [/a.B/*]}
authentication: {mtls: {trust_domains: [example.org]}}
"""
    assert faults(text) == [
        'authorization.rules[0].identities[0] (line 11): expected an identity typed by its form: "spiffe://domain/path", "dns:name" in lower case, "cn:name", "user:issuer/subject" or "key:id", came \'someone\'',
        'authorization.rules[0].methods[0] (line 11): expected a method pattern such as "/package.Service/Method", "/package.Service/*" or "/**", came \'/a\'',
        "authorization.rules[1].methods (line 12): expected a value, came nothing",
        "authorization.rules[2].models (line 13): expected a list of at least one, came an empty list",
        "authorization.rules[3].identities[0] (line 14): expected an identity that authentication.mtls proves, came 'cn:x'; cn: needs authentication.mtls.allow_common_name: true",
        "authorization.rules[3].identities[1] (line 14): expected a trust domain of authentication.mtls.trust_domains, came 'spiffe://other.org/x'",
        "listen.adress (line 3): expected a known key; did you mean 'address'?",
        'listen.grace (line 6): expected a duration with a unit, such as "500ms", "10s", "5m", "1h" or "30d", came the number 10',
        "listen.limits.idle (line 7): expected a value from 1s to 30d, came '0s'",
        'listen.limits.pings (line 7): expected a rate such as "100/second" or "1000/hour", or {rate: 100/second, burst: 200}, came a mapping',
        'listen.limits.resets (line 7): expected a rate such as "100/second" or "1000/hour", or {rate: 100/second, burst: 200}, came \'10/fortnight\'',
        "listen.tls (line 5): expected TLS on an address that other hosts reach, came none on 0.0.0.0:8443; listen on 127.0.0.1 or a Unix socket, or set listen.unsafe_plaintext: true",
        "listen.tls (line 5): expected TLS, because authentication.mtls reads client certificates, came none",
        "upstream.address (line 8): expected host:port, [v6 address]:port or unix:///absolute/path, came 'foo'",
        "upstream.ports (line 8): expected each entry once, came '1' twice",
        "upstream.ports[2] (line 8): expected at least 1, came the number 0",
    ]  # fmt: skip


def test_a_config_says_only_what_differs_from_the_defaults() -> None:
    config = load(SOUND)
    assert config.listen.address == TcpAddress("127.0.0.1", 8443)
    assert config.upstream.address == (TcpAddress("127.0.0.1", 8001),)
    assert config.listen.limits.resets == Rate(100, 1.0, 200)
    assert config.listen.limits.message == 16 << 20
    assert config.listen.grace == 30.0
    assert config.authorization.rules == ()
    assert config.warnings() == ()


def test_sections_without_content_mean_their_defaults() -> None:
    assert load(SOUND + "upstream:\nstate:\ntelemetry:\n") == load(SOUND)


def test_relative_paths_start_at_the_config_file() -> None:
    config = load(SOUND + "state: {directory: ../state}\ninterceptors: [{use: './a.py:B'}, {use: 'a.b:C'}]\n")
    assert config.listen.tls is not None
    assert config.listen.tls.client_ca == Path("/etc/sidecar/ca.pem")
    assert config.listen.tls.key == Path("/etc/sidecar/certs/server-key.pem")
    assert config.events_file == Path("/etc/state/audit/events.jsonl")
    assert [plugin.use for plugin in config.interceptors] == ["/etc/sidecar/a.py:B", "a.b:C"]


def test_short_forms() -> None:
    text = """
listen: {address: "unix:///run/s.sock", tls: {client_ca: ca.pem}}
upstream: {address: ["[::1]:8001"]}
authentication: {mtls: {trust_domains: [a, {name: b, ca: b.pem}]}}
"""
    config = load(text)
    assert config.listen.address == UnixAddress("/run/s.sock")
    assert config.upstream.address == (TcpAddress("::1", 8001),)
    assert config.authentication.mtls is not None
    assert [(each.name, each.ca) for each in config.authentication.mtls.trust_domains] == [
        ("a", None),
        ("b", Path("/etc/sidecar/b.pem")),
    ]


def test_several_addresses_are_several_endpoints() -> None:
    several = load(SOUND + 'upstream: {address: ["[::1]:8001", "unix:///run/m.sock"]}')
    assert several.upstream.address == (TcpAddress("::1", 8001), UnixAddress("/run/m.sock"))
    assert several.effective()["upstream"]["address"] == ["[::1]:8001", "unix:///run/m.sock"]
    assert load(SOUND).effective()["upstream"]["address"] == "127.0.0.1:8001"


def test_nothing_changes_in_a_config() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(SOUND).listen.unsafe_plaintext = True


def test_the_example_is_sound() -> None:
    config = load_file(EXAMPLE, {})
    assert config.warnings() == ()
    assert len(config.authorization.rules) == 2


def unreadable(file: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_file(file, {})
    return str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    assert unreadable(file) == f"config: expected a config file at '{file}', came No such file or directory"
    assert unreadable(tmp_path).endswith("came Is a directory")
    file.write_bytes(b"a: 1\nb: \xff\n")
    assert unreadable(file) == "config (line 2): expected UTF-8 text, came other bytes"
    file.write_bytes(b"#" * (4 << 20) + b"#")
    assert unreadable(file) == "config: expected a config file of at most 4194304 bytes, came a larger one"
    assert unreadable(Path("\0")).startswith("config: expected a config file")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SOUND.encode())
    assert load_file(file, {}).listen.address.loopback


def test_ten_thousand_rules_are_read(tmp_path: Path) -> None:
    """Each of two methods and two models, one value a line: what the bounds on files and values are for."""
    rule = """
    - identities:
        - spiffe://example.org/ns/team-{team:03d}/sa/client-{number:05d}
      methods:
        - /inference.GRPCInferenceService/ModelInfer
        - /inference.GRPCInferenceService/ModelReady
      models:
        - team-{team:03d}-model-{number:05d}
        - shared-*"""
    rules = "".join(rule.format(team=number % 200, number=number) for number in range(10_000))
    file = tmp_path / "a.yaml"
    file.write_text(f"{SOUND}authorization:\n  rules:{rules}\n")
    read = load_file(file, {}).authorization.rules
    assert len(read) == 10_000
    assert read[-1].identities == ("spiffe://example.org/ns/team-199/sa/client-09999",)
    assert read[-1].models == ("team-199-model-09999", "shared-*")


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    file, environ = tmp_path / "a.yaml", {"LANGTRAIN_SIDECAR__LISTEN__GRACE": "7s"}
    file.write_text(SOUND)
    loader = Loader(file, environ)
    first = loader()
    assert first == load_file(file, environ)
    assert loader() is first
    file.write_text(f"{SOUND}worker_memory: 1GiB\n")
    assert str(loader().worker_memory) == "1GiB"
    file.write_text("a: 1\n")
    for _ in range(2):
        with pytest.raises(ConfigError):
            loader()
    file.write_text(SOUND)
    assert loader() == first
