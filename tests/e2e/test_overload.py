"""Many real clients and a real model server that answers two calls at once: shed, not suffered."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from bench.harness.grpc_server import HEALTH, INFER, SERVING
from tests.conftest import StartSidecar
from tests.e2e.test_upstreams import UNARY, ModelServer
from tests.sidecars import Sidecar
from tests.waiting import eventually

CALLERS: Final = 60
SERVICE: Final = b"0.05"  # seconds; two at once, so that of 60 calls the last one waits for a second and a half
OK, UNAVAILABLE, EXHAUSTED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


def delays(error: Any) -> tuple[float, float]:
    """Seconds after which a refused client may come again: by RetryInfo, and by gRPC's pushback."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    return retry.retry_delay.ToTimedelta().total_seconds(), int(trailers["grpc-retry-pushback-ms"]) / 1e3


class Crowd:
    """Callers who come again as they are told. refused: how they were told so, by code."""

    def __init__(self, address: str) -> None:
        self.seen: Counter[grpc.StatusCode] = Counter()
        self.wrong: list[str] = []
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self._address, options) as channel:
            infer: Any = channel.unary_unary(INFER)
            while not self._stop.is_set():
                try:
                    infer(SERVICE, timeout=30)
                    self.seen[OK] += 1
                except grpc.RpcError as error:
                    self._refused(error)

    def _refused(self, error: Any) -> None:
        self.seen[error.code()] += 1
        info, pushback = delays(error)
        if info != pushback or not 0.05 <= info <= 5:
            self.wrong.append(f"{info} {pushback}")
        self._stop.wait(pushback)


@contextmanager
def overloaded(start_sidecar: StartSidecar, **limits: Any) -> Iterator[tuple[Sidecar, Crowd]]:
    with ExitStack() as stack:
        server = ModelServer(places=2)
        stack.callback(server.kill)
        upstream = {"address": server.address, "services": [{"service": "faults.Model", "methods": [UNARY]}]}
        config = {"listen": {"tls": "none", "limits": limits}, "upstream": upstream, "unsafe_observe_only": True}
        sidecar = stack.enter_context(start_sidecar(config))
        with grpc.insecure_channel(sidecar.address) as channel:
            infer: Any = channel.unary_unary(INFER)
            for _ in range(10):  # one after the other: what an answer takes without a line
                infer(SERVICE, timeout=30)
        yield sidecar, stack.enter_context(Crowd(sidecar.address))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("limits", "code", "reason"),
    [
        ({}, UNAVAILABLE, "overload.concurrency"),
        ({"calls": 5, "adaptive": False}, EXHAUSTED, "overload.calls"),
    ],
    ids=["latency", "calls"],
)
def test_overload_is_shed(
    start_sidecar: StartSidecar, limits: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    with overloaded(start_sidecar, **limits) as (sidecar, crowd):
        eventually(lambda: crowd.seen[code] > 50, "calls are refused", 60)
        (worker,) = sidecar.children("worker").values()
        before, answered = resident(worker), crowd.seen[OK]
        with grpc.insecure_channel(sidecar.address) as channel:
            health: Any = channel.unary_unary(HEALTH)
            for _ in range(20):
                assert health(b"", timeout=10) == SERVING
        eventually(lambda: crowd.seen[code] > 500 and crowd.seen[OK] > answered + 200, "it goes on", 60)
        assert resident(worker) < before + (16 << 20)
    assert set(crowd.seen) == {OK, code}
    assert crowd.wrong == []
    # Refusals are folded: far fewer lines than refusals, and they tell how many.
    refused = [event for event in sidecar.events() if event["kind"] == "call.refused"]
    assert {event["reason"] for event in refused} == {reason}
    assert len(refused) < 100
    assert sum(event["count"] for event in refused) == crowd.seen[code]
