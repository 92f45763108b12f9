"""What an attack is watched on: a sidecar, a model server that counts, and who may call what."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from bench.harness.errors import BenchError
from bench.harness.processes import Process, Processes, free_port
from bench.harness.scene import Pki, replace
from bench.harness.sidecar import listening_in

ATTACKER: Final = "spiffe://example.org/bench/attacker"
BYSTANDER: Final = "spiffe://example.org/bench/bystander"
UNARY: Final = {"unary_request": True, "unary_response": True}
SERVICES: Final = [
    {"service": "abuse.Model", "methods": [{"name": name, **UNARY} for name in ("Echo", "Slow", "Large")]},
    {"service": "honest.Model", "methods": [{"name": "Call", **UNARY}]},
    {"service": "abuse.Refused", "methods": [{"name": name, **UNARY} for name in ("Allowed", "Denied")]},
]
# So that attacks by doing nothing show within seconds. All other limits are as they come.
LIMITS: Final = {"handshake": "2s", "header_time": "2s", "message_time": "2s", "read_time": "2s"}
_SETTLED_S: Final = 120.0
_REST_S: Final = 2.0  # until what was held is given back


def folder(path: Path) -> Path:
    """ca.pem, server.pem, server-key.pem, and attacker.pem and bystander.pem with their keys."""
    pki = Pki(path)
    for name, identity in (("attacker", ATTACKER), ("bystander", BYSTANDER)):
        leaf = pki.leaf(name=identity)
        replace(path / f"{name}.pem", leaf.key_pem() + leaf.chain_pem())
    return path


def config(
    identities: Path, upstream: int, control: int, probes: int, limits: Mapping[str, Any] = LIMITS
) -> dict[str, Any]:
    """A sidecar's, before `tap`, that decodes messages of Open Inference."""
    return {
        "listen": {
            "address": "127.0.0.1:0",
            "tls": {
                "certificate": str(identities / "server.pem"),
                "key": str(identities / "server-key.pem"),
                "client_ca": str(identities / "ca.pem"),
            },
            "limits": dict(limits),
        },
        "upstream": {"address": f"127.0.0.1:{upstream}", "ports": [control], "services": SERVICES},
        "authentication": {"mtls": {"trust_domains": ["example.org"]}},
        "authorization": {
            "rules": [
                {"identities": [BYSTANDER], "methods": ["/honest.Model/*", "/grpc.health.v1.Health/*"]},
                {"identities": [ATTACKER], "methods": ["/abuse.Model/*", "/abuse.Refused/Allowed"]},
                {"identities": [ATTACKER], "methods": ["/inference.GRPCInferenceService/*"], "models": ["digits"]},
            ]
        },
        "probes": {"address": f"127.0.0.1:{probes}"},
        "workers": 1,
    }


def told(control: int, character: str = "") -> dict[str, int]:
    """What has come to the tap since the last time; it becomes `character` where one is given."""
    with socket.create_connection(("127.0.0.1", control), 10.0) as connection:
        connection.sendall(character.encode() + b"\n")
        with connection.makefile("rb") as answer:
            return dict(json.loads(answer.read()))


def counted(probes: int) -> dict[tuple[str, str], float]:
    """The sidecar's totals: metric and its labels' values → value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{probes}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (name, "|".join(re.findall(r'"([^"]*)"', labels))): float(value)
        for name, labels, value in re.findall(r"^(langtrain_sidecar_\w+?)(\{.*\})? (\S+)", text, re.MULTILINE)
    }


def more(before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """What was counted between two readings, as far as anything was."""
    grown = {key: int(value - before.get(key, 0.0)) for key, value in after.items() if key[0].endswith("_total")}
    return {key: value for key, value in grown.items() if value > 0}


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold, what they share counted for each."""
    todo, total = [pid], 0
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        try:
            total += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in (process / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has ended meanwhile
    return total


class Stand:
    """A running sidecar and its tap. address: where it listens.  identities: as of `folder`."""

    def __init__(self, processes: Processes, core: int | None, cwd: Path) -> None:
        """core: the sidecar's alone, where one is given.  cwd: whose sidecar is run."""
        self.processes = processes
        self.identities = folder(processes.folder / "identities")
        tap = processes.start("tap", [sys.executable, "-m", "bench.abuse.tap"])
        ports = tap.wait_for(lambda: tap.output().split() or None, "listen")
        self.upstream, self.control, self.probes = f"127.0.0.1:{ports[0]}", int(ports[1]), free_port()
        settings = config(self.identities, int(ports[0]), self.control, self.probes)
        settings["state"] = {"directory": str(processes.folder / "state")}
        file = processes.folder / "sidecar.yaml"  # JSON is YAML
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
        self.sidecar = processes.start("sidecar", command, core, cwd)
        listening = self.sidecar.wait_for(lambda: listening_in(self.sidecar.output()), "listen")
        self.address, self.build = str(listening["address"]), str(listening["build"])

    def settled(self) -> int:
        """Bytes of memory, once no connection is left and a moment has passed."""
        key = ("langtrain_sidecar_connections_open", "")
        self.until(lambda: counted(self.probes).get(key) == 0, "have no connection left")
        time.sleep(_REST_S)
        return resident(self.sidecar.pid)

    def reaches_upstream(self) -> bool:
        return counted(self.probes).get(("langtrain_sidecar_upstream_up", self.upstream)) == 1.0

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises BenchError."""
        self.sidecar.wait_for(lambda: holds() or None, what, _SETTLED_S)

    def bystander(self, method: str, timeout_s: float) -> Process:
        """An honest caller that has been answered."""
        command = [sys.executable, "-m", "bench.abuse.bystander", self.address, str(self.identities), method]
        process = self.processes.start(f"bystander-{time.monotonic_ns()}", [*command, f"{timeout_s:g}"])
        process.wait_for(lambda: process.output() or None, "be answered")
        return process

    def found(self, bystander: Process) -> dict[str, Any]:
        """End a bystander; what it has found."""
        self.processes.stop(bystander)
        *_, last = bystander.output().splitlines()
        if not last.startswith("{"):
            raise BenchError(f"expected the bystander's findings, came:\n{bystander.tail()}")
        return dict(json.loads(last))

    def attack(self, modes: Iterable[str], seconds: float) -> dict[str, Any]:
        """Attack for so long; the attackers' tally."""
        command = [sys.executable, "-m", "bench.abuse.attacker", self.address, str(self.identities), f"{seconds:g}"]
        return dict(json.loads(self.processes.run("attacker", [*command, *modes], seconds + 60)))

    def faults(self) -> list[str]:
        """What its log has of errors."""
        lines = [line for line in self.sidecar.output().splitlines() if line.startswith("{")]
        return [line for line in lines if json.loads(line).get("level") in ("error", "critical")]
