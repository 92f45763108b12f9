"""Where the sidecar's CPU time goes per call, by function: py-spy samples it from outside under the first bench's load.

A function's own time per call is its share of the samples times the CPU time per call, which is measured before,
without the profiler. Unless --native is given, time in C counts for the Python function that called it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.harness import builds, certificates, cores, payload, sidecar, upstream
from bench.harness.errors import BenchError
from bench.harness.h2load import Load, Shape
from bench.harness.paths import CACHE
from bench.harness.processes import Processes, exit_on_signals
from bench.harness.rounds import measure
from bench.relay_first import MESSAGE

CALLS = 20_000  # measured first, and then between two looks at whether the profiler has ended
RATE = 400  # samples a second
LINE = re.compile(r":\d+\)$")  # the line at the end of a Python frame; frames of C have none


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples by function and by line, each a frame's own; cpu_us: CPU time per call, unprofiled."""

    functions: Counter[str]
    lines: Counter[str]
    cpu_us: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile_relay", description=__doc__)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=8, help="open at once on each connection")
    parser.add_argument("--seconds", type=int, default=6, help="to sample for")
    parser.add_argument("--top", type=int, default=30, help="rows to print")
    parser.add_argument("--native", action="store_true", help="tell C functions apart too")
    arguments = parser.parse_args()
    exit_on_signals()
    try:
        profile = run(Shape(arguments.connections, arguments.streams), arguments.seconds, arguments.native)
    except BenchError as error:
        print(f"profile failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process is stopped", file=sys.stderr)
        return 130
    print(f"{profile.cpu_us:.1f} us of CPU a call, {profile.functions.total()} samples")
    print_top("functions", profile.functions, profile.cpu_us, arguments.top)
    print_top("lines", profile.lines, profile.cpu_us, arguments.top)
    return 0


def run(shape: Shape, seconds: int, native: bool) -> Profile:
    """Sample the sidecar for `seconds` under load. Raises BenchError when a part fails or a call does."""
    claimed = cores.claim()
    with Processes(CACHE / f"profile-{os.getpid()}") as processes:
        issued = certificates.issue(processes.folder, datetime.datetime.now(datetime.UTC))
        proxy = sidecar.start(processes, claimed.proxy, issued, upstream.start(processes))
        load = Load(processes, issued, payload.framed(MESSAGE))
        measure(proxy, load, shape, CALLS // 10)
        unprofiled = measure(proxy, load, shape, CALLS)
        stacks = processes.folder / "stacks"
        options = ["--format", "raw", "--rate", str(RATE), "--duration", str(seconds), "--output", str(stacks)]
        command = [str(builds.py_spy()), "record", "--pid", str(proxy.pid), *options, *["--native"] * native]
        sampler = processes.start("py-spy", command)
        while sampler.exit_status() is None:
            load.run(proxy.port, shape, CALLS)
        if not stacks.exists():
            raise BenchError(f"py-spy sampled nothing:\n{sampler.tail()}")
        functions, lines = own(stacks.read_text().splitlines())
        return Profile(functions, lines, unprofiled.cpu_us)


def own(stacks: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Samples by innermost function and by its line, from py-spy's raw format: `outer (f.py:1);inner (f.py:2) 7`."""
    functions: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        frame = frames.rpartition(";")[2]
        lines[frame] += int(count)
        functions[LINE.sub(")", frame)] += int(count)
    return functions, lines


def print_top(title: str, samples: Counter[str], cpu_us: float, rows: int) -> None:
    total = samples.total()
    print(f"\n{'own us/call':>11}  {'share':>6}  {title}")
    for name, count in samples.most_common(rows):
        print(f"{cpu_us * count / total:11.2f}  {count / total:6.1%}  {name}")


if __name__ == "__main__":
    sys.exit(main())
