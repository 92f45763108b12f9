"""The sidecar before the demo's model server: its certificates, its config, its process."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from sidecar.certs import dev
from sidecar.demo.children import Child, Children
from sidecar.demo.errors import DemoError
from sidecar.demo.model_server import Ports

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# In a checkout, and in an installed distribution.
SAMPLES = (PACKAGE_ROOT / "examples" / "interceptors", Path(__file__).resolve().parent / "interceptors")
SAMPLE = "mask_emails.py"
LISTEN_S = 30.0

CONFIG = """\
# Written by `langtrain-sidecar demo`. Every key is in docs/configuration.md.
listen:
  address: 127.0.0.1:0                # a free port; the log says which
  tls:
    certificate: certs/server.pem
    key: certs/server-key.pem
    client_ca: certs/ca.pem
    client_certificates: required
upstream:
  address: 127.0.0.1:{grpc}
  ports: [{rest}, {metrics}]              # MLServer's REST and metrics ports, on loopback too
state: {{directory: state}}
authentication:
  mtls: {{trust_domains: [example.org]}}
authorization:
  rules:                              # nothing is allowed but this
    - identities: ["spiffe://example.org/team/alice"]
      methods: ["/inference.GRPCInferenceService/*"]
      models: [digits, topics]
interceptors:
  - use: {sample}
telemetry: {{otlp: "{collector}"}}
"""


class Guard:
    """A sidecar that listens.  address: "127.0.0.1:port".  directory: its config, certs/ and state/."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self.directory = directory
        self.events_file = directory / "state" / "audit" / "events.jsonl"

    def events(self) -> list[dict[str, Any]]:
        """What it has recorded so far; a line still being written is left out."""
        if not self.events_file.exists():
            return []
        return [json.loads(line) for line in self.events_file.read_text("utf-8").split("\n")[:-1]]


def make_certificates(directory: Path, now: datetime) -> None:
    """A development CA and its leaves, in `directory`/certs."""
    dev.create(directory / "certs", now=now)


def start(children: Children, directory: Path, ports: Ports, collector: str) -> tuple[Guard, Child]:
    """Write sidecar.yaml into `directory` and serve it. collector: OTLP endpoint. Raises DemoError."""
    sample = next((folder / SAMPLE for folder in SAMPLES if (folder / SAMPLE).is_file()), None)
    if sample is None:
        raise DemoError(f"the sample interceptor {SAMPLE} is neither in {SAMPLES[0]} nor in {SAMPLES[1]}")
    use = json.dumps(f"{sample}:MaskEmails")
    config = directory / "sidecar.yaml"
    config.write_text(
        CONFIG.format(grpc=ports.grpc, rest=ports.rest, metrics=ports.metrics, sample=use, collector=collector), "utf-8"
    )
    command = [sys.executable, "-P", "-m", "sidecar", "serve", "--config", str(config)]
    path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    child = children.start("the sidecar", command, directory=directory, environment={"PYTHONPATH": path})
    return Guard(child.wait_for("the sidecar listened", lambda: _address(child), LISTEN_S), directory), child


def _address(child: Child) -> str | None:
    """The address in its log line `listening`, or None as long as there is none."""
    for line in child.said().split("\n")[:-1]:
        if line.startswith("{") and (entry := json.loads(line))["event"] == "listening":
            return str(entry["address"])
    return None
