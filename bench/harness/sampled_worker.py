"""Runs the sidecar with samplers in its workers: `python -m bench.harness.sampled_worker REPORT sidecar serve …`.

The supervisor is the program as it is, but for what it has its nursery execute first.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from unittest import mock

from bench.harness.sampler import Sampler
from sidecar import app
from sidecar.processes import nursery, spawn
from sidecar.processes.child import Birth

BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from bench.harness.sampled_worker import boot; "
    "boot({report!r}, int(sys.argv[1]))"
)


def boot(report: str, number: int) -> None:
    """In the nursery."""
    run = app.main

    def sampled(birth: Birth) -> int:
        Sampler(Path(report)).start()
        return run(birth)

    with mock.patch.object(app, "main", sampled):
        nursery.main(number)


def main() -> None:
    report, module = sys.argv[1:3]
    sys.argv = [module, *sys.argv[3:]]
    with mock.patch.object(spawn, "BOOT", BOOT.format(report=report)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
