"""A whole sidecar with its telemetry process: probes tell how it is, spans come out, a port in use is refused."""

from __future__ import annotations

import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
from ruamel.yaml import YAML

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.e2e.upstream import UNARY, echo
from tests.sidecars import Sidecar, guarded, write
from tests.telemetry.boards import samples
from tests.telemetry.collector import Collector
from tests.waiting import eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": "application/openmetrics-text"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionError:
        return 0, ""
    finally:
        connection.close()


def watched(certificates: Certificates, upstream: str, port: int, **telemetry: Any) -> dict[str, Any]:
    return {
        **guarded(certificates, upstream),
        "probes": {"address": f"127.0.0.1:{port}", "min_free": "1MB"},
        "telemetry": telemetry,
    }


def call(sidecar: Sidecar, certificates: Certificates, metadata: tuple[tuple[str, str], ...] = ()) -> bytes:
    credentials = grpc.ssl_channel_credentials(
        certificates.ca.read_bytes(), certificates.client.key.read_bytes(), certificates.client.certificate.read_bytes()
    )
    with grpc.secure_channel(sidecar.address, credentials) as channel:
        unary: Any = channel.unary_unary(UNARY)
        answer: bytes = unary(b"hello", timeout=20, metadata=metadata)
        return answer


def test_readiness_follows_the_model_server(certificates: Certificates, start_sidecar: StartSidecar) -> None:
    port = free_port()
    with echo() as (_, upstream), start_sidecar(watched(certificates, upstream, port)):
        eventually(lambda: get(port, "/readyz")[0] == 200, "it is ready")
        assert get(port, "/livez") == (200, "ok\n")
        found = samples(get(port, "/metrics")[1].encode())
        assert found[f'upstream_up{{endpoint="{upstream}"}}'] == 1
        assert found["recorder_up"] == 1
        assert found['resident_memory_bytes{process="worker-0"}'] > 1e6
        assert found['certificate_expiry_timestamp_seconds{certificate="listen"}'] > 1.7e9
    with start_sidecar(watched(certificates, upstream, port)):
        said = "[-]upstream failed: worker-0 reaches none of 1 endpoints\nfailed\n"
        eventually(lambda: get(port, "/readyz") == (503, said), "it says why it is not ready")
        assert get(port, "/livez") == (200, "ok\n")


def test_reloads_are_counted_those_that_are_refused_too(
    certificates: Certificates, start_sidecar: StartSidecar
) -> None:
    port = free_port()
    good = watched(certificates, "127.0.0.1:1", port)
    with start_sidecar(good, faults=frozenset({"reload_refused"})) as sidecar:
        kept = YAML(typ="safe").load(sidecar.file)

        def counted(result: str) -> float:
            return samples(get(port, "/metrics")[1].encode()).get(f'config_reloads_total{{result="{result}"}}', 0)

        write(sidecar.file, {**kept, "workers": 2})
        eventually(lambda: counted("failure") == 1, "the refusal is counted")
        assert counted("success") == 0
        write(sidecar.file, {**kept, "telemetry": {"sample": 0.5}})
        eventually(lambda: counted("success") == 1, "the reload is counted")
        assert counted("failure") == 1


def test_a_span_joins_client_and_model_server(certificates: Certificates, start_sidecar: StartSidecar) -> None:
    collector = Collector()
    with echo() as (_, upstream):
        config = watched(certificates, upstream, free_port(), otlp=f"http://127.0.0.1:{collector.port}")
        config["upstream"]["ports"] = [collector.port]  # of the same process as the model server
        with start_sidecar(config) as sidecar:
            parent = "00-" + "0a" * 16 + "-" + "0b" * 8 + "-01"
            assert call(sidecar, certificates, (("traceparent", parent),)) == b"hello"
            [span] = collector.wait(1)
    collector.stop()
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.name) == ("0a" * 16, "0b" * 8, UNARY[1:])


def test_a_probe_port_in_use_is_a_fault_of_its_setting(certificates: Certificates, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = watched(certificates, "127.0.0.1:1", taken.getsockname()[1])
        file = tmp_path / "sidecar.yaml"
        with file.open("w", encoding="utf-8") as out:
            YAML(typ="safe").dump({**config, "state": {"directory": str(tmp_path / "state")}}, out)
        command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert '"path": "probes.address"' in ended.stderr
    assert "Address already in use" in ended.stderr
