"""What a collector that is away costs the relay, and what becomes of the spans.

Calls come steadily while the collector takes spans, then while nobody listens, then while somebody accepts and never
answers: CPU of the worker for each call, memory, and every span counted. Then as many spans as come in an hour go
through a telemetry process as fast as it takes them, with nobody there to send them to.

Run as root: a sidecar hides its memory from others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from operator import truediv
from pathlib import Path
from typing import Any

import grpc

from bench.harness import children, collector, procfs, results
from bench.harness.echo_server import UNARY
from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals, free_port
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from interceptors.events import CallDetail, SpanFact
from sidecar.processes.channel import Channel
from sidecar.processes.messages import Drain, Start
from sidecar.telemetry import metrics
from sidecar.telemetry.board import BoardView
from sidecar.telemetry.feed import BATCH, packet, plain
from sidecar.telemetry.settings import BOARD, FEED, Seats, Settings

CHANNELS = 8
WARM_S = 5.0
LOOK_S = 2.0
TURNS = 6
LAST_S = 4.0  # for spans that are on their way
MOST_WAITING = 8192 + 512  # the queue, and what is between it and the worker
MESSAGE = b"x" * 1024
HOUR_S = 3600
DETAIL = CallDetail("10.0.0.1", 1, 1, 1024, 1024, 0.0001, 0.015, 0.01, False)


@dataclass
class Seen:
    """While one collector was there, or none.

    made: calls of this sidecar.  counted, failed, took: of the time that is measured, and of those how many failed and
    how many seconds each took.  cpu_s: of worker and telemetry process.  sizes: of both, bytes (PSS), as time passed.
    """

    made: int = 0
    counted: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_s: tuple[float, float] = (0.0, 0.0)
    took: list[float] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    exported: float = 0.0
    dropped: dict[str, float] = field(default_factory=dict)

    def figures(self, what: str) -> list[Figure]:
        first, last = self.sizes[len(self.sizes) // 3], self.sizes[-1]
        took = sorted(self.took)
        found = [
            Figure(f"{what}: calls", "1/s", [self.counted / self.seconds]),
            Figure(f"{what}: calls failed", "calls", [self.failed], bar=0),
            Figure(f"{what}: latency, median", "ms", [1e3 * took[len(took) // 2]]),
            Figure(f"{what}: latency, 99 %", "ms", [1e3 * took[int(0.99 * len(took))]]),
        ]
        for at, process in enumerate(("worker", "telemetry process")):
            cpu, sizes = 1e6 * self.cpu_s[at] / self.counted, [first[at] / 1e6, last[at] / 1e6]
            found += [
                Figure(f"{what}: CPU of the {process}", "us/call", [cpu]),
                Figure(f"{what}: memory of the {process}, after a third and at the end", "MB", sizes),
            ]
        lost = [
            Figure(f"{what}: spans dropped, {why}", "spans", [count]) for why, count in sorted(self.dropped.items())
        ]
        waiting = self.made - self.exported - sum(self.dropped.values())
        return [
            *found,
            Figure(f"{what}: spans of calls", "spans", [self.made]),
            Figure(f"{what}: spans exported", "spans", [self.exported]),
            *lost,
            Figure(f"{what}: spans that wait", "spans", [waiting], bar=MOST_WAITING),
        ]


# --- steady load --------------------------------------------------------------------------------------------------


def steady(processes: Processes, rate: float, seconds: float) -> list[Figure]:
    """The three collectors, each with a sidecar of its own. Raises BenchError."""
    stage, found = Stage(processes), list[Figure]()
    sink = collector.start(processes, "collector")
    with mute() as silent:
        for what, port in (("collector there", sink.port), ("nobody there", free_port()), ("black hole", silent)):
            probes = free_port()
            more = {"probes": {"address": f"127.0.0.1:{probes}"}, "telemetry": {"otlp": f"http://127.0.0.1:{port}"}}
            with stage.sidecar(workers=1, crl=False, more=more) as scene:
                seen = asyncio.run(called(scene, rate, seconds))
                time.sleep(LAST_S)
                seen.exported, seen.dropped = counts(probes)
            found += seen.figures(what)
    return found


@contextmanager
def mute() -> Iterator[int]:
    """The port of somebody who accepts, reads nothing and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


