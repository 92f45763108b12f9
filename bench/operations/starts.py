"""Sidecars that start, and killed workers' successors that do, on a machine that has nothing else to do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bench.harness import children, schedstat
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.ends import connect, served
from bench.operations.given import Given

WORKERS = 2
SETTLED_S = 2.0  # after `listening`, when the services are ready as well
WAITING = 16  # connections, which the kernel spreads over the workers


def run(stage: Stage, given: Given) -> list[Figure]:
    listening, used, settled, shared, succeeded = [], [], [], [], []
    for _ in range(given.starts):
        begun = time.monotonic()
        with stage.sidecar(WORKERS) as scene:
            listening.append(time.monotonic() - begun)
            used.append(_cpu_s(scene))
            time.sleep(SETTLED_S)
            settled.append(_cpu_s(scene))
            shared.append(sum(map(_pss_mib, [scene.process.pid, *children.of(scene.process.pid)])))
            succeeded.append(_succession_s(scene))
    about = f"a start with {WORKERS} workers"
    return [
        Figure(f"{about}: from exec to `listening`", "s", listening),
        Figure(f"{about}: CPU time of all processes until then", "s", used),
        Figure(f"{about}: the same {SETTLED_S:g} s later, when all are ready", "s", settled),
        Figure(f"{about}: memory of all processes, shared pages counted once (PSS)", "MiB", shared),
        Figure(f"{WORKERS} of {WORKERS} workers killed (-9): until all that waited are served", "s", succeeded),
    ]  # fmt: skip


def _cpu_s(scene: Scene) -> float:
    return sum(usage.run_ns for usage in schedstat.read(scene.process.pid).values()) / 1e9


def _pss_mib(pid: int) -> float:
    """Of a process, pages that n processes share counted as an n-th. Root may read it alone: memory is hidden."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _succession_s(scene: Scene) -> float:
    file = scene.pki.written(scene.pki.client)
    workers = scene.workers().values()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    waiting = [connect(scene) for _ in range(WAITING)]
    killed = time.monotonic()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert all(served(each, scene, file) for each in waiting)
    return time.monotonic() - killed
