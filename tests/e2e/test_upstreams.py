"""Real model servers that are killed, stall, reset, fail calls, are slow, send connections away or move, under load."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import grpc
import pytest

from bench.harness.grpc_server import INFER, SERVED
from tests.conftest import StartSidecar
from tests.e2e.load import load
from tests.e2e.names import names
from tests.e2e.upstream import echo
from tests.processes import Process
from tests.waiting import eventually

UNARY: Final = {"name": "Infer", "unary_request": True, "unary_response": True}
CALLERS: Final = 16
MARGIN_S: Final = 10.0  # what a busy machine adds to a time of the config
OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


class ModelServer:
    """A process of `bench.harness.grpc_server`; it may be killed and started again at the same port."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.port = 0
        self.process = self.start()

    def start(self) -> Process:
        options = {"port": self.port, **self._options}
        arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        self.process = Process([sys.executable, "-m", "bench.harness.grpc_server", *arguments])
        self.port = int(self.process.wait_line(str.isdigit))
        return self.process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)
        if number is signal.SIGSTOP:
            stat = Path(f"/proc/{self.process.pid}/stat")
            eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "every thread of it stops")

    def served(self) -> int:
        """Calls that have reached it."""
        with grpc.insecure_channel(self.address) as channel:
            ask: Any = channel.unary_unary(SERVED)
            return int(ask(b"", timeout=10))


class Caller:
    """A client of the sidecar.  sidecar: its process."""

    def __init__(self, sidecar: Process, channel: grpc.Channel) -> None:
        self.sidecar = sidecar
        self._infer: Any = channel.unary_unary(INFER)
        self._pool = ThreadPoolExecutor(CALLERS)

    def once(self, seconds: float = 0.0) -> tuple[grpc.StatusCode, str]:
        """One call that takes so long; its status and message."""
        try:
            self._infer(b"%g" % seconds, timeout=30)
        except grpc.RpcError as error:
            ended: Any = error  # a grpc.Call too
            return ended.code(), ended.details() or ""
        return OK, ""

    def begin(self, count: int, seconds: float = 0.0) -> Iterator[tuple[grpc.StatusCode, str]]:
        """`count` calls, CALLERS at a time; they are on their way when this returns."""
        return self._pool.map(self.once, [seconds] * count)

    def well(self) -> bool:
        return self.once()[0] is OK

    def close(self) -> None:
        self._pool.shutdown()


@contextmanager
def relayed(start_sidecar: StartSidecar, *servers: ModelServer, **upstream: Any) -> Iterator[Caller]:
    """A sidecar in front of the servers, which are killed in the end."""
    section = {"services": [{"service": "faults.Model", "methods": [UNARY]}], **upstream}
    section["address"] = [server.address for server in servers]
    config = {"listen": {"tls": "none"}, "upstream": section, "unsafe_observe_only": True}
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
        sidecar = stack.enter_context(start_sidecar(config))
        channel = stack.enter_context(grpc.insecure_channel(sidecar.address))
        caller = Caller(sidecar.process, channel)
        stack.callback(caller.close)
        eventually(caller.well, "the model server serves")
        yield caller


def test_a_model_server_that_is_killed_and_comes_back(start_sidecar: StartSidecar) -> None:
    server = ModelServer()
    with relayed(start_sidecar, server) as caller:
        before = server.served()
        calls = caller.begin(CALLERS, 30)
        eventually(lambda: server.served() == before + CALLERS, "all calls have reached it")
        server.kill()
        ended = list(calls)
        assert {code for code, _ in ended} == {UNAVAILABLE}
        assert all(message.startswith("model server: connection lost") for _, message in ended)
        assert caller.once()[0] is UNAVAILABLE
        server.start()
        eventually(caller.well, "the model server serves again")


def test_a_model_server_that_stalls_and_goes_on(start_sidecar: StartSidecar) -> None:
    server = ModelServer()
    with relayed(start_sidecar, server, keepalive="1s", keepalive_timeout="200ms") as caller:
        server.signal(signal.SIGSTOP)
        assert set(caller.begin(CALLERS)) == {(UNAVAILABLE, "model server: no answer to a PING within 0.2 s")}
        assert caller.once() == (UNAVAILABLE, "model server is unavailable")
        server.signal(signal.SIGCONT)
        eventually(caller.well, "the model server serves again")