class Callers:
    """An open loop of so many calls a second at one sidecar. made: calls begun.  took: seconds of those answered."""

    def __init__(self, scene: Scene, rate: float) -> None:
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        credentials = scene.pki.credentials()
        self._channels = [grpc.aio.secure_channel(scene.address, credentials, options) for _ in range(CHANNELS)]
        self._calls: list[Any] = [channel.unary_unary(UNARY) for channel in self._channels]
        self._rate = rate
        self.pids = [children.of_role(scene.process.pid, role)[0][1] for role in ("worker", "telemetry")]
        self.made = self.failed = 0
        self.took: list[float] = []

    async def run(self, seconds: float) -> tuple[float, float]:
        """Call for so long; seconds of CPU that worker and telemetry process took meanwhile."""
        before = list(map(procfs.cpu_s, self.pids))
        begun, tasks = time.monotonic(), list[asyncio.Task[None]]()
        for number in range(int(seconds * self._rate)):
            left = number / self._rate - (time.monotonic() - begun)
            if left > 0:
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(self._once(self._calls[number % CHANNELS])))
        await asyncio.gather(*tasks)
        worker, telemetry = map(procfs.cpu_s, self.pids)
        return worker - before[0], telemetry - before[1]

    async def _once(self, call: Any) -> None:
        begun = time.monotonic()
        self.made += 1
        try:
            await call(MESSAGE, timeout=30)
            self.took.append(time.monotonic() - begun)
        except grpc.aio.AioRpcError:
            self.failed += 1

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def called(scene: Scene, rate: float, seconds: float) -> Seen:
    """One sidecar under load, looked at."""
    callers, seen = Callers(scene, rate), Seen()

    async def watch() -> None:
        while True:
            worker, telemetry = map(procfs.memory, callers.pids)
            seen.sizes.append((worker, telemetry))
            await asyncio.sleep(LOOK_S)

    try:
        await callers.run(WARM_S)
        callers.took.clear()
        earlier, begun = callers.made, time.monotonic()
        watcher = asyncio.create_task(watch())
        seen.cpu_s = await callers.run(seconds)
        watcher.cancel()
        seen.counted, seen.seconds = callers.made - earlier, time.monotonic() - begun
    finally:
        await callers.close()
    seen.made, seen.failed, seen.took = callers.made, callers.failed, callers.took
    return seen


# --- cost ---------------------------------------------------------------------------------------------------------


def cost(processes: Processes, rate: float, seconds: float) -> list[Figure]:
    """CPU of the worker for each call, the three taking turns: what else the machine does falls on all alike."""
    stage = Stage(processes)
    sink = collector.start(processes, "collector")
    with ExitStack() as stack:
        ports = {"collector there": sink.port, "nobody there": free_port(), "black hole": stack.enter_context(mute())}
        scenes = {
            what: stack.enter_context(
                stage.sidecar(workers=1, crl=False, more={"telemetry": {"otlp": f"http://127.0.0.1:{port}"}})
            )
            for what, port in ports.items()
        }
        spent = asyncio.run(turns(scenes, rate, seconds))
    bases = spent["collector there"]
    found = [Figure(f"CPU of the worker, {what}", "us/call", took) for what, took in spent.items()]
    return [
        *found,
        *(
            Figure(f"the same to that with a collector, {what}", "ratio", list(map(truediv, took, bases)))
            for what, took in spent.items()
            if took is not bases
        ),
    ]


async def turns(scenes: Mapping[str, Scene], rate: float, seconds: float) -> dict[str, list[float]]:
    """Microseconds of CPU of each worker for a call, one value a turn."""
    callers = {what: Callers(scene, rate) for what, scene in scenes.items()}
    spent: dict[str, list[float]] = {what: [] for what in callers}
    try:
        for each in callers.values():
            await each.run(WARM_S)
        for _ in range(TURNS):
            for what, each in callers.items():
                before = each.made
                worker_s, _ = await each.run(seconds / TURNS)
                spent[what].append(1e6 * worker_s / (each.made - before))
    finally:
        for each in callers.values():
            await each.close()
    return spent


