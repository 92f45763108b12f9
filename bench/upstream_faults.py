"""How soon calls fail, and succeed again, when model servers are killed, stall, fail calls or send connections away.

Real grpcio servers in processes of their own behind a sidecar in plaintext, and grpcio as the client, all on whatever
cores there are. What is measured is what a caller sees, its own library's time included.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.harness import results, sidecar
from bench.harness.errors import BenchError
from bench.harness.grpc_server import INFER, SERVED
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Process, Processes, exit_on_signals, free_port

CALLERS = 16
CALLS = 2000  # of a load
WAIT_S = 20.0
STALL = {"keepalive": "1s", "keepalive_timeout": "200ms"}
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Figure:
    """What one fault costs: the values of its rounds in `unit`."""

    metric: str
    unit: str
    values: Sequence[float]

    def record(self) -> dict[str, object]:
        middle = statistics.median(self.values)
        return {
            "metric": self.metric,
            "unit": self.unit,
            "median": round(middle, 1),
            "worst": round(max(self.values), 1),
            "rounds": len(self.values),
        }


class Bench:
    """Starts servers, sidecars and callers."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._count = 0

    def server(self, port: int, *options: str) -> Process:
        """A model server at `port`, once it listens."""
        self._count += 1
        command = [sys.executable, "-m", "bench.harness.grpc_server", "--port", str(port), *options]
        process = self._processes.start(f"server-{self._count}", command)
        process.wait_for(lambda: process.output().strip() or None, "listen")
        return process

    @contextmanager
    def sidecar(self, ports: Sequence[int], **upstream: Any) -> Iterator[Caller]:
        self._count += 1
        file = self._processes.folder / f"sidecar-{self._count}.yaml"  # JSON is YAML
        method = {"name": "Infer", "unary_request": True, "unary_response": True}
        section = {"address": [f"127.0.0.1:{port}" for port in ports], **upstream}
        section["services"] = [{"service": "faults.Model", "methods": [method]}]
        state = {"directory": str(self._processes.folder / f"state-{self._count}")}
        listen = {"address": "127.0.0.1:0", "tls": "none"}
        file.write_text(
            json.dumps({"listen": listen, "upstream": section, "state": state, "unsafe_observe_only": True})
        )
        command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
        process = self._processes.start(file.stem, command)
        port = process.wait_for(lambda: sidecar.port_of(process.output()), "listen")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            caller = Caller(channel)
            caller.until_well()
            yield caller
        self._processes.stop(process)


