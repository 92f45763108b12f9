"""Where a benchmark finds and leaves things, all relative to the project's root."""

from __future__ import annotations

from pathlib import Path

from bench.harness.errors import BenchError

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"  # ignored by git: built tools, peers' venv, a folder for each run
RESULTS = ROOT / "bench" / "results"
LOAD_TOOLS = ROOT.parent / "shared" / "tools" / "load"


def load_source(name: str) -> Path:
    """The C source of a load tool. Raises BenchError when the tools' folder is not beside the project."""
    source = LOAD_TOOLS / name
    if not source.is_file():
        raise BenchError(f"{name} is missing: expected it in ../shared/tools/load, seen from the project's root")
    return source
