"""Which build is under test: the modules are as it says, and it says so. `make test-compiled` expects the other one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from sidecar import build
from tools import compiled

EXPECTED = os.environ.get("EXPECTED_BUILD", build.INTERPRETED)
MODULES = compiled.sources(compiled.ROOT, compiled.modules(compiled.ROOT))


@pytest.mark.parametrize("path", MODULES)
def test_a_module_is_what_it_is_said_to_be(path: str) -> None:
    name = path.removesuffix(".py").replace("/", ".")
    assert build.of(name) == EXPECTED
    file = import_module(name).__file__ or ""
    assert file.endswith(".so") == (EXPECTED == build.COMPILED), file


def test_the_version_says_which_build_it_is() -> None:
    ran = subprocess.run([sys.executable, "-m", "sidecar", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.rstrip().endswith(f"({EXPECTED})")


def test_nothing_compiled_lies_beside_the_sources() -> None:
    beside = [file for package in compiled.PACKAGES for file in (compiled.ROOT / package).rglob("*.so")]
    assert not beside, "it would be run in place of what is edited"
