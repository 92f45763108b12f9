"""Runs a module as `python -m` would, and samples where its main thread spends CPU time.

    python -m bench.harness.sampler REPORT MODULE ARGUMENT...

SIGUSR2 writes the profile since the last one to REPORT, as JSON, and begins anew.

The timer runs on CPU time, and a sample weighs what the main thread itself used since the one before, so a thread
that waits costs nothing here and the weights sum to the CPU time used. A profiler that stops the process from
outside was tried first: each stop wakes the threads that wait, which on a core of its own, fully used, then count as
running (42% of the samples for a thread that used 8% of the time).
"""

from __future__ import annotations

import dis
import gc
import json
import os
import runpy
import signal
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

INTERVAL_S = 0.002  # of CPU time; the kernel rounds it up to its tick


class Sampler:
    """CPU seconds of the main thread by place, `function (file:line)`; of garbage collection; of other threads."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._clear()

    def start(self) -> None:
        gc.callbacks.append(self._collect)
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR2, self._write)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _clear(self) -> None:
        self._places: Counter[str] = Counter()
        self._weights: Counter[str] = Counter()
        self._collecting = 0
        self._collection_began = 0
        self._main = self._main_began = time.thread_time_ns()
        self._process_began = time.process_time_ns()

    def _sample(self, number: int, frame: FrameType | None) -> None:
        now = time.thread_time_ns()
        if frame is not None:
            place = where(frame)
            self._places[place] += 1
            self._weights[place] += now - self._main
        self._main = now

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time_ns()
        if phase == "start":
            self._collection_began = now
        else:
            self._collecting += now - self._collection_began

    def _write(self, number: int, frame: FrameType | None) -> None:
        main = time.thread_time_ns() - self._main_began
        others = time.process_time_ns() - self._process_began - main
        profile = {
            "samples": self._places.total(),
            "main_ns": main,
            "others_ns": others,
            "collecting_ns": self._collecting,
            "places_ns": dict(self._weights),
        }
        partial = self._report.with_suffix(".partial")
        partial.write_text(json.dumps(profile))
        partial.rename(self._report)
        self._clear()


def where(frame: FrameType) -> str:
    """`function (file:line)`: whose time a signal that found the interpreter at `frame` tells of.

    Signals are handled between bytecodes: after a call of C, still at its line, and on entry to a function, when what
    ran until then was its caller.
    """
    caller = frame.f_back
    if caller is not None and frame.f_lasti <= _entry(frame.f_code):
        frame = caller
    code = frame.f_code
    return f"{code.co_qualname} ({_shortened(code.co_filename)}:{frame.f_lineno})"


@cache
def _entry(code: CodeType) -> int:
    """The offset of the bytecode at which a function that was entered handles signals."""
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")


@cache
def _shortened(filename: str) -> str:
    path = Path(filename)
    root = Path.cwd()
    return str(path.relative_to(root)) if path.is_relative_to(root) else os.path.join(*path.parts[-2:])


def main() -> None:
    report, module = Path(sys.argv[1]), sys.argv[2]
    Sampler(report).start()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
