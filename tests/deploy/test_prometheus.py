"""A real Prometheus, with the config and rules that are shipped, scrapes a probe listener and raises alerts."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.telemetry import metrics
from sidecar.telemetry.pulse import boot_clock
from tests.parts import require
from tests.processes import REPOSITORY, Process
from tests.telemetry.running import running
from tests.waiting import eventually

SHIPPED = REPOSITORY / "deploy" / "prometheus"


class Prometheus:
    """What a running Prometheus is asked."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())["data"]
        except (OSError, ValueError):
            return {}  # not up yet
        finally:
            connection.close()

    def value(self, query: str) -> float | None:
        """Of a query with one answer."""
        result = self.ask(f"/api/v1/query?query={quote(query)}").get("result", [])
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def alerts(self) -> dict[str, str]:
        """State by name."""
        return {each["labels"]["alertname"]: each["state"] for each in self.ask("/api/v1/alerts").get("alerts", ())}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def prometheus(directory: Path, scraped: int) -> Iterator[Prometheus]:
    """Runs with the config that is shipped, but for the port that is scraped, and more often."""
    config = (SHIPPED / "prometheus.yaml").read_text("utf-8")
    config = config.replace("127.0.0.1:8086", f"127.0.0.1:{scraped}").replace("15s", "500ms")
    (directory / "prometheus.yaml").write_text(config, "utf-8")
    shutil.copy(SHIPPED / "alerts.yaml", directory)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Process(command) as process:
        process.wait_line(lambda line: "Server is ready" in line)
        yield Prometheus(port)


def test_prometheus_scrapes_and_alerts(tmp_path: Path) -> None:
    require(shutil.which("prometheus") is not None, "prometheus: apt-get install prometheus")
    with running(tmp_path) as sidecar, prometheus(tmp_path, sidecar.port) as server:
        board = sidecar.worker.taken()
        board.beat(boot_clock() + 3600)  # alive for as long as this takes
        board.count(metrics.CALLS, ("a.B/C", "OK", "allowed"), 41)
        board.set(metrics.RECORDER_UP, 1.0)
        board.set(metrics.UPSTREAM_UP, 1.0, ("m:1",))
        eventually(lambda: server.value('up{job="langtrain-sidecar"}') == 1, "it is scraped", 30)
        eventually(lambda: server.value('langtrain_sidecar_calls_total{method="a.B/C"}') == 41, "calls are read", 30)
        assert server.value('langtrain_sidecar_event_loop_lag_seconds_bucket{le="+Inf"}') is not None
        board.set(metrics.RECORDER_UP, 0.0)
        board.set(metrics.UPSTREAM_UP, 0.0, ("m:1",))
        board.set(metrics.CERTIFICATE_EXPIRY, 1000.0, ("listen",))
        wanted = {
            "SidecarRecorderDown": "firing",
            "SidecarUpstreamDown": "pending",
            "SidecarUpstreamEndpointDown": "pending",
            "SidecarCertificateEnds": "firing",
            "SidecarCertificateEndsSoon": "firing",
        }
        eventually(lambda: server.alerts() == wanted, "the alerts are raised, and no others", 30)
        board.set(metrics.RECORDER_UP, 1.0)
        eventually(lambda: "SidecarRecorderDown" not in server.alerts(), "the alert is over", 30)
        rules = server.ask("/api/v1/rules")["groups"][0]["rules"]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert server.ask("/api/v1/targets")["activeTargets"][0]["lastError"] == ""