def counts(port: int) -> tuple[float, dict[str, float]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    exported, dropped = 0.0, dict[str, float]()
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name == metrics.SPANS_EXPORTED.name:
            exported = float(value)
        elif name.startswith(metrics.SPANS_DROPPED.name):
            dropped[name.split('"')[1]] = float(value)
    return exported, {why: count for why, count in dropped.items() if count}


# --- an hour's spans ----------------------------------------------------------------------------------------------


# A child without the nursery, and without a supervisor but us.
ALONE = "import socket, sys; from sidecar.processes.child import main; main(socket.socket(fileno=int(sys.argv[1])))"


def hour(processes: Processes, rate: float) -> list[Figure]:
    """As many spans as so many calls a second make in an hour, into one telemetry process that has no collector."""
    spans = int(rate * HOUR_S) // BATCH * BATCH
    seats = Seats(1)
    descriptors, place = seats.telemetry(None), seats.worker(0)
    settings = Settings(1, f"http://127.0.0.1:{free_port()}", "bench", "off", str(processes.folder), 0)
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", ALONE, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
        )
    channel = Channel(ours)
    start = Start("telemetry", 0, "telemetry-0.1", "", "error", "", 1, settings.plain(), list(descriptors))
    channel.send(start, list(descriptors.values()))
    sizes, begun = list[int](), time.monotonic()
    try:
        before = procfs.cpu_s(child.pid)
        with socket.socket(fileno=os.dup(place[FEED])) as feed:
            feed.setblocking(True)  # a worker never waits; here nothing is to be lost before it is there
            for number in range(spans // BATCH):
                feed.send(packet(list(map(plain, batch(number)))))
                if number % 500 == 499:
                    sizes.append(procfs.memory(child.pid))
            seconds = time.monotonic() - begun
            used_s = procfs.cpu_s(child.pid) - before
        channel.send(Drain(5.0, last=True))
        status = child.wait()
    finally:
        child.kill()
        channel.close()
    if status:
        raise BenchError(f"the telemetry process ended with status {status}")
    board = BoardView(descriptors[BOARD])
    dropped = {
        labels[0]: values[0] for metric, labels, values in board.rows() if metric is metrics.SPANS_DROPPED and values[0]
    }
    seats.close()
    tenths = [sizes[len(sizes) * tenth // 10 - 1] / 1e6 for tenth in range(1, 11)]
    return [
        Figure("an hour's spans: pushed through", "spans", [spans]),
        Figure("an hour's spans: time", "s", [seconds]),
        Figure("an hour's spans: CPU of the telemetry process", "us/span",
               [1e6 * used_s / spans]),
        *(Figure(f"an hour's spans: memory of the telemetry process after {10 * at} %", "MB", [size])
          for at, size in enumerate(tenths, 1)),
        *(Figure(f"an hour's spans: dropped, {why}", "spans", [count]) for why, count in sorted(dropped.items())),
        Figure("an hour's spans: unaccounted for", "spans", [abs(spans - sum(dropped.values()))], bar=0),
    ]  # fmt: skip


def batch(number: int) -> list[SpanFact]:
    """Of calls that all differ, as a worker sends them."""
    return [
        SpanFact(f"{number:016x}{each:016x}", f"{each:016x}", "", "inference.GRPCInferenceService/ModelInfer",
                 1.0, 2.0, 0, "spiffe://example.org/bench/client", "digits", "allowed", DETAIL)
        for each in range(BATCH)
    ]  # fmt: skip


PARTS: dict[str, Callable[[Processes, float, float], list[Figure]]] = {
    "steady": steady,
    "cost": cost,
    "hour": lambda processes, rate, _: hour(processes, 500),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.telemetry_outage", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=180.0, help="for each collector")
    parser.add_argument("--out", type=Path, default=RESULTS / "telemetry-outage.json", help="where the results go")
    chosen = parser.parse_args(arguments)
    exit_on_signals()
    met = True
    for part in chosen.parts or PARTS:
        try:
            with Processes(CACHE / f"run-{os.getpid()}", stop_s=40.0) as processes:
                found = PARTS[part](processes, chosen.rate, chosen.seconds)
        except BenchError as error:
            print(f"bench telemetry_outage {part} failed: {error}", file=sys.stderr)
            return 1
        for figure in found:
            low, high = figure.values[0], figure.values[-1]
            print(
                f"{figure.metric:78} {low:12,.2f}{f' to {high:,.2f}' if len(figure.values) > 1 else ''} {figure.unit}"
            )
            met = met and figure.met
        command = f"python -m bench.telemetry_outage {part} --rate {chosen.rate:g} --seconds {chosen.seconds:g}"
        write(chosen.out, part, found, command)
    print(f"written to {os.path.relpath(chosen.out, ROOT)}")
    return 0 if met else 1


def write(file: Path, part: str, found: list[Figure], command: str) -> None:
    """Put one part's figures in place of those that it had."""
    before = json.loads(file.read_text())["results"] if file.exists() else {}
    whole = {
        "bench": "telemetry-outage",
        "machine": results.machine(),
        "set_up": {
            "sidecar": "1 worker, interpreted; mTLS, one rule, every call sampled",
            "load": f"grpcio, an open loop on {CHANNELS} connections, {len(MESSAGE)} byte messages",
            "spreads": "of memory: the earlier and the later value",
        },
        "results": {**before, part: [figure.record(command) for figure in found]},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
