"""Where the time of a sidecar's worker goes per call, by function and by line, under the first bench's load.

Time in C counts for the line of Python that called it; `Runner.run` is the event loop itself, its system calls
included. Both are interpreted, for of compiled modules the profiler would see nothing. The first line compares with the
CPU time per call of the same sidecar unprofiled, from schedstat: that of all its processes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.harness import certificates, children, cores, payload, sidecar, upstream
from bench.harness.errors import BenchError
from bench.harness.h2load import H2Load
from bench.harness.loads import Shape
from bench.harness.paths import CACHE
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.rounds import Sample, measure
from bench.harness.sidecar import Setup, Sidecar, Spans
from bench.harness.trail import Evidence
from bench.relay import MESSAGE

LINE = re.compile(r":\d+\)$")  # the line at the end of a place


@dataclass(frozen=True, slots=True)
class Profile:
    """The worker's microseconds of CPU per call: of the main thread by line, of that collecting garbage; of others."""

    lines: Counter[str]
    main_us: float
    collecting_us: float
    others_us: float
    samples: int

    @property
    def functions(self) -> Counter[str]:
        functions: Counter[str] = Counter()
        for place, time in self.lines.items():
            functions[LINE.sub(")", place)] += time
        return functions


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile_relay", description=__doc__)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=8, help="open at once on each connection")
    parser.add_argument("--calls", type=int, default=60_000, help="to profile")
    names = [spans.name.lower() for spans in Spans]
    parser.add_argument("--spans", choices=names, default="propagated", help="what becomes of spans")
    parser.add_argument("--top", type=int, default=30, help="rows to print")
    arguments = parser.parse_args()
    exit_on_signals()
    try:
        shape = Shape(arguments.connections, arguments.streams)
        plain, profile = run(shape, arguments.calls, Spans[arguments.spans.upper()])
    except BenchError as error:
        print(f"profile failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process is stopped", file=sys.stderr)
        return 130
    print(
        f"us of CPU a call: {plain.cpu_us:.1f} in all processes, unprofiled; profiled {profile.main_us:.1f} in the "
        f"worker's main thread, of that "
        f"{profile.collecting_us:.1f} collecting garbage, and {profile.others_us:.1f} in others; "
        f"{profile.samples} samples"
    )
    print_top("functions, own time", profile.functions, profile.main_us, arguments.top)
    print_top("lines", profile.lines, profile.main_us, arguments.top)
    return 0


def run(shape: Shape, calls: int, spans: Spans) -> tuple[Sample, Profile]:
    """Measure a sidecar, then profile another under the same load. Raises BenchError when a part or a call fails."""
    claimed = cores.claim()
    with Processes(CACHE / f"profile-{os.getpid()}") as processes:
        issued = certificates.issue(processes.folder, datetime.datetime.now(datetime.UTC))
        load = H2Load(processes, issued, payload.framed(MESSAGE), shape, traces=True)
        echo = upstream.start(processes).port
        setup, evidence = Setup(spans.value, spans), Evidence()
        proxy = sidecar.start(processes, claimed.proxy, issued, echo, setup, evidence, compiled=False)
        measure(proxy, load, calls // 10)
        plain = measure(proxy, load, calls)
        processes.stop(proxy.process)
        report = processes.folder / "profile.json"
        sampled = ("bench.harness.sampled_worker", str(report))
        profiled = sidecar.start(processes, claimed.proxy, issued, echo, setup, evidence, sampled, compiled=False)
        measure(profiled, load, calls // 10)
        _ask(profiled, report)  # begins anew after the warm-up
        measure(profiled, load, calls)
        return plain, read(_ask(profiled, report), calls)


def _ask(proxy: Sidecar, report: Path) -> str:
    """The profile since the last time, as the sampler writes it."""
    report.unlink(missing_ok=True)
    (worker,) = children.workers(proxy.process.pid).values()
    os.kill(worker, signal.SIGUSR2)
    return proxy.process.wait_for(lambda: report.read_text() if report.exists() else None, "write its profile")


def read(text: str, calls: int) -> Profile:
    """A sampler's report over `calls` calls."""
    found = json.loads(text)
    us = 1e-3 / calls  # per nanosecond
    return Profile(
        lines=Counter({place: weight * us for place, weight in found["places_ns"].items()}),
        main_us=found["main_ns"] * us,
        collecting_us=found["collecting_ns"] * us,
        others_us=found["others_ns"] * us,
        samples=found["samples"],
    )


def print_top(title: str, times: Counter[str], whole: float, rows: int) -> None:
    print(f"\n{'us/call':>8}  {'share':>6}  {title}")
    for name, time in times.most_common(rows):
        print(f"{time:8.2f}  {time / whole:6.1%}  {name}")


if __name__ == "__main__":
    sys.exit(main())