def test_a_model_server_that_is_too_slow(start_sidecar: StartSidecar) -> None:
    with relayed(start_sidecar, ModelServer(), per_try_timeout="1s") as caller:
        assert set(caller.begin(4, 20)) == {(UNAVAILABLE, "model server: no answer within 1 s")}
        assert caller.well()


def test_connections_that_are_sent_away_lose_no_call(start_sidecar: StartSidecar) -> None:
    """Each lives for about 300 ms."""
    server = ModelServer(age_ms=300)
    with relayed(start_sidecar, server) as caller:
        assert Counter(caller.begin(1500, 0.02)) == {(OK, ""): 1500}
        assert caller.sidecar.log.count('"upstream_up"') > 3


def test_one_of_three_is_killed_under_load(start_sidecar: StartSidecar) -> None:
    servers = [ModelServer() for _ in range(3)]
    with relayed(start_sidecar, *servers) as caller:
        calls = caller.begin(600, 0.02)
        eventually(lambda: servers[0].served() > 20, "it has calls")
        servers[0].kill()
        ended = Counter(code for code, _ in calls)
        assert ended[UNAVAILABLE] <= CALLERS  # no more than were open
        assert ended[OK] + ended[UNAVAILABLE] == 600
        assert Counter(caller.begin(200)) == {(OK, ""): 200}
        servers[0].start()
        eventually(lambda: caller.well() and servers[0].served() > 0, "it has calls again")


@pytest.mark.parametrize("behaviour", ["unavailable", "resets"])
def test_one_of_three_is_bad(start_sidecar: StartSidecar, behaviour: str) -> None:
    """With retries on no caller notices, and the three together have at most a tenth more calls than were made."""
    good = [ModelServer() for _ in range(2)]
    bad = ModelServer(behaviour=behaviour)
    with relayed(start_sidecar, *good, bad, retries={"attempts": 1}, ejection={"time": "1s"}) as caller:
        before = sum(server.served() for server in good)
        assert Counter(caller.begin(2000)) == {(OK, ""): 2000}
        assert sum(server.served() for server in good) - before == 2000
        if behaviour == "unavailable":
            assert bad.served() <= 200


def test_without_retries_a_bad_one_costs_few_calls(start_sidecar: StartSidecar) -> None:
    good = [ModelServer() for _ in range(2)]
    with relayed(start_sidecar, *good, ModelServer(behaviour="unavailable")) as caller:
        ended = Counter(caller.begin(1000))
        assert ended[OK, ""] >= 1000 - 5 - CALLERS
        assert ended[UNAVAILABLE, "out of order"] == 1000 - ended[OK, ""]


def test_a_name_that_moves_to_another_server(tmp_path: Path, start_sidecar: StartSidecar) -> None:
    """By a real DNS server and the system's own resolver. What is open stays where it is."""
    with ExitStack() as stack:
        first, at = stack.enter_context(echo("127.0.0.2:0"))
        port = at.rpartition(":")[2]
        second, _ = stack.enter_context(echo(f"127.0.0.3:{port}"))
        known = stack.enter_context(names(tmp_path))
        known.put("models.test", "127.0.0.2")
        config = {
            "listen": {"tls": "none"},
            "upstream": {"address": f"models.test:{port}", "dns_refresh": "1s", "unsafe_open_upstream": True},
            "unsafe_observe_only": True,
        }
        sidecar = stack.enter_context(start_sidecar(config, under=known.under))
        calls = stack.enter_context(load(lambda: grpc.insecure_channel(sidecar.address)))
        assert first.calls
        assert not second.calls
        known.put("models.test", "127.0.0.3")
        began = monotonic()
        eventually(lambda: bool(second.calls), "calls go to the other address", 1 + MARGIN_S)
        print(f"new calls go to the new address after {monotonic() - began:.2f} s, dns_refresh 1 s")
        assert [line["address"] for line in sidecar.logged("upstream_left")] == [f"127.0.0.2:{port}"]
        calls.more(20)  # those that were on their way to the first
        before, echoes = len(first.calls), calls.echoes
        calls.more(200)
        eventually(lambda: calls.echoes > echoes + 20, "streams that were open go on")
        assert len(first.calls) == before
        known.process.kill()
        eventually(lambda: bool(sidecar.logged("upstream_lookup_failed")), "nobody answers for the name")
        calls.more(200)  # at the address that was found last
        assert calls.errors == []
