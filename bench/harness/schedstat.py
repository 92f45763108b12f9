"""CPU time of a process and its descendants, in nanoseconds, from /proc/PID/task/*/schedstat.

Source: Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat": time on the CPU, time spent waiting on
a run queue, timeslices. A thread that is born and gone between two readings is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.harness.errors import BenchError

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """run_ns: on the CPU.  wait_ns: ready to run, with another on the core."""

    run_ns: int
    wait_ns: int


Reading = dict[str, Usage]  # by thread id


def read(pid: int, proc: Path = PROC) -> Reading:
    """One reading of every thread of `pid` and of its descendants. Raises BenchError when there is none."""
    reading: Reading = {}
    todo = [str(pid)]
    while todo:
        for task in sorted((proc / todo.pop() / "task").glob("*")):
            try:
                run, wait, _ = (task / "schedstat").read_text().split()
                todo += (task / "children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread ended between the listing and the reading
            reading[task.name] = Usage(int(run), int(wait))
    if not reading:
        raise BenchError(f"process {pid} has no threads in {proc}: it has ended")
    return reading


def spent(before: Reading, after: Reading) -> Usage:
    """What was used between two readings. Raises BenchError when a thread ended, for its time is then unknown."""
    gone = sorted(before.keys() - after.keys())
    if gone:
        raise BenchError(f"{len(gone)} of {len(before)} threads ended during a round: their CPU time is unknown")
    nothing = Usage(0, 0)
    started = [before.get(thread, nothing) for thread in after]
    return Usage(
        sum(usage.run_ns for usage in after.values()) - sum(usage.run_ns for usage in started),
        sum(usage.wait_ns for usage in after.values()) - sum(usage.wait_ns for usage in started),
    )
