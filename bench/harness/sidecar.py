"""The sidecar with its chain on: identify by mTLS, authorize, record to a file on disk, and what a set-up adds."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bench.harness import builds, collector, issuer
from bench.harness.certificates import CALLERS, CLIENT, TRUST_DOMAIN, Certificates
from bench.harness.collector import Collector
from bench.harness.errors import BenchError
from bench.harness.loads import Load
from bench.harness.paths import ROOT
from bench.harness.processes import POLL_S, Process, Processes, free_port
from bench.harness.trail import Evidence, Trail


class Spans(Enum):
    """What becomes of spans."""

    EXPORTED = "every call sampled, spans to a sink"
    PROPAGATED = "trace on, no call sampled"
    CORRELATED = "no exporter: trace ids recorded only"
    PERCENT = "spans sampled at 1%"


@dataclass(frozen=True, slots=True)
class Setup:
    """How one sidecar differs from others; all identify, authorize and record.

    full: it limits, and has its access log and its metrics on.  tls: False for plaintext, where nobody is identified
    and nothing is denied.  rules: of which the last allows.  jwks: keys of tokens, by which callers are known then.
    policies: roles and policies decide, and no rule; the client by its certificate administers them.
    """

    title: str
    spans: Spans = Spans.PERCENT
    full: bool = True
    tls: bool = True
    workers: int = 1
    rules: int = 4
    jwks: Path | None = None
    policies: bool = False


FIRST = tuple(Setup(spans.value, spans, full=False) for spans in (Spans.EXPORTED, Spans.PROPAGATED, Spans.CORRELATED))
SIDECAR = Setup("sidecar")
SETTLED_S = 60.0  # within which the last call of a round is on disk and its span sent
START_S = 60.0  # many rules take a while to read
AUDIT = Path("audit") / "events.jsonl"
QUIET_S = 2.0  # twice the longest that spans wait in the sidecar for others
# The rule that allows stands last, so that a decision reads them all.
RULES = (
    {"identities": ["spiffe://example.org/team/*"], "methods": ["/inference.GRPCInferenceService/*"]},
    {"identities": ["dns:metrics.example.org"], "methods": ["/inference.GRPCInferenceService/ServerLive"]},
    {"identities": ["spiffe://example.org/ops/**"], "methods": ["/**"]},
)
ALLOWS = {
    "identities": [f"{CALLERS}*"],
    "methods": ["/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelInferStream"],
}
PLENTY = "100000000/second"
MODELS = {"models/*": {"classification_level": 2, "allowed_regions": ["eu", "us"]}}  # attributes, for conditions


def rules(count: int) -> list[dict[str, list[str]]]:
    """`count` of them, of which the last allows."""
    others = [RULES[number % len(RULES)] for number in range(min(count - 1, len(RULES)))]
    others += [
        {"identities": [f"spiffe://{TRUST_DOMAIN}/team-{number}/*"], "methods": ["/inference.**"]}
        for number in range(count - 1 - len(others))
    ]
    return [*others, ALLOWS]


@dataclass(slots=True)
class Sidecar:
    """A running sidecar; see `proxies.Proxy`. Its evidence is the audit file, and what its collector got."""

    setup: Setup
    process: Process
    port: int
    trail: Trail
    collector: Collector | None
    build: str  # "compiled", or "interpreted"
    calls: int = 0  # so far
    exported: int = 0  # spans, so far

    @property
    def title(self) -> str:
        return self.setup.title

    @property
    def sampled(self) -> bool:
        return self.setup.spans is not Spans.PROPAGATED

    @property
    def share(self) -> float:
        return 1.0

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
            least, most = self._expected(calls)
            if not least <= came <= most:
                raise BenchError(f"void: expected {least} to {most} spans at the collector, came {came}")

    def _expected(self, calls: int) -> tuple[int, int]:
        """The fewest spans that may come of `calls` calls, and the most."""
        if self.setup.spans is Spans.PERCENT:
            return int(calls >= 1000), calls // 10
        return (1, calls) if self.sampled else (0, 0)

    def prove_traced(self, load: Load) -> None:
        """One call that the caller samples must come out as one span: the link that traces is on.

        Raises BenchError when it does not.
        """
        if self.collector is None:
            raise BenchError("a sidecar without an exporter does not trace")
        with load.connected(self.port, 1, True) as go:
            go()
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
    setup: Setup,
    evidence: Evidence,
    under: tuple[str, ...] = (),
    compiled: bool = True,
) -> Sidecar:
    """Start it on `core`, and give it once it listens. Raises BenchError when it does not.

    under: a module that runs it, and that module's own arguments.  compiled: as its image ships it, not this checkout.
    """
    state = Path(tempfile.mkdtemp(prefix="state-", dir=processes.folder))
    sink = None if setup.spans is Spans.CORRELATED else collector.start(processes, f"collector-{state.name}")
    file = state / "sidecar.yaml"  # JSON is YAML
    file.write_text(json.dumps(config(certificates, upstream_port, state, setup, sink)))
    command = [sys.executable, "-m", *under, "sidecar", "serve", "--config", str(file)]
    process = processes.start(f"sidecar-{state.name}", command, core, builds.sidecar() if compiled else ROOT)
    listening = process.wait_for(lambda: listening_in(process.output()), "listen", START_S)
    trail = Trail(state / AUDIT, evidence)
    return Sidecar(setup, process, port_in(listening), trail, sink, str(listening["build"]))


def config(
    certificates: Certificates, upstream_port: int, state: Path, setup: Setup, sink: Collector | None
) -> dict[str, object]:
    """The sidecar's configuration: defaults, but for what is named here."""
    tls = {
        "certificate": str(certificates.server),
        "key": str(certificates.server_key),
        "client_ca": str(certificates.ca),
        "client_certificates": "required",
    }
    telemetry: dict[str, object] = {} if sink is None else {"otlp": f"http://127.0.0.1:{sink.port}"}
    made: dict[str, Any] = {
        "listen": {
            "address": "127.0.0.1:0",
            "tls": tls if setup.tls else "none",
            "limits": {"connections_per_source": 10_000},
        },
        "upstream": {"address": f"127.0.0.1:{upstream_port}", "protocol": "open-inference"},
        "state": {"directory": str(state)},
        "audit": {"file": str(state / AUDIT)},
        "workers": setup.workers,
        "telemetry": telemetry,
    }
    if setup.tls:
        made["authentication"] = {"mtls": {"trust_domains": [TRUST_DOMAIN]}}
        made["authorization"] = {"rules": rules(setup.rules)}
        if setup.jwks is not None:
            made["authentication"]["jwt"] = [_tokens(setup.jwks)]
            made["authorization"]["rules"][-1] = ALLOWS | {"identities": [f"{issuer.CALLERS}*"]}
        if setup.policies:
            made["authorization"] = {"policies": True, "bootstrap_admins": [CLIENT], "attributes": MODELS}
    else:
        made["unsafe_observe_only"] = True
    if setup.spans is Spans.PERCENT:
        telemetry["sample"] = 0.01
    if setup.full:
        telemetry["access_log"] = {"file": str(state / "access.jsonl")}
        made["limits"] = [{"per": "identity" if setup.tls else "source", "rate": PLENTY}]
        made["probes"] = {"address": f"127.0.0.1:{free_port()}"}
    return made


def _tokens(jwks: Path) -> dict[str, object]:
    """An issuer whose tokens are taken, of whose claims conditions may ask for."""
    attributes = {"clearance_level": "clearance_level", "location": "location"}
    return {
        "name": issuer.NAME, "issuer": issuer.ISSUER, "audiences": [issuer.AUDIENCE], "keys": {"file": str(jwks)},
        "attributes": attributes,
    }  # fmt: skip


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
