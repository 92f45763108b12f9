"""python -m bench.soak: what a sidecar holds and loses under long mixed load. Phases may be named; all by default.

mixed        every shape and size, cancelled, denied and overdue calls, at 60 % of what it can do
cancelled    200,000 calls of which 30 % are cancelled: memory between half of them and all
connections  memory at 100 connections, and for each further idle one
streams      500 streams of 10 messages a second: every message arrives, hashes equal
slow         readers that do not read: memory for each
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness import results
from bench.harness.ends import Called, Client, ClientWire, framed
from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.results import Figure
from bench.soak.mixed import Mixed, Seen
from bench.soak.stage import Stage, resident, sidecar

MB: Final = 1e6
CONNECTIONS: Final = 8
SHARES: Final = (0.1, 0.05, 0.02)  # cancelled, denied, overdue
# One caller stands for many: what it opens and cancels would be too much for one.
LIMITS: Final = {"concurrent_streams": 1000, "resets": {"rate": "10000/second", "burst": 20_000}}


def checked(seen: Seen, stage: Stage, before: int) -> list[Figure]:
    """What went wrong, of calls and of their records."""
    recorded = stage.recorded(before + seen.begun) - before
    for each in seen.wrong[:5]:
        print(f"  wrong: {each}")
    return [
        Figure("answers that were not what was asked for", "calls", [len(seen.wrong)], 0),
        Figure("calls not recorded once", "calls", [abs(recorded - seen.begun)], 0),
    ]


async def mixed(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    client = Client(stage.port, stage.context)
    await client.connect(CONNECTIONS)
    calls = Mixed(client, random.Random(options.seed))
    before = stage.recorded(0)
    await calls.closed(16, 3.0)  # warm
    capacity = await calls.closed(16, 5.0)
    sizes: list[tuple[float, float]] = []
    watching = asyncio.create_task(watch(stage.worker(), sizes))
    begun, first = time.monotonic(), calls.seen.begun
    await calls.paced(0.6 * capacity, float("inf"), SHARES, 400, options.seconds)
    rate = (calls.seen.begun - first) / (time.monotonic() - begun)
    await calls.drained()
    watching.cancel()
    await client.close()
    print(f"  {dict(calls.seen.ended)}; {rate:.0f} of {capacity:.0f} a second")
    settled = [size for at, size in sizes if at > options.seconds / 3]
    fifth = max(1, len(settled) // 5)
    took = sorted(calls.seen.took)
    return [
        *checked(calls.seen, stage, before),
        Figure("calls", "calls", [calls.seen.begun]),
        Figure("calls a second", "1/s", [rate]),
        Figure("latency, median", "ms", [1e3 * median(took)]),
        Figure("latency, p99", "ms", [1e3 * took[int(0.99 * len(took))]]),
        Figure("worker, after a third", "MB", [median(settled[:fifth]) / MB]),
        Figure("worker, from there to the end", "MB", [(median(settled[-fifth:]) - median(settled[:fifth])) / MB]),
    ]


async def watch(pid: int, sizes: list[tuple[float, float]]) -> None:
    """Seconds from now, and bytes resident, ten times a second."""
    begun = time.monotonic()
    while True:
        sizes.append((time.monotonic() - begun, resident(pid)))
        await asyncio.sleep(0.1)


async def cancelled(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    client = Client(stage.port, stage.context)
    await client.connect(CONNECTIONS)
    calls = Mixed(client, random.Random(options.seed))
    before, worker, half = stage.recorded(0), stage.worker(), options.calls / 2
    sizes = []
    for _ in range(2):
        await calls.paced(1e9, half, (0.3, 0.0, 0.0), 32, 3600.0)
        await calls.drained()
        await asyncio.sleep(1.0)
        sizes.append(resident(worker))
    await client.close()
    return [
        *checked(calls.seen, stage, before),
        Figure("calls", "calls", [calls.seen.begun]),
        Figure("worker, after half of them", "MB", [sizes[0] / MB]),
        Figure("worker, growth in the other half", "MB", [(sizes[1] - sizes[0]) / MB], 1.0),
    ]


async def connections(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    client, worker = Client(stage.port, stage.context), stage.worker()
    calls = Mixed(client, random.Random(options.seed))
    sizes = []
    for count in (100, options.idle):
        await client.connect(count)
        for wire in client.wires[-count:]:
            message = framed(b"x" * 100)
            calls.call(wire, "unary", b"Same", (message,), message, 0)
        await calls.drained()
        await asyncio.sleep(1.0)
        sizes.append(resident(worker))
    await client.close()
    return [
        Figure("answers that were not what was asked for", "calls", [len(calls.seen.wrong)], 0),
        Figure("worker, at 100 connections", "MB", [sizes[0] / MB], 100.0),
        Figure("worker, each further idle connection", "KB", [(sizes[1] - sizes[0]) / options.idle / 1e3], 60.0),
    ]


class Hashed(Called):
    """A stream whose answers are hashed as they come."""

    def __init__(self, wire: ClientWire, done: Callable[[Called], None]) -> None:
        super().__init__(wire, done)
        self.sent, self.came = hashlib.sha256(), hashlib.sha256()
        self.size = self.got = 0

    def say(self, message: bytes) -> None:
        payload = framed(message)
        self.sent.update(payload)
        self.size += len(payload)
        self.send(payload, False)

    def take(self, payload: bytes) -> None:
        self.came.update(payload)
        self.got += len(payload)


async def streams(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    client, chance = Client(stage.port, stage.context), random.Random(options.seed)
    await client.connect(CONNECTIONS)
    over: list[Called] = []
    opened = [Hashed(client.wires[number % CONNECTIONS], over.append) for number in range(options.streams)]
    for stream in opened:
        client.open(stream, b"Echo")
    begun, sent = time.monotonic(), 0
    worker, sizes = stage.worker(), list[int]()
    while (now := time.monotonic() - begun) < options.seconds:
        due = now * options.rate * len(opened)
        while sent < due:
            opened[sent % len(opened)].say(chance.randbytes(chance.randrange(1, 200)))
            sent += 1
        sizes.append(resident(worker))
        await asyncio.sleep(0.01)
    for stream in opened:
        stream.send(b"", True)
    await settle(lambda: len(over))
    await client.close()
    wrong = [each for each in opened if each.status != 0 or each.sent.digest() != each.came.digest()]
    for each in wrong[:5]:
        print(f"  wrong: status {each.status}, {each.got} bytes of {each.size}")
    third = len(sizes) // 3
    return [
        Figure("messages", "messages", [sent]),
        Figure("messages a second", "1/s", [sent / options.seconds]),
        Figure("streams with a message lost or changed", "streams", [len(wrong)], 0),
        Figure("worker, from a third to the end", "MB", [(max(sizes[-third:]) - max(sizes[third : 2 * third])) / MB]),
    ]


class Unread(Called):
    """A call whose answer is not read: no window is given back."""

    def on_data(self, payload: bytes, end: bool) -> None:
        self.body.append(payload)


async def slow(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    client, worker = Client(stage.port, stage.context), stage.worker()
    await client.connect(1)
    over: list[Called] = []
    before = resident(worker)
    message = framed((1000).to_bytes(4, "big") + bytes(16_000))
    calls = [Unread(client.wires[0], over.append) for _ in range(options.readers)]
    for call in calls:
        client.open(call, b"Many")
        call.send(message, True)
    await settle(lambda: min(len(call.body) for call in calls), above=0)
    await settle(lambda: resident(worker))
    held = (resident(worker) - before) / options.readers / MB
    await client.close()
    window = 1.05  # MB: listen.limits.stream_window, 1 MiB
    return [Figure("worker, each reader that does not read an answer of 16 MB", "MB", [held], window)]


async def settle(size: Callable[[], int], above: int = -1) -> None:
    """Once it changes no more and is above so much. Raises BenchError when it never does."""
    last, since, until = -1, time.monotonic(), time.monotonic() + 60
    while time.monotonic() - since < 2.0:
        if (now := size()) != last or now <= above:
            last, since = now, time.monotonic()
        if time.monotonic() > until:
            raise BenchError("expected a number that settles, it still changes after 60 s")
        await asyncio.sleep(0.1)


Phase = Callable[[Stage, argparse.Namespace], Coroutine[None, None, list[Figure]]]
PHASES: Final[dict[str, Phase]] = {
    "mixed": mixed,
    "cancelled": cancelled,
    "connections": connections,
    "streams": streams,
    "slow": slow,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=", ".join(PHASES))
    parser.add_argument("--seconds", type=float, default=600.0, help="of mixed and of streams")
    parser.add_argument("--calls", type=int, default=200_000, help="of cancelled")
    parser.add_argument("--idle", type=int, default=900, help="connections beyond the first hundred")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second of each stream")
    parser.add_argument("--readers", type=int, default=50, help="that do not read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json", help="where the results go")
    options = parser.parse_args(arguments)
    if unknown := set(options.phases) - set(PHASES):
        parser.error(f"expected phases among {', '.join(PHASES)}, came {', '.join(sorted(unknown))}")
    exit_on_signals()
    command = " ".join(["python -m bench.soak", *(sys.argv[1:] if arguments is None else arguments)])
    found: dict[str, list[dict[str, object]]] = {}
    build, met = "", True
    try:
        for name in options.phases or PHASES:
            print(name)
            with Processes(CACHE / f"run-{os.getpid()}") as processes, sidecar(processes, LIMITS) as stage:
                build = stage.build
                figures = asyncio.run(PHASES[name](stage, options))
            for figure in figures:
                bar = "" if figure.bar is None else f"  (at most {figure.bar:g}{'' if figure.met else ': MISSED'})"
                print(f"  {figure.metric:60} {median(figure.values):12.3f} {figure.unit}{bar}")
                met = met and figure.met
            found[name] = [figure.record(command) for figure in figures]
    except BenchError as error:
        print(f"bench soak failed: {error}", file=sys.stderr)
        return 1
    if options.out.exists():
        found = {**json.loads(options.out.read_text())["results"], **found}
    whole = {"bench": "soak", "machine": results.machine(), "build": build, "results": found}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written to {os.path.relpath(options.out, ROOT)}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
