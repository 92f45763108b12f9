"""The sidecar with its chain on: identify by mTLS, authorize, record to a file on disk, and trace in three ways."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bench.harness import builds, collector
from bench.harness.certificates import TRUST_DOMAIN, Certificates
from bench.harness.collector import Collector
from bench.harness.errors import BenchError
from bench.harness.h2load import Load, Shape
from bench.harness.paths import ROOT
from bench.harness.processes import POLL_S, Process, Processes
from bench.harness.trail import Trail

CHAIN = (
    "identify by mTLS; authorize by identities and methods, the last of four rules allows; record every call to an "
    "fsynced file; trace as each metric says"
)


class Spans(Enum):
    """What becomes of spans; each is a sidecar of its own, and as a title, how it differs."""

    EXPORTED = "every call sampled, spans to a sink"
    PROPAGATED = "trace on, no call sampled"
    CORRELATED = "no exporter: trace ids recorded only"


SETTLED_S = 60.0  # within which the last call of a round is on disk and its span sent
QUIET_S = 2.0  # twice the longest that spans wait in the sidecar for others
# The rule that allows stands last, so that each decision reads them all.
RULES = (
    {"identities": ["spiffe://example.org/team/*"], "methods": ["/inference.GRPCInferenceService/*"]},
    {"identities": ["dns:metrics.example.org"], "methods": ["/inference.GRPCInferenceService/ServerLive"]},
    {"identities": ["spiffe://example.org/ops/**"], "methods": ["/**"]},
    {"identities": ["spiffe://example.org/bench/*"], "methods": ["/inference.GRPCInferenceService/ModelInfer"]},
)


@dataclass(slots=True)
class Sidecar:
    """A running sidecar; see `proxies.Proxy`. Its evidence is the audit file, and what its collector got."""

    process: Process
    port: int
    trail: Trail
    spans: Spans
    collector: Collector | None
    build: str  # "compiled", or "interpreted"
    calls: int = 0  # so far
    exported: int = 0  # spans, so far

    @property
    def title(self) -> str:
        return self.spans.value

    @property
    def sampled(self) -> bool:
        return self.spans is not Spans.PROPAGATED

    def finish(self, calls: int) -> None:
        """Wait until `calls` more calls are on disk and no more spans come, so that the cost of both counts.

        Raises BenchError when it is another number of calls, or spans came where none should, or none where some
        should (under full load most are dropped by design).
        """
        self.calls += calls

        def recorded() -> int | None:
            count = self.trail.calls()
            return count if count >= self.calls else None

        found = self.process.wait_for(recorded, f"record {calls} calls", SETTLED_S)
        if found != self.calls:
            raise BenchError(f"void: expected {self.calls} calls in the audit file, came {found}")
        if self.collector is not None:
            before, self.exported = self.exported, settled(self.collector)
            came = self.exported - before
            if not (0 < came <= calls if self.sampled else came == 0):
                expected = f"1 to {calls}" if self.sampled else "no"
                raise BenchError(f"void: expected {expected} spans at the collector, came {came}")

    def prove_traced(self, load: Load) -> None:
        """One call that the caller samples must come out as one span: the link that traces is on.

        Raises BenchError when it does not.
        """
        if self.collector is None:
            raise BenchError("a sidecar without an exporter does not trace")
        load.run(self.port, Shape(1, 1), 1, sampled=True)
        self.calls += 1
        sink = self.collector
        self.exported = self.process.wait_for(lambda: sink.spans() or None, "send a span")
        if self.exported != 1:
            raise BenchError(f"expected 1 span of 1 call, came {self.exported}")


def settled(sink: Collector) -> int:
    """The count of spans once none has come for longer than spans wait for each other in the sidecar.

    Raises BenchError when they keep coming.
    """
    begun = changed = time.monotonic()
    count = sink.spans()
    while (now := time.monotonic()) - changed < QUIET_S:
        if now - begun > SETTLED_S:
            raise BenchError(f"void: spans still came after {SETTLED_S:g} s, {count} so far")
        time.sleep(POLL_S)
        if (seen := sink.spans()) != count:
            count, changed = seen, time.monotonic()
    return count


def start(
    processes: Processes,
    core: int,
    certificates: Certificates,
    upstream_port: int,
    spans: Spans,
    under: tuple[str, ...] = (),
    compiled: bool = True,
) -> Sidecar:
    """Start it on `core`, and give it once it listens. Raises BenchError when it does not.

    under: a module that runs it, and that module's own arguments.  compiled: as its image ships it, not this checkout.
    """
    state = Path(tempfile.mkdtemp(prefix="state-", dir=processes.folder))
    audit = state / "audit" / "events.jsonl"
    sink = None if spans is Spans.CORRELATED else collector.start(processes, f"collector-{state.name}")
    file = state / "sidecar.yaml"  # JSON is YAML
    settings = config(certificates, upstream_port, state, audit)
    if sink is not None:
        settings["telemetry"] = {"otlp": f"http://127.0.0.1:{sink.port}"}
    file.write_text(json.dumps(settings, indent=1))
    command = [sys.executable, "-m", *under, "sidecar", "serve", "--config", str(file)]
    process = processes.start(f"sidecar-{state.name}", command, core, builds.sidecar() if compiled else ROOT)
    listening = process.wait_for(lambda: listening_in(process.output()), "listen")
    return Sidecar(process, port_in(listening), Trail(audit), spans, sink, str(listening["build"]))


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


def listening_in(log: str) -> dict[str, object] | None:
    """The log line that says where the sidecar listens, or None while there is none."""
    for line in log.splitlines():
        if line.startswith("{") and line.endswith("}"):
            entry: dict[str, object] = json.loads(line)
            if entry.get("event") == "listening":
                return entry
    return None


def port_of(log: str) -> int | None:
    """The port where the sidecar listens, or None while its log does not say so."""
    listening = listening_in(log)
    return None if listening is None else port_in(listening)


def port_in(listening: dict[str, object]) -> int:
    return int(str(listening["address"]).rpartition(":")[2])
