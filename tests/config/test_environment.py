# ruff: noqa: E501  # a fault is told in one line, and stands here in one
import pytest

from sidecar.config.addresses import TcpAddress
from sidecar.config.units import Rate
from tests.config.configs import SOUND, faults, load

PREFIX = "LANGTRAIN_SIDECAR__"


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("LISTEN__ADDRESS", "[::1]:0", "listen.address", TcpAddress("::1", 0)),
        ("LISTEN__LIMITS__CONCURRENT_STREAMS", "5", "listen.limits.concurrent_streams", 5),
        ("LISTEN__LIMITS__MESSAGE", "64MB", "listen.limits.message", 64_000_000),
        ("LISTEN__LIMITS__RESETS", "5/minute", "listen.limits.resets", Rate(5, 60.0, 5)),
        ("LISTEN__LIMITS__PINGS", "{rate: 5/minute, burst: 9}", "listen.limits.pings", Rate(5, 60.0, 9)),
        ("UPSTREAM__PORTS", "[8000, 8002]", "upstream.ports", (8000, 8002)),
        ("UPSTREAM__PORTS", "- 8000\n- 8002", "upstream.ports", (8000, 8002)),
        ("UPSTREAM__ADDRESS", "[127.0.0.1:9]", "upstream.address", (TcpAddress("127.0.0.1", 9),)),
        ("UPSTREAM__UNSAFE_OPEN_UPSTREAM", "true", "upstream.unsafe_open_upstream", True),
        ("TELEMETRY__SAMPLE", "0.5", "telemetry.sample", 0.5),
        ("TELEMETRY__SERVICE_NAME", "5", "telemetry.service_name", "5"),
        ("TELEMETRY__OTLP", "", "telemetry.otlp", None),
        ("UNSAFE_OBSERVE_ONLY", "true", "unsafe_observe_only", True),
        ("listen__Address", "127.0.0.1:1", "listen.address", TcpAddress("127.0.0.1", 1)),
    ],
)  # fmt: skip
def test_a_variable_sets_a_key(name: str, text: str, path: str, value: object) -> None:
    found: object = load(SOUND, {PREFIX + name: text})
    for step in path.split("."):
        found = getattr(found, step)
    assert found == value


def test_a_variable_overrides_the_file_and_leaves_the_rest() -> None:
    config = load(SOUND, {PREFIX + "LISTEN__TLS__CERTIFICATE": "other.pem"})
    assert config.listen.tls is not None
    assert str(config.listen.tls.certificate) == "/etc/sidecar/other.pem"
    assert str(config.listen.tls.client_ca) == "/etc/sidecar/ca.pem"


def test_sections_that_are_off_can_be_said() -> None:
    environ = {PREFIX + "LISTEN__TLS": "none", PREFIX + "AUTHENTICATION__MTLS": ""}
    assert load(SOUND, environ).listen.tls is None


def test_other_variables_are_none_of_its_business() -> None:
    assert load(SOUND, {"LANGTRAIN_SIDECAR_DEBUG": "1", "PATH": "/bin"}) == load(SOUND)


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"LISTEN__GRACEE": "1s"}, "listen.gracee (LANGTRAIN_SIDECAR__LISTEN__GRACEE): expected a variable that names a known key; did you mean 'grace'?"),
        ({"LISSEN": "1s"}, "lissen (LANGTRAIN_SIDECAR__LISSEN): expected a variable that names a known key; did you mean 'listen'?"),
        ({"INTERCEPTORS__USE": "a:B"}, "interceptors.use (LANGTRAIN_SIDECAR__INTERCEPTORS__USE): expected a variable that names a known key; 'interceptors' holds no keys: set it whole"),
        ({"LISTEN__GRACE": "9"}, 'listen.grace (LANGTRAIN_SIDECAR__LISTEN__GRACE): expected a duration with a unit, such as "500ms", "10s", "5m", "1h" or "30d", came the number 9'),
        ({"UPSTREAM__PORTS": "8000"}, "upstream.ports (LANGTRAIN_SIDECAR__UPSTREAM__PORTS): expected a list, came the number 8000"),
        ({"LISTEN__ADDRESS": "[::1"}, "listen.address (LANGTRAIN_SIDECAR__LISTEN__ADDRESS): expected host:port, [v6 address]:port or unix:///absolute/path, came '[::1'"),
        ({"UPSTREAM": "{address: 10.0.0.1:1}", "UPSTREAM__ADDRESS": "10.0.0.1:1", "UPSTREAM__UNSAFE_OPEN_UPSTREAM": "true"},
         "upstream.address (LANGTRAIN_SIDECAR__UPSTREAM__ADDRESS): expected one variable for it: LANGTRAIN_SIDECAR__UPSTREAM sets it too\n"
         "upstream.unsafe_open_upstream (LANGTRAIN_SIDECAR__UPSTREAM__UNSAFE_OPEN_UPSTREAM): expected one variable for it: LANGTRAIN_SIDECAR__UPSTREAM sets it too"),
        ({"LISTEN__TLS": "none", "LISTEN__ADDRESS": "0.0.0.0:1", "AUTHENTICATION__MTLS": ""},
         "listen.tls (LANGTRAIN_SIDECAR__LISTEN__TLS): expected TLS on an address that other hosts reach, came none on 0.0.0.0:1; listen on 127.0.0.1 or a Unix socket, or set listen.unsafe_plaintext: true"),
    ],
)  # fmt: skip
def test_faults_name_the_variable(environ: dict[str, str], fault: str) -> None:
    assert "\n".join(faults(SOUND, {PREFIX + name: text for name, text in environ.items()})) == fault
