"""Runs the sidecar with samplers in its workers: `python -m bench.harness.sampled_worker REPORT sidecar serve …`.

The supervisor is the program as it is, but for what it has a child execute first.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from bench.harness.sampler import Sampler
from sidecar.processes import child, spawn

BOOT = (
    "import sys; sys.path[:] = sys.argv[4:]; from bench.harness.sampled_worker import boot; "
    "boot({report!r}, sys.argv[1:4])"
)


def boot(report: str, arguments: Sequence[str]) -> None:
    """In the child."""
    if arguments[0] == "worker":
        Sampler(Path(report)).start()
    child.main(arguments)


def main() -> None:
    report, module = sys.argv[1:3]
    sys.argv = [module, *sys.argv[3:]]
    with mock.patch.object(spawn, "BOOT", BOOT.format(report=report)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
