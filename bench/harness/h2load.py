"""Load by h2load over mTLS: a fixed number of calls, after which every one of them must have been answered.

h2load sends the same headers on every call and many calls in one write, which flatters any proxy; shapes of one
stream a connection stand beside for that reason, and `driver`, whose headers vary. Its handshakes fall among its
calls. It does not look into trailers: that an answer is the echo, and not a refusal, is told by the bytes of data that
came back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bench.harness.builds import client_certificate
from bench.harness.certificates import Certificates
from bench.harness.errors import BenchError
from bench.harness.loads import Go, Report, Shape
from bench.harness.payload import METHOD
from bench.harness.processes import Processes, program

# The example of the W3C recommendation, section 3.2.2: a caller that traces.
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7"
CIPHER = "TLS_AES_128_GCM_SHA256"
TLS = f"TLSv1.3 {CIPHER}"
HEADERS = ("content-type: application/grpc", "te: trailers")
WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Output:
    """What h2load says of a run. seconds: from the first connection to the last answer.  data: bytes."""

    done: int
    succeeded: int
    ok_status: int  # answers with an HTTP status of 2xx
    data: int
    seconds: float
    tls: str  # "TLSv1.3 TLS_AES_128_GCM_SHA256", "" without TLS


class H2Load:
    """h2load, with the call it sends and the certificate it presents; a `loads.Load`."""

    def __init__(
        self, processes: Processes, certificates: Certificates, body: bytes, shape: Shape, traces: bool = False
    ) -> None:
        """traces: whether the caller has a trace context, the same for every call."""
        self._processes = processes
        self._body = body
        self._shape = shape
        self._traces = traces
        self._file = processes.folder / "h2load-body.bin"
        self._file.write_bytes(body)
        identity = (f"MTLS_CERT={certificates.client}", f"MTLS_KEY={certificates.client_key}")
        self._command = [program("env", "coreutils"), f"LD_PRELOAD={client_certificate()}", *identity]
        # One cipher suite for every proxy, whichever it would prefer itself.
        self._command += [program("h2load", "nghttp2-client"), "-t1", f"--tls13-ciphers={CIPHER}"]

    @contextmanager
    def connected(self, port: int, calls: int, sampled: bool) -> Iterator[Go]:
        yield partial(self._run, port, calls, sampled)

    def _run(self, port: int, calls: int, sampled: bool) -> Report:
        arguments = [f"-n{calls}", f"-c{self._shape.connections}", f"-m{self._shape.streams}", "-d", str(self._file)]
        trace = (f"traceparent: {TRACEPARENT}-0{sampled:d}",) if self._traces else ()
        for header in (*HEADERS, *trace):
            arguments += ["-H", header]
        url = f"https://127.0.0.1:{port}{METHOD}"
        found = parse(self._processes.run("h2load", [*self._command, *arguments, url], WITHIN_S))
        data = calls * len(self._body)
        if (found.done, found.succeeded, found.ok_status, found.data) != (calls, calls, calls, data):
            raise BenchError(f"void: expected {calls} calls answered with {data} bytes of data, came {found}")
        if found.tls != TLS:
            raise BenchError(f"void: expected the calls to travel over {TLS}, came {found.tls or 'no TLS'}")
        return Report(found.seconds)


def parse(output: str) -> Output:
    """Read h2load's output. Raises BenchError when it is not as nghttp2 1.52 prints it."""
    if "client certificate: load failed" in output:
        raise BenchError("h2load could not load its client certificate")
    requests = _find(r"^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, ", output)
    status = _find(r"^status codes: (\d+) 2xx, ", output)
    traffic = _find(r"^traffic: .* headers .*, \S+ \((\d+)\) data$", output)
    amount, unit = _find(r"^finished in ([\d.]+)(us|ms|s|m|h)?", output)
    protocol = re.search(r"^TLS Protocol: (\S+)$", output, re.MULTILINE)
    cipher = re.search(r"^Cipher: (\S+)$", output, re.MULTILINE)
    return Output(
        done=int(requests[0]),
        succeeded=int(requests[1]),
        ok_status=int(status[0]),
        data=int(traffic[0]),
        seconds=float(amount) * UNITS[unit],
        tls=f"{protocol[1]} {cipher[1]}" if protocol and cipher else "",
    )


UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def _find(pattern: str, output: str) -> tuple[str, ...]:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise BenchError(f"h2load's output has no line {pattern!r}:\n{output[-1000:]}")
    return found.groups()
