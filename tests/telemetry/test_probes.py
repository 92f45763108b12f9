"""The probe listener over real sockets: three questions are answered, and nobody can hold it up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from sidecar.telemetry.probes import CONNECTIONS, HEAD_MOST, Probes
from sidecar.telemetry.readiness import Check
from tests.waiting import eventually

PASSED = Check("workers", True, "2 of 2")
FAILED = Check("upstream", False, "none")


class State:
    """A Readiness that a test turns."""

    def __init__(self, ready: Sequence[Check] = (PASSED,), alive: Sequence[Check] = (PASSED,)) -> None:
        self._ready, self._alive = ready, alive

    def ready(self) -> Sequence[Check]:
        return self._ready

    def alive(self) -> Sequence[Check]:
        return self._alive


def told(open_metrics: bool) -> bytes:
    return b"open" if open_metrics else b"text"


def on(probes: Probes, run: Callable[[int], Awaitable[None]]) -> None:
    """Run against a listener at a port."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(probes.protocol, "127.0.0.1", 0)
        async with server:
            await asyncio.wait_for(run(server.sockets[0].getsockname()[1]), 30)

    asyncio.run(serve())


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the one answer, after which the connection ends; (0, {}, "") where none came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        answer = (await reader.read()).decode()
    except ConnectionError:
        answer = ""
    writer.close()
    if not answer:
        return 0, {}, ""
    head, _, body = answer.partition("\r\n\r\n")
    first, *fields = head.split("\r\n")
    return int(first.split(" ")[1]), dict(field.split(": ", 1) for field in fields), body


def answered(request: bytes, state: State | None = None) -> tuple[int, dict[str, str], str]:
    found = []

    async def run(port: int) -> None:
        found.append(await ask(port, request))

    on(Probes(state or State(), told), run)
    return found[0]


def get(target: str, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\n{extra}\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (get("/livez"), 200, "ok\n"),
        (get("/healthz"), 200, "ok\n"),
        (get("/readyz"), 200, "ok\n"),
        (get("/readyz?verbose"), 200, "[+]workers ok: 2 of 2\nok\n"),
        (get("/metrics"), 200, "text"),
        (get("/metrics", extra="accept: application/openmetrics-text;version=1.0.0\r\n"), 200, "open"),
        (get("/metrics", "HEAD"), 200, ""),
        (get("/livez", "POST"), 405, "expected GET or HEAD\n"),
        (get("/", "GET"), 404, "expected /livez, /readyz or /metrics\n"),
        (get("/metrics/"), 404, "expected /livez, /readyz or /metrics\n"),
        (get("//livez"), 404, "expected /livez, /readyz or /metrics\n"),
        (get("//["), 404, "expected /livez, /readyz or /metrics\n"),
        (get("/debug", "POST"), 404, "expected /livez, /readyz or /metrics\n"),
        (get("http://a/livez"), 400, "not an HTTP/1.1 request\n"),
        (b"GET /livez HTTP/2.0\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        (b"GET  /livez HTTP/1.1\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        (b"\xff\xfe\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        (get("/livez", extra="a: " + "x" * HEAD_MOST + "\r\n"), 431, "request too large\n"),
        (b"x" * (HEAD_MOST + 1), 431, "request too large\n"),
        (get("/livez") + get("/metrics"), 200, "ok\n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_asked_is_answered_once(request_: bytes, status: int, body: str) -> None:
    found, headers, text = answered(request_)
    assert (found, text) == (status, body)
    assert headers["Connection"] == "close"
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)
    if not request_.startswith(b"HEAD"):
        assert int(headers["Content-Length"]) == len(body)


def test_readiness_and_liveness_fail_with_their_reasons() -> None:
    assert answered(get("/readyz"), State((PASSED, FAILED)))[::2] == (503, "[-]upstream failed: none\nfailed\n")
    verbose = "[+]workers ok: 2 of 2\n[-]upstream failed: none\nfailed\n"
    assert answered(get("/readyz?verbose"), State((PASSED, FAILED)))[::2] == (503, verbose)
    assert answered(get("/livez"), State(ready=(FAILED,)))[0] == 200
    assert answered(get("/livez"), State(alive=(FAILED,)))[0] == 503


def test_a_failing_check_is_an_error_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(State):
        def ready(self) -> Sequence[Check]:
            raise RuntimeError("secret")

    assert answered(get("/readyz"), Broken())[::2] == (500, "internal error\n")
    assert caplog.messages == ["probe_failed"]


def test_a_request_may_come_in_pieces() -> None:
    async def run(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in get("/livez"):
            writer.write(bytes((byte,)))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()

    on(Probes(State(), told), run)


def test_who_says_nothing_is_cut() -> None:
    async def run(port: int) -> None:
        assert await ask(port, b"GET /livez") == (0, {}, "")

    on(Probes(State(), told, time_s=0.05), run)


def test_who_does_not_read_is_cut() -> None:
    served: list[bool] = []

    def much(open_metrics: bool) -> bytes:
        served.append(open_metrics)
        return b"x" * (64 << 20)

    probes = Probes(State(), much, time_s=0.2)

    async def run(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.send(get("/metrics"))
            in_thread = asyncio.get_running_loop().run_in_executor
            await in_thread(None, eventually, lambda: bool(served), "it is answered")
            await in_thread(None, eventually, lambda: not probes.open, "it is cut")

    on(probes, run)


def test_one_connection_too_many_is_closed_and_those_before_are_heard() -> None:
    async def run(port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        assert await ask(port, get("/livez")) == (0, {}, "")
        for reader, writer in held:
            writer.write(get("/livez"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert (await ask(port, get("/livez")))[0] == 200

    on(Probes(State(), told), run)
