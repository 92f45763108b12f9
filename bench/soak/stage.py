"""A sidecar before the model server of `harness.ends`, and what its processes hold."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.harness import builds, certificates, children
from bench.harness.certificates import CLIENT, TRUST_DOMAIN
from bench.harness.processes import Process, Processes
from bench.harness.sidecar import listening_in, port_in

SETTLED_S: Final = 120.0  # for the last call to be on disk
METHODS: Final = ({"name": "Same", "unary_request": True, "unary_response": True},
                  {"name": "Many", "unary_request": True, "unary_response": False},
                  {"name": "Last", "unary_request": False, "unary_response": True})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """context: what a client of ours needs to get in.  build: "compiled" or "interpreted"."""

    process: Process
    port: int
    build: str
    context: ssl.SSLContext
    audit: Path

    def worker(self) -> int:
        """The process id of its only worker."""
        (pid,) = children.workers(self.process.pid).values()
        return pid

    def recorded(self, count: int) -> int:
        """Calls in the audit file, once they are at least `count`. Raises BenchError when they do not come."""
        self.process.wait_for(lambda: self._calls() >= count or None, f"record {count} calls", SETTLED_S)
        return self._calls()

    def _calls(self) -> int:
        """Lines of calls; refusals that are folded into one line count as often as it says."""
        calls = 0
        with self.audit.open("rb") as lines:
            for line in lines:
                if b'"kind":"call.' in line or b'"kind": "call.' in line:
                    calls += int(json.loads(line).get("count") or 1)
        return calls


def resident(pid: int) -> int:
    """Bytes of a process that are its own and in memory."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def sidecar(processes: Processes, limits: Mapping[str, Any]) -> Iterator[Stage]:
    """limits: `listen.limits`. The chain is identify, authorize and record; the caller may call all but Secret."""
    folder = processes.folder
    issued = certificates.issue(folder, datetime.now(UTC))
    server = processes.start("model-server", [sys.executable, "-m", "bench.harness.ends"])
    upstream = server.wait_for(lambda: server.output().strip() or None, "listen")
    audit = folder / "state" / "audit" / "events.jsonl"
    config = {
        "listen": {
            "address": "127.0.0.1:0",
            "tls": {
                "certificate": str(issued.server),
                "key": str(issued.server_key),
                "client_ca": str(issued.ca),
                "client_certificates": "required",
            },
            "limits": dict(limits),
        },
        "upstream": {
            "address": f"127.0.0.1:{upstream}",
            "services": [{"service": "bench.Soak", "methods": list(METHODS)}],
        },
        "state": {"directory": str(folder / "state")},
        "audit": {"file": str(audit)},
        "authentication": {"mtls": {"trust_domains": [TRUST_DOMAIN]}},
        "authorization": {
            "rules": [
                {"identities": [CLIENT], "methods": [f"/bench.Soak/{name}"]}
                for name in ("Same", "Many", "Last", "Echo", "Never")
            ]
        },
        "workers": 1,
    }
    file = folder / "sidecar.yaml"  # JSON is YAML
    file.write_text(json.dumps(config, indent=1))
    command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
    process = processes.start("sidecar", command, cwd=builds.sidecar())
    listening = process.wait_for(lambda: listening_in(process.output()), "listen", 60.0)
    context = ssl.create_default_context(cafile=str(issued.ca))
    context.load_cert_chain(issued.client, issued.client_key)
    context.set_alpn_protocols(["h2"])
    yield Stage(process, port_in(listening), str(listening["build"]), context, audit)
    processes.stop(process)
    processes.stop(server)
