"""The run directory: private, one for each boot, and none is left of a sidecar that was killed."""

from __future__ import annotations

import stat
from pathlib import Path

from sidecar.processes.rundir import RunDirectory


def test_it_is_private_and_goes_with_its_sidecar(tmp_path: Path) -> None:
    made = RunDirectory(tmp_path / "state", 12)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    (made.path / "socket").touch()
    made.close()
    assert list((tmp_path / "state").iterdir()) == []


def test_one_that_was_left_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    (tmp_path / "run-7").mkdir()
    (tmp_path / "run-7" / "socket").touch()
    living = RunDirectory(tmp_path, 8)
    other = RunDirectory(tmp_path, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-8", "run-9"]
    living.close()
    other.close()


def test_what_only_looks_like_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run-notes").write_text("kept")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run-link").symlink_to(tmp_path / "elsewhere")
    RunDirectory(tmp_path, 8).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "run-link", "run-notes"]
