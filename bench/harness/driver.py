"""Load by bench/load/load.c: headers that vary from call to call, a fixed rate, callers by the hundred, latencies.

Its connections are up before a round is measured, so that handshakes do not count, and every call's own gRPC status
does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.harness import builds
from bench.harness.certificates import Certificates
from bench.harness.errors import BenchError
from bench.harness.h2load import CIPHER, TLS
from bench.harness.loads import Go, Report, Shape
from bench.harness.payload import METHOD
from bench.harness.processes import Process, Processes

WITHIN_S = 120.0


@dataclass(slots=True)
class Driver:
    """The load generator, with the calls it makes; a `loads.Load`.

    certificates: None for plaintext.  answer: bytes of data in each answer, None for the request's.
    sample: one call of so many says that it is sampled, 0 for none.  rate: calls a second, 0 for a closed loop.
    authorization: a header of every call, "" for none.
    identities: a folder of client certificates, 0.pem and so on, of which every connection takes the next.
    """

    processes: Processes
    certificates: Certificates | None
    body: bytes
    shape: Shape
    path: str = METHOD
    answer: int | None = None
    vary: bool = True
    sample: int = 100
    rate: int = 0
    authorization: str = ""
    identities: Path | None = None
    _taken: int = field(default=0, init=False)  # of the identities

    @contextmanager
    def connected(self, port: int, calls: int, sampled: bool) -> Iterator[Go]:
        process = self.processes.start("load", [*self._command(port), "--calls", str(calls), "--wait"])
        try:
            process.wait_for(lambda: "ready" in process.output() or None, "connect", WITHIN_S)
            yield partial(self._go, process, calls)
        finally:
            self.processes.stop(process)

    def _command(self, port: int) -> list[str]:
        file = self.processes.folder / "load-body.bin"
        file.write_bytes(self.body)
        command = [str(builds.load()), "--port", str(port), "--path", self.path, "--body", str(file)]
        command += ["--connections", str(self.shape.connections), "--streams", str(self.shape.streams)]
        command += ["--sample", str(self.sample), "--rate", str(self.rate), *(["--vary"] if self.vary else [])]
        if self.authorization:
            command += ["--authorization", self.authorization]
        if self.certificates is not None:
            command += ["--key", str(self.certificates.client_key), "--ca", str(self.certificates.ca)]
            command += ["--ciphers", CIPHER]
            if self.identities is None:
                command += ["--certificate", str(self.certificates.client)]
            else:
                command += ["--identities", str(self.identities), "--first", str(self._taken)]
                self._taken += self.shape.connections
        return command

    def _go(self, process: Process, calls: int) -> Report:
        os.kill(process.pid, signal.SIGUSR1)
        told = process.wait_for(lambda: _line(process.output()), "make its calls", WITHIN_S)
        said = json.loads(told)
        data = calls * (len(self.body) if self.answer is None else self.answer)
        if said["statuses"] != {"0": calls} or said["data"] != data:
            raise BenchError(f"void: expected {calls} calls of status 0 with {data} bytes of data, came {told}")
        expected = "" if self.certificates is None else TLS
        if said["tls"] != expected:
            raise BenchError(f"void: expected the calls to travel over {expected or 'no TLS'}, came {said['tls']}")
        return Report(said["seconds"], said["p50_us"], said["p99_us"])


def _line(output: str) -> str | None:
    return next((line for line in output.splitlines(keepends=True) if line[0] == "{" and line[-1] == "\n"), None)
