"""The load generator against a real server: every call is made and counted, and headers vary as asked."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.harness import certificates
from bench.harness.certificates import CALLERS, CLIENT, Certificates
from bench.harness.driver import Driver
from bench.harness.errors import BenchError
from bench.harness.loads import Shape
from bench.harness.payload import METHOD, STREAM, STREAMED
from bench.harness.processes import Processes
from tests.parts import require

BODY = b"\0\0\0\0\5hello"


class Server(grpc.GenericRpcHandler):
    """Echoes, and notes who called with what."""

    def __init__(self) -> None:
        self.seen: dict[str, Counter[str]] = {"traceparent": Counter(), "x-request-id": Counter(), "caller": Counter()}
        self.left: list[float] = []  # seconds that calls had
        self.fails = False

    def service(self, details: Any) -> Any:
        if details.method == STREAM:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: repeat(b"s" * 200, 100))
        return grpc.unary_unary_rpc_method_handler(self._echo)

    def _echo(self, request: bytes, context: Any) -> bytes:
        if self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")
        for key, value in context.invocation_metadata():
            if key in self.seen:
                self.seen[key][value] += 1
        for name in context.peer_identities() or ():
            self.seen["caller"][name.decode()] += 1
        self.left.append(context.time_remaining())
        return request


@contextmanager
def serving(issued: Certificates | None = None) -> Iterator[tuple[Server, int]]:
    handler, server = Server(), grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    if issued is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = issued.server_key.read_bytes(), issued.server.read_bytes()
        credentials = grpc.ssl_server_credentials([pair], issued.ca.read_bytes(), require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield handler, port
    finally:
        server.stop(0).wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    require(shutil.which("gcc") is not None, "gcc is not installed: apt-get install gcc")
    for package, header in (("libnghttp2-dev", "nghttp2/nghttp2.h"), ("libssl-dev", "openssl/ssl.h")):
        require(Path("/usr/include", header).exists(), f"{header} is not installed: apt-get install {package}")
    with Processes(tmp_path / "run") as started:
        yield started


def run(driver: Driver, port: int, calls: int) -> None:
    with driver.connected(port, calls, True) as go:
        report = go()
    assert report.p50_us is not None
    assert report.p99_us is not None
    assert 0 < report.p50_us <= report.p99_us <= report.seconds * 1e6


def test_headers_vary_from_call_to_call(processes: Processes) -> None:
    with serving() as (server, port):
        run(Driver(processes, None, BODY, Shape(3, 5), sample=10), port, 200)
    assert len(server.seen["traceparent"]) == len(server.seen["x-request-id"]) == 200
    assert sum(parent.endswith("-01") for parent in server.seen["traceparent"]) == 20
    assert len({round(left) for left in server.left}) > 10


def test_headers_are_the_same_where_asked(processes: Processes) -> None:
    with serving() as (server, port):
        run(Driver(processes, None, BODY, Shape(2, 2), vary=False, sample=0), port, 50)
    assert server.seen["x-request-id"].most_common() == [("000000005bd1e995", 50)]
    assert [count for _, count in server.seen["traceparent"].most_common()] == [50]


def test_a_fixed_rate_uses_every_connection(processes: Processes) -> None:
    with serving() as (server, port):
        run(Driver(processes, None, BODY, Shape(20, 1), rate=500), port, 100)
    assert len(server.left) == 100


def test_over_tls_with_a_certificate(processes: Processes) -> None:
    issued = certificates.issue(processes.folder, datetime.now(UTC))
    with serving(issued) as (server, port):
        run(Driver(processes, issued, BODY, Shape(2, 2)), port, 20)
    assert server.seen["caller"] == {CLIENT: 20}


def test_every_connection_takes_the_next_identity(processes: Processes) -> None:
    issued = certificates.issue(processes.folder, datetime.now(UTC), callers=8)
    with serving(issued) as (server, port):
        driver = Driver(processes, issued, BODY, Shape(4, 1), identities=issued.callers)
        run(driver, port, 4)
        run(driver, port, 4)
    assert server.seen["caller"] == {f"{CALLERS}{number}": 1 for number in range(8)}


def test_a_stream_is_counted_by_its_bytes(processes: Processes) -> None:
    with serving() as (_, port):
        run(Driver(processes, None, BODY, Shape(2, 2), path=STREAM, answer=STREAMED), port, 10)


def test_calls_that_fail_void_the_round(processes: Processes) -> None:
    with serving() as (server, port):
        server.fails = True
        driver = Driver(processes, None, BODY, Shape(1, 1), path=METHOD)
        with (
            pytest.raises(BenchError, match=r'expected 5 calls of status 0 .*"14": 5'),
            driver.connected(port, 5, True) as go,
        ):
            go()


def test_a_server_that_is_not_there_is_an_error(processes: Processes) -> None:
    driver = Driver(processes, None, BODY, Shape(1, 1))
    with pytest.raises(BenchError, match=r"cannot connect to 127\.0\.0\.1:1"), driver.connected(1, 5, True):
        pass
