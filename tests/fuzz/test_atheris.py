"""A bounded number of inputs that coverage leads atheris to; `make fuzz` has no such bound."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.fuzz.targets import TARGETS
from tests.parts import require
from tests.processes import REPOSITORY

_RUNS = 2_000  # inputs of a target
_DEADLINE_S = 300.0


@pytest.mark.parametrize("target", TARGETS)
def test_what_coverage_leads_to_holds(target: str) -> None:
    require(importlib.util.find_spec("atheris") is not None, "atheris is not installed (make venv)")
    command = [sys.executable, "-m", "tests.fuzz", target, "--runs", str(_RUNS), "--seed", "1"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert run.returncode == 0, run.stderr[-4_000:]
    executed = re.search(r"stat::number_of_executed_units: +(\d+)", run.stderr)
    assert executed is not None
    assert int(executed[1]) >= _RUNS  # a few more, now and then
