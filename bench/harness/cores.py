"""Two cores: one for the proxy under test alone, one for everything else."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.harness.errors import BenchError


@dataclass(frozen=True, slots=True)
class Cores:
    proxy: int
    rest: int


def claim() -> Cores:
    """The first two cores this process may use; moves this process, and so its children, to the second.

    Raises BenchError where there are fewer than two.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError(f"needs 2 cores, one for the proxy and one for the load; this process may use {allowed}")
    cores = Cores(allowed[0], allowed[1])
    os.sched_setaffinity(0, {cores.rest})
    return cores
