"""What the ledger of rate limits costs: microseconds per take, alone and beside another process that takes as well.

A take of one budget, of three, and of one that refuses, in one process; then in two processes on the same bucket, on
the same lock with other buckets, and on other locks. Time is the wall's: with fewer free cores than processes it holds
what waiting costs. Nothing is compared with a peer: no other limiter does this without a server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import Any

from bench.harness import results
from bench.harness.paths import RESULTS, ROOT
from interceptors.ledger import Bucket, Charge
from sidecar.limits.ledger_mmap import SET, SLOTS, STRIPES, MmapLedger

PLENTY = Bucket(10**6, 1, 10**9)
NOTHING = Bucket(1, 86400, 1)
TAKES = 20_000  # in a round
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Figure:
    """wall_us, cpu_us: of one take in one process, medians of the rounds; spread: of wall_us, lowest and highest."""

    metric: str
    processes: int
    wall_us: float
    cpu_us: float
    spread: tuple[float, float]
    refused: dict[str, int]
    rounds: int

    def record(self) -> dict[str, object]:
        return {
            "metric": self.metric,
            "processes": self.processes,
            "wall": {"value": round(self.wall_us, 2), "unit": "us/take"},
            "cpu": {"value": round(self.cpu_us, 2), "unit": "us/take"},
            "spread": {"low": round(self.spread[0], 2), "high": round(self.spread[1], 2)},
            "refused": self.refused,
            "rounds": self.rounds,
        }


@dataclass(frozen=True, slots=True)
class Sample:
    wall_us: float
    cpu_us: float
    refused: dict[str, int]


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "limits.bin", arguments.rounds)
    for figure in found:
        low, high = figure.spread
        wall = f"{figure.wall_us:7.2f} us wall ({low:.2f} to {high:.2f})"
        print(f"{figure.metric:44} x{figure.processes} {wall} {figure.cpu_us:7.2f} us CPU  {figure.refused or ''}")
    write(arguments.out, found)
    print(f"written to {os.path.relpath(arguments.out, ROOT)}")
    return 0


def measure(path: Path, rounds: int) -> list[Figure]:
    ledger = MmapLedger(path, lambda refusal: None)
    one = Charge(b"one", PLENTY, 1)
    other = next(key for key in _keys() if ledger._place(key).stripe != ledger._place(b"one").stripe)
    neighbour = next(
        key
        for key in _keys()
        if ledger._place(key).stripe == ledger._place(b"one").stripe
        and ledger._place(key).begin != ledger._place(b"one").begin
    )
    three = [one, Charge(b"two", PLENTY, 1), Charge(b"three", PLENTY, 1)]
    ledger.close()
    cases: list[tuple[str, Sequence[Sequence[Charge]]]] = [
        ("one budget", [[one]]),
        ("three budgets", [three]),
        ("one budget, refused", [[Charge(b"none", NOTHING, 1)]]),
        ("one budget, both on one bucket", [[one], [one]]),
        ("one budget, both on one lock, other buckets", [[one], [Charge(neighbour, PLENTY, 1)]]),
        ("one budget, each on its own lock", [[one], [Charge(other, PLENTY, 1)]]),
    ]
    return [_figure(path, title, charges, rounds) for title, charges in cases]


def _keys() -> Sequence[bytes]:
    return [b"key %d" % number for number in range(10_000)]


def _figure(path: Path, title: str, charges: Sequence[Sequence[Charge]], rounds: int) -> Figure:
    context = get_context("spawn")
    barrier = context.Barrier(len(charges))
    pipes, children = [], []
    for each in charges:
        ours, theirs = context.Pipe()
        child = context.Process(target=_take, args=(path, each, barrier, rounds, theirs), daemon=True)
        child.start()
        pipes.append(ours)
        children.append(child)
    samples: list[Sample] = [sample for pipe in pipes for sample in pipe.recv()]
    for child in children:
        child.join(WAIT_S)
    refused: dict[str, int] = {}
    for sample in samples:
        for reason, count in sample.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    walls = [sample.wall_us for sample in samples]
    cpu_us = median(sample.cpu_us for sample in samples)
    return Figure(title, len(charges), median(walls), cpu_us, (min(walls), max(walls)), refused, rounds)


def _take(path: Path, charges: Sequence[Charge], barrier: Barrier, rounds: int, pipe: Any) -> None:
    """All rounds of one process, after one that is not counted."""
    ledger = MmapLedger(path, lambda refusal: None)
    samples = []
    for number in range(rounds + 1):
        barrier.wait(WAIT_S)
        refused: dict[str, int] = {}
        wall, cpu = perf_counter_ns(), process_time_ns()
        for _ in range(TAKES):
            refusal = ledger.take_all(charges).refusal
            if refusal:
                refused[refusal] = refused.get(refusal, 0) + 1
        wall, cpu = perf_counter_ns() - wall, process_time_ns() - cpu
        if number:
            samples.append(Sample(wall / TAKES / 1e3, cpu / TAKES / 1e3, refused))
    pipe.send(samples)
    ledger.close()


def write(file: Path, found: Sequence[Figure]) -> None:
    record = {
        "bench": "limits",
        "machine": results.machine(),
        "set_up": {
            "ledger": f"{SLOTS} slots in sets of {SET}, {STRIPES} locks; a file in {tempfile.gettempdir()}",
            "takes": f"{TAKES} in a round and process, after a round that is not counted",
            "command": "make bench-limits",
        },
        "results": [figure.record() for figure in found],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count")
    parser.add_argument("--out", type=Path, default=RESULTS / "limits.json", help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
