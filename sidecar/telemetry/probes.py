"""The probe listener: GET /livez, /healthz, /readyz and /metrics over HTTP/1.1 in plaintext, and nothing else.

Plaintext on purpose: kubelet and Prometheus ask here, without certificates of ours, and nothing here is secret or
changes anything. One request a connection, bounded in size, time and number; whatever else is asked gets 404 or 405.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

from sidecar.logs import Log
from sidecar.telemetry.exposition import OPEN_METRICS, TEXT, accepts_open_metrics
from sidecar.telemetry.readiness import Check, Readiness

_log = Log("probes")
HEAD_MOST: Final = 8 << 10  # bytes of a request
CONNECTIONS: Final = 64  # at once; one more is closed unheard
TIME_S: Final = 10.0  # for a connection, from its first byte to its last
PLAIN: Final = "text/plain; charset=utf-8"
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Probes:
    """What is asked for. metrics: the text, in OpenMetrics where the argument is True.  time_s: for a connection."""

    def __init__(self, readiness: Readiness, metrics: Callable[[bool], bytes], time_s: float = TIME_S) -> None:
        self.time_s = time_s
        self._readiness = readiness
        self._metrics = metrics
        self.open: set[ProbeConnection] = set()

    def protocol(self) -> ProbeConnection:
        """A protocol for `loop.create_server`."""
        return ProbeConnection(self)

    def answer(self, method: str, target: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        path, _, query = target.partition("?")
        if path not in ("/livez", "/healthz", "/readyz", "/metrics"):
            return 404, PLAIN, b"expected /livez, /readyz or /metrics\n"
        if method not in ("GET", "HEAD"):
            return 405, PLAIN, b"expected GET or HEAD\n"
        if path == "/metrics":
            open_metrics = accepts_open_metrics(accept)
            return 200, OPEN_METRICS if open_metrics else TEXT, self._metrics(open_metrics)
        checks = self._readiness.ready() if path == "/readyz" else self._readiness.alive()
        passed = all(check.passed for check in checks)
        return 200 if passed else 503, PLAIN, report(checks, passed, "verbose" in query.split("&"))


def report(checks: Sequence[Check], passed: bool, verbose: bool) -> bytes:
    """One line a check, those that failed always: `[+]upstream ok: 2 endpoints`, `[-]disk failed: …`."""
    shown = [check for check in checks if verbose or not check.passed]
    lines = [
        f"[{'+' if each.passed else '-'}]{each.name} {'ok' if each.passed else 'failed'}: {each.reason}"
        for each in shown
    ]
    return "\n".join([*lines, "ok" if passed else "failed", ""]).encode()


class ProbeConnection(asyncio.Protocol):
    """One connection: one request, one answer, closed."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._head = bytearray()
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._probes.time_s, self._transport.abort)
        if len(self._probes.open) >= CONNECTIONS:
            self._transport.abort()
        else:
            self._probes.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._probes.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return  # a body, or a second request: nobody reads it
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end >= 0 and end <= HEAD_MOST:
            self._respond(bytes(self._head[:end]))
        elif len(self._head) > HEAD_MOST:
            self._send("GET", 431, PLAIN, b"request too large\n")

    def _respond(self, head: bytes) -> None:
        request = parsed(head)
        if request is None:
            self._send("GET", 400, PLAIN, b"not an HTTP/1.1 request\n")
            return
        method, target, accept = request
        try:
            status, kind, body = self._probes.answer(method, target, accept)
        except Exception as error:  # whoever probes learns that it failed, the operator why
            _log.error("probe_failed", error, target=target)
            status, kind, body = 500, PLAIN, b"internal error\n"
        self._send(method, status, kind, body)

    def _send(self, method: str, status: int, kind: str, body: bytes) -> None:
        self._answered = True
        allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{allow}"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + (b"" if method == "HEAD" else body))
        self._transport.close()


def parsed(head: bytes) -> tuple[str, str, str] | None:
    """Method, target and Accept of a request, or None of what is none (RFC 9112 §3)."""
    try:
        request, *fields = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return None
    words = request.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        return None
    accept = [
        value.strip() for name, _, value in (field.partition(":") for field in fields) if name.lower() == "accept"
    ]
    return words[0], words[1], ",".join(accept)
