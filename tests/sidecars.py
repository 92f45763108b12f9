"""The sidecar as its users start it: a process of its own, a YAML file, signals. What end-to-end tests talk to."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sidecar.processes.nursery import NAME, PROGRAM
from tests.certificates import CLIENT, TRUST_DOMAIN, Certificates
from tests.processes import Process, ProcessError

SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]
LOG_LEVELS_OF_FAULTS = ("error", "critical")


class Sidecar:
    """A running sidecar.  address: "127.0.0.1:port", or "unix://…".  state: its state directory.  file: its config."""

    def __init__(self, process: Process, address: str, state: Path, file: Path) -> None:
        self.process = process
        self.address = address
        self.state = state
        self.file = file

    def events(self) -> list[dict[str, Any]]:
        """What it has recorded so far, oldest first; a line still being written is left out."""
        file = self.state / "audit" / "events.jsonl"
        if not file.exists():
            return []
        lines = file.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def unrecorded(self) -> int:
        """Events of changes that are committed and not recorded yet."""
        with closing(sqlite3.connect(f"file:{self.state / 'store' / 'state.db'}?mode=ro", uri=True)) as database:
            ((count,),) = database.execute("SELECT count(*) FROM outbox")
        return int(count)

    def children(self, role: str) -> dict[str, int]:
        """The processes of a role that run now: name → process id."""
        found = {}
        for pid in children_of(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # it has ended meanwhile
            if words[0] == PROGRAM and words[1].rpartition("-")[0] == role:
                found[words[1]] = pid
        return found

    @property
    def nursery(self) -> int:
        """The process id of the nursery, 0 while there is none."""
        names = {pid: name_of(pid) for pid in children_of(self.process.pid)}
        return next((pid for pid, name in names.items() if name == NAME), 0)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one kind, oldest first."""
        lines = [json.loads(line) for line in list(self.process.lines) if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]


def mtls(certificates: Certificates) -> dict[str, Any]:
    """`listen.tls` that demands a client certificate of the tests' CA."""
    return {
        "certificate": str(certificates.server.certificate),
        "key": str(certificates.server.key),
        "client_ca": str(certificates.ca),
        "client_certificates": "required",
    }


def guarded(certificates: Certificates, upstream: str, methods: str = "/**") -> dict[str, Any]:
    """A config that lets the tests' client, and nobody else, call `methods` at `upstream` over mTLS."""
    return {
        "listen": {"address": "127.0.0.1:0", "tls": mtls(certificates)},
        "upstream": {"address": upstream},
        "authentication": {"mtls": {"trust_domains": [TRUST_DOMAIN]}},
        "authorization": {"rules": [{"identities": [CLIENT], "methods": [methods]}]},
    }


def write(file: Path, config: dict[str, Any]) -> None:
    """As one change: another reader finds the old config or the new one."""
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as out:
        YAML(typ="safe").dump(config, out)
    new.rename(file)


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process lead to. A sidecar's are root's to see: others ask sudo, or skip the test."""
    command = ["find", f"/proc/{pid}/fd", "-type", "l", "-printf", "%l\\n"]
    found = subprocess.run([*SUDO, *command], capture_output=True, text=True, timeout=30, check=False)
    if SUDO and found.returncode != 0:
        pytest.skip(f"the descriptors of another process are root's to see: {found.stderr.strip()}")
    return found.stdout.splitlines()


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children, zombies included."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def name_of(pid: int) -> str:
    """A process's own name, "" where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")
    except OSError:
        return ""


@contextmanager
def serve(
    config: dict[str, Any],
    directory: Path,
    *,
    grace_s: float = 30.0,
    status: int = 0,
    faults: frozenset[str] = frozenset(),
    environment: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Sidecar]:
    """Run the sidecar with `config` until the block ends, then stop it with SIGTERM.

    `listen.address` and `state.directory` are filled in where absent.  under: a command that runs it.
    Raises ProcessError where it does not listen within 30 s, does not stop within `grace_s`, exits with another
    status than `status`, or where its log has a traceback or a line of level error whose event is none of `faults`.
    """
    config = {**config, "state": {"directory": str(directory / "state"), **config.get("state", {})}}
    config["listen"] = {"address": "127.0.0.1:0", **config.get("listen", {})}
    file = directory / "sidecar.yaml"
    write(file, config)
    command = [*under, sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
    with Process(command, environment=environment) as process:
        line = process.wait_line(_says_listening)
        yield Sidecar(process, json.loads(line)["address"], Path(config["state"]["directory"]), file)
        ended = process.terminate(grace_s)
        if ended != status:
            raise ProcessError(f"the sidecar exited with status {ended}, expected {status}:\n{process.tail()}")
        if "Traceback (most recent call last)" in process.log:
            raise ProcessError(f"the sidecar logged a traceback:\n{process.tail(200)}")
        _refuse_faults(process, faults)


def _says_listening(line: str) -> bool:
    return line.startswith("{") and json.loads(line).get("event") == "listening"


def _refuse_faults(process: Process, expected: frozenset[str]) -> None:
    said = [json.loads(line) for line in process.lines if line.startswith("{")]
    bad = [line for line in said if line.get("level") in LOG_LEVELS_OF_FAULTS and line["event"] not in expected]
    if bad:
        raise ProcessError("the sidecar logged errors:\n" + "\n".join(map(str, bad[:20])))