class Caller:
    """A client of the sidecar."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._infer: Any = channel.unary_unary(INFER)

    def once(self, seconds: float = 0.0) -> tuple[grpc.StatusCode, float]:
        """One call that takes so long: its status, and when it ended."""
        try:
            self._infer(b"%g" % seconds, timeout=60)
        except grpc.RpcError as error:
            ended: Any = error  # a grpc.Call too
            return ended.code(), time.monotonic()
        return grpc.StatusCode.OK, time.monotonic()

    def load(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> Counter[grpc.StatusCode]:
        """The statuses of CALLS calls, CALLERS at a time."""
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = pool.map(self.once, [seconds] * CALLS)
            meanwhile()
            return Counter(code for code, _ in calls)

    def broken_off(self, fault: Callable[[], None]) -> float:
        """Milliseconds from `fault` until the last of CALLERS open calls failed. Raises BenchError unless all do."""
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(self.once, 40) for _ in range(CALLERS)]
            time.sleep(0.5)
            begun = time.monotonic()
            fault()
            ended = [call.result() for call in calls]
        if {code for code, _ in ended} != {UNAVAILABLE}:
            raise BenchError(f"expected every open call to end UNAVAILABLE, came {Counter(code for code, _ in ended)}")
        return 1000 * (max(at for _, at in ended) - begun)

    def until_well(self) -> float:
        """Milliseconds until a call succeeds. Raises BenchError after WAIT_S."""
        begun = time.monotonic()
        while self.once()[0] is not grpc.StatusCode.OK:
            if time.monotonic() - begun > WAIT_S:
                raise BenchError(f"expected a call to succeed within {WAIT_S:g} s, came none")
            time.sleep(0.005)
        return 1000 * (time.monotonic() - begun)

    def refused(self) -> float:
        """Milliseconds that a call takes to fail now."""
        begun = time.monotonic()
        code, at = self.once()
        if code is not UNAVAILABLE:
            raise BenchError(f"expected UNAVAILABLE, came {code}")
        return 1000 * (at - begun)


def killed(bench: Bench, rounds: int) -> list[Figure]:
    """kill -9, then a new process at the same port two seconds later."""
    port = free_port()
    server = bench.server(port)
    broken, refused, well = [], [], []
    with bench.sidecar([port]) as caller:
        for _ in range(rounds):
            caller.until_well()
            broken.append(caller.broken_off(lambda victim=server: os.kill(victim.pid, signal.SIGKILL)))  # type: ignore[misc]
            time.sleep(2)
            refused.append(caller.refused())
            server = bench.server(port)
            well.append(caller.until_well())
    return [
        Figure("killed: every open call has failed", "ms", broken),
        Figure("killed: a new call fails", "ms", refused),
        Figure("killed: a call succeeds after the new process listens", "ms", well),
    ]


def stalled(bench: Bench, rounds: int) -> list[Figure]:
    """SIGSTOP, then SIGCONT two seconds after the open calls have failed."""
    port = free_port()
    server = bench.server(port)
    broken, refused, well = [], [], []
    with bench.sidecar([port], **STALL) as caller:
        for _ in range(rounds):
            caller.until_well()
            broken.append(caller.broken_off(lambda: os.kill(server.pid, signal.SIGSTOP)))
            refused.append(caller.refused())
            time.sleep(2)
            os.kill(server.pid, signal.SIGCONT)
            well.append(caller.until_well())
    return [
        Figure(f"stalled, keepalive {STALL['keepalive']} + {STALL['keepalive_timeout']}: every open call has failed",
               "ms", broken),
        Figure("stalled: a new call fails", "ms", refused),
        Figure("stalled: a call succeeds after the process goes on", "ms", well),
    ]  # fmt: skip


def one_killed(bench: Bench, rounds: int) -> list[Figure]:
    """One of three killed under load."""
    lost = []
    for _ in range(rounds):
        ports = [free_port() for _ in range(3)]
        servers = [bench.server(port) for port in ports]
        with bench.sidecar(ports) as caller:
            found = caller.load(0.005, lambda victim=servers[0]: _kill_soon(victim))  # type: ignore[misc]
            lost.append(float(CALLS - found[grpc.StatusCode.OK]))
    return [Figure(f"one of three killed: calls lost of {CALLS}, {CALLERS} open", "calls", lost)]


def one_bad(bench: Bench, rounds: int) -> list[Figure]:
    """One of three answers UNAVAILABLE to every call; unary calls are tried again once."""
    lost, extra = [], []
    for _ in range(rounds):
        ports = [free_port() for _ in range(3)]
        for port in ports:
            bench.server(port, *(("--behaviour", "unavailable") if port == ports[0] else ()))
        with bench.sidecar(ports, retries={"attempts": 1}, ejection={"time": "1s"}) as caller:
            before = sum(map(_served, ports))
            found = caller.load(0)
            lost.append(float(CALLS - found[grpc.StatusCode.OK]))
            extra.append(100 * (sum(map(_served, ports)) - before - CALLS) / CALLS)
    return [
        Figure(f"one of three bad: calls lost of {CALLS}", "calls", lost),
        Figure("one of three bad: additional calls at the model servers", "%", extra),
    ]


def sent_away(bench: Bench, rounds: int) -> list[Figure]:
    """A server that sends every connection away after about 300 ms."""
    lost = []
    for _ in range(rounds):
        port = free_port()
        bench.server(port, "--age-ms", "300")
        with bench.sidecar([port]) as caller:
            lost.append(float(CALLS - caller.load(0.02)[grpc.StatusCode.OK]))
    return [Figure(f"GOAWAY every 300 ms: calls lost of {CALLS}", "calls", lost)]


FAULTS = (killed, stalled, one_killed, one_bad, sent_away)


def _kill_soon(victim: Process) -> None:
    time.sleep(0.3)
    os.kill(victim.pid, signal.SIGKILL)


def _served(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary(SERVED)
        return int(ask(b"", timeout=10))


def main() -> int:
    arguments = _arguments()
    exit_on_signals()
    try:
        with Processes(CACHE / f"run-{os.getpid()}") as processes:
            bench = Bench(processes)
            figures = [figure for fault in FAULTS for figure in fault(bench, arguments.rounds)]
    except BenchError as error:
        print(f"bench upstream-faults failed: {error}", file=sys.stderr)
        return 1
    records = [figure.record() for figure in figures]
    for record in records:
        print(f"{record['metric']:75} {record['median']:>8} {record['unit']:5}  worst {record['worst']}")
    command = "make bench-upstream-faults"
    whole = {"bench": "upstream-faults", "machine": results.machine(), "command": command, "results": records}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.upstream_faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each fault")
    parser.add_argument("--out", type=Path, default=RESULTS / "upstream-faults.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
