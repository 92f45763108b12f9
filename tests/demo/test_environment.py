"""The model server's environment: made once, never taken for finished when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.demo import environment
from sidecar.demo.errors import DemoError


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def nothing_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements without a package, so that no index is asked."""
    file = tmp_path / "requirements.txt"
    file.write_text("# none\n", "utf-8")
    monkeypatch.setattr(environment, "REQUIREMENTS", file)
    return file


def test_a_finished_one_is_used_again(nothing_to_install: Path, tmp_path: Path, notes: list[str]) -> None:
    python = environment.ensure(tmp_path / "demo", notes.append)
    assert python.exists()
    assert "there already" not in notes
    assert environment.ensure(tmp_path / "demo", notes.append) == python
    assert notes[-1] == "there already"


def test_an_interrupted_or_outdated_one_is_made_again(
    nothing_to_install: Path, tmp_path: Path, notes: list[str]
) -> None:
    home = environment.ensure(tmp_path / "demo", notes.append).parent.parent
    (home / ".complete").unlink()
    (home / "left-over").touch()
    environment.ensure(tmp_path / "demo", notes.append)
    assert not (home / "left-over").exists()
    (home / "left-over").touch()
    nothing_to_install.write_text("# others\n", "utf-8")
    environment.ensure(tmp_path / "demo", notes.append)
    assert not (home / "left-over").exists()


def test_a_failed_one_leaves_nothing_and_says_what_to_do(
    nothing_to_install: Path, tmp_path: Path, notes: list[str]
) -> None:
    nothing_to_install.write_text("./there-is-no-such-folder\n", "utf-8")
    with pytest.raises(DemoError, match=r"(?s)pip failed with status 1.*check the network"):
        environment.ensure(tmp_path / "demo", notes.append)
    assert not (tmp_path / "demo" / "environment").exists()
    assert [file.name for file in (tmp_path / "demo").iterdir()] == [".lock"]


def test_pins_are_exact_and_hashed() -> None:
    lines = environment.REQUIREMENTS.read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert pins
    assert [line for line in pins if "==" not in line or not line.endswith("\\")] == []
