"""The sidecar with its whole chain on: identify by mTLS, authorize, record to a file on disk, trace."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.harness.certificates import TRUST_DOMAIN, Certificates
from bench.harness.errors import BenchError
from bench.harness.processes import Process, Processes
from bench.harness.trail import Trail

CHAIN = (
    "identify by mTLS; authorize by identities and methods, the fourth of four rules allows; record every call to "
    "an fsynced file; trace: context taken up and handed on, spans not exported"
)
RECORDED_S = 30.0  # within which the last call of a round is on disk
# The rule that allows stands last, so that each decision reads them all.
RULES = (
    {"identities": ["spiffe://example.org/team/*"], "methods": ["/inference.GRPCInferenceService/*"]},
    {"identities": ["dns:metrics.example.org"], "methods": ["/inference.GRPCInferenceService/ServerLive"]},
    {"identities": ["spiffe://example.org/ops/**"], "methods": ["/**"]},
    {"identities": ["spiffe://example.org/bench/*"], "methods": ["/inference.GRPCInferenceService/ModelInfer"]},
)


@dataclass(slots=True)
class Sidecar:
    """A running sidecar; see `proxies.Proxy`. Its evidence is the audit file."""

    process: Process
    port: int
    trail: Trail
    title: str = "sidecar, chain on"
    calls: int = 0  # so far

    def finish(self, calls: int) -> None:
        """Wait until `calls` more calls are on disk, so that the cost of recording counts.

        Raises BenchError when it is another number.
        """
        self.calls += calls

        def recorded() -> int | None:
            count = self.trail.calls()
            return count if count >= self.calls else None

        found = self.process.wait_for(recorded, f"record {calls} calls", RECORDED_S)
        if found != self.calls:
            raise BenchError(f"void: expected {self.calls} calls in the audit file, came {found}")


def start(
    processes: Processes, core: int, certificates: Certificates, upstream_port: int, under: tuple[str, ...] = ()
) -> Sidecar:
    """Start it on `core`, and give it once it listens. Raises BenchError when it does not.

    under: a module that runs it, and that module's own arguments.
    """
    state = Path(tempfile.mkdtemp(prefix="state-", dir=processes.folder))
    audit = state / "audit" / "events.jsonl"
    file = processes.folder / "sidecar.yaml"  # JSON is YAML
    file.write_text(json.dumps(config(certificates, upstream_port, state, audit), indent=1))
    command = [sys.executable, "-m", *under, "sidecar", "serve", "--config", str(file)]
    process = processes.start("sidecar", command, core)
    return Sidecar(process, process.wait_for(lambda: port_of(process.output()), "listen"), Trail(audit))


def config(certificates: Certificates, upstream_port: int, state: Path, audit: Path) -> dict[str, object]:
    """The sidecar's configuration: defaults, but for what is named here."""
    tls = {
        "certificate": str(certificates.server),
        "key": str(certificates.server_key),
        "client_ca": str(certificates.ca),
        "client_certificates": "required",
    }
    return {
        "listen": {"address": "127.0.0.1:0", "tls": tls},
        "upstream": {"address": f"127.0.0.1:{upstream_port}", "protocol": "open-inference"},
        "state": {"directory": str(state)},
        "authentication": {"mtls": {"trust_domains": [TRUST_DOMAIN]}},
        "authorization": {"rules": list(RULES)},
        "audit": {"file": str(audit)},
    }


def port_of(log: str) -> int | None:
    """The port in the log line that says where the sidecar listens, or None while there is no such line."""
    for line in log.splitlines():
        if line.startswith("{") and line.endswith("}"):
            entry = json.loads(line)
            if entry.get("event") == "listening":
                return int(str(entry["address"]).rpartition(":")[2])
    return None
