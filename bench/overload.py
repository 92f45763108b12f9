"""What becomes of calls, memory and health checks when five times as many calls come as the model server can answer.

A grpcio server that answers a few calls at once, a sidecar in plaintext, and grpcio as the client, all on whatever
cores there are. The load is an open loop: calls come at their times, whether or not earlier ones have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc

from bench.harness import children, results, sidecar
from bench.harness.errors import BenchError
from bench.harness.grpc_server import HEALTH, INFER
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals

PLACES = 4
SERVICE_S = 0.1
CHANNELS = 8
OVERLOAD = 5
ONSET_S = 5.0
PUSHBACK = "grpc-retry-pushback-ms"


@dataclass
class Seen:
    """took: (when it was asked, seconds) of each call answered with OK.  refused: the others, by status."""

    took: list[tuple[float, float]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    told: int = 0  # of those refused, when to come again
    begun: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    def ms(self, share: float, since_s: float = 0.0) -> float:
        times = sorted(took for asked, took in self.took if asked - self.begun >= since_s)
        return 1e3 * times[int(share * (len(times) - 1))]

    @property
    def rate(self) -> float:
        return len(self.took) / (self.ended - self.begun)


class Caller:
    """A client with a few connections."""

    def __init__(self, target: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CHANNELS)]
        self._infer: list[Any] = [channel.unary_unary(INFER) for channel in self._channels]
        self._health: Any = self._channels[0].unary_unary(HEALTH)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def once(self, seen: Seen, number: int = 0) -> None:
        asked = time.monotonic()
        try:
            await self._infer[number % CHANNELS](b"%g" % SERVICE_S, timeout=30)
        except grpc.aio.AioRpcError as error:
            seen.refused[error.code().name] += 1
            seen.told += PUSHBACK in {str(name) for name, _ in error.trailing_metadata() or ()}
        else:
            seen.took.append((asked, time.monotonic() - asked))

    async def closed(self, seconds: float, callers: int) -> Seen:
        """So many callers, each with one call after the other."""
        seen = Seen()

        async def calls(number: int) -> None:
            while time.monotonic() - seen.begun < seconds:
                await self.once(seen, number)

        await asyncio.gather(*(calls(number) for number in range(callers)))
        seen.ended = time.monotonic()
        return seen

    async def open(self, seconds: float, per_second: float, chance: Random) -> Seen:
        """Calls at random times, as of many who do not know of each other."""
        seen, open_calls, due, number = Seen(), set(), 0.0, 0
        while due < seconds:
            left = due - (time.monotonic() - seen.begun)
            if left > 0.0005:
                await asyncio.sleep(left)
            call = asyncio.create_task(self.once(seen, number))
            open_calls.add(call)
            call.add_done_callback(open_calls.discard)
            due += chance.expovariate(per_second)
            number += 1
        await asyncio.gather(*open_calls)
        seen.ended = time.monotonic()
        return seen

    async def health(self, seen: Seen) -> None:
        """A health check ten times a second, until cancelled."""
        while True:
            asked = time.monotonic()
            try:
                await self._health(b"", timeout=5)
                seen.took.append((asked, time.monotonic() - asked))
            except grpc.aio.AioRpcError as error:
                seen.refused[error.code().name] += 1
            await asyncio.sleep(0.1)


async def watch(pid: int, sizes: list[tuple[float, int]]) -> None:
    """Resident bytes of a process, each second, until cancelled."""
    while True:
        sizes.append((time.monotonic(), resident(pid)))
        await asyncio.sleep(1.0)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def beside(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(target: str, worker: int, seconds: float) -> dict[str, object]:
    caller = Caller(target)
    try:
        await caller.closed(2.0, 1)  # what is not measured: connections, imports
        alone = await caller.closed(4.0, 1)
        most = await caller.closed(6.0, 2 * PLACES)
        well, sizes = Seen(), list[tuple[float, int]]()
        async with beside(caller.health(well), watch(worker, sizes)):
            over = await caller.open(seconds, OVERLOAD * most.rate, Random(1))
    finally:
        await caller.close()
    offered = (len(over.took) + sum(over.refused.values())) / (over.ended - over.begun)
    steady = [size for at, size in sizes if at - over.begun > ONSET_S] or [size for _, size in sizes]
    return {
        "seconds": seconds,
        "capacity_per_s": round(most.rate, 1),
        "offered_per_s": round(offered, 1),
        "goodput_per_s": round(over.rate, 1),
        "goodput_share": round(over.rate / most.rate, 3),
        "unloaded_ms": {"p50": round(alone.ms(0.5), 1), "p99": round(alone.ms(0.99), 1)},
        "admitted_ms": {"p50": round(over.ms(0.5), 1), "p99": round(over.ms(0.99), 1)},
        "admitted_after_onset_ms": {"p50": round(over.ms(0.5, ONSET_S), 1), "p99": round(over.ms(0.99, ONSET_S), 1)},
        "p99_ratio": round(over.ms(0.99) / alone.ms(0.99), 2),
        "p99_ratio_after_onset": round(over.ms(0.99, ONSET_S) / alone.ms(0.99), 2),
        "refused": dict(over.refused),
        "refused_told_when": over.told,
        "memory_mb": {"before": round(sizes[0][1] / 1e6, 1), "first": round(steady[0] / 1e6, 1),
                      "last": round(steady[-1] / 1e6, 1), "most": round(max(steady) / 1e6, 1)},
        "health": {"checks": len(well.took), "failed": sum(well.refused.values()), "p99_ms": round(well.ms(0.99), 1)},
    }  # fmt: skip


def start(processes: Processes) -> tuple[str, int]:
    """A model server and a sidecar: the address to call, and the worker's process id."""
    command = [sys.executable, "-m", "bench.harness.grpc_server", "--port", "0", "--places", str(PLACES)]
    server = processes.start("server", command)
    upstream = int(server.wait_for(lambda: server.output().strip() or None, "listen"))
    method = {"name": "Infer", "unary_request": True, "unary_response": True}
    config = {
        "listen": {"address": "127.0.0.1:0", "tls": "none"},
        "upstream": {
            "address": f"127.0.0.1:{upstream}",
            "services": [{"service": "faults.Model", "methods": [method]}],
        },
        "state": {"directory": str(processes.folder / "state")},
        "unsafe_observe_only": True,
    }
    file = processes.folder / "sidecar.yaml"  # JSON is YAML
    file.write_text(json.dumps(config))
    process = processes.start("sidecar", [sys.executable, "-m", "sidecar", "serve", "--config", str(file)])
    port = process.wait_for(lambda: sidecar.port_of(process.output()), "listen")
    return f"127.0.0.1:{port}", _worker(process.pid)


def _worker(parent: int) -> int:
    """The process id of a sidecar's only worker. Raises BenchError."""
    for pid in children.workers(parent).values():
        return pid
    raise BenchError("expected the sidecar to have a worker, it has none")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--out", type=Path, default=RESULTS / "overload.json", help="where the results go")
    chosen = parser.parse_args(arguments)
    exit_on_signals()
    try:
        with Processes(CACHE / f"run-{os.getpid()}") as processes:
            figures = asyncio.run(measure(*start(processes), chosen.seconds))
    except BenchError as error:
        print(f"bench overload failed: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(f"{name:26} {value}")
    set_up = {"places": PLACES, "service_ms": 1e3 * SERVICE_S, "connections": CHANNELS, "overload": OVERLOAD}
    whole = {"bench": "overload", "machine": results.machine(), "set_up": set_up,
             "command": f"python -m bench.overload --seconds {chosen.seconds:g}", "results": figures}  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written to {os.path.relpath(chosen.out, ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
