"""Where a benchmark finds and leaves things, all relative to the project's root."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"  # ignored by git: built tools, peers' venv, a folder for each run
RESULTS = ROOT / "bench" / "results"
LOAD = ROOT / "bench" / "load"  # C sources
