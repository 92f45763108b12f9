"""The client's calls, each in a process of its own and in the model server's environment."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.demo.children import ENVIRONMENT
from sidecar.demo.errors import DemoError

CLIENT = Path(__file__).resolve().parent / "client.py"
CALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A Python with tritonclient, the sidecar's address, and the directory of the certificates."""

    python: Path
    address: str
    certificates: Path

    def command(self, identity: str | None, *arguments: str, traceparent: str = "") -> list[str]:
        """identity: whose certificate is shown, by its file's name; None shows none."""
        pem = self.certificates
        command = [str(self.python), str(CLIENT), "--url", self.address, "--ca", str(pem / "ca.pem")]
        if identity is not None:
            command += ["--certificate", str(pem / f"{identity}.pem"), "--key", str(pem / f"{identity}-key.pem")]
        if traceparent:
            command += ["--traceparent", traceparent]
        return [*command, *arguments]

    def ask(self, identity: str | None, *arguments: str, traceparent: str = "") -> dict[str, Any]:
        """The client's answer or gRPC error, as client.py prints it. Raises DemoError where it prints neither."""
        command = self.command(identity, *arguments, traceparent=traceparent)
        # In the demo's own process group: Ctrl-C ends it together with the demo.
        environment = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CALL_S, env=environment)
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise DemoError(
                f"the client ended with status {done.returncode} and said:\n{done.stderr.strip()}"
            ) from None
        return answer
