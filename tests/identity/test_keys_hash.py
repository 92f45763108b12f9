"""The key of hashes comes from a file that nobody else may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.identity.keys_hash import FileHashKeys, make
from sidecar.state.ports import StateError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.key"


def test_a_new_one_is_ours_alone_and_stays_what_it_is(path: Path) -> None:
    make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    keys = FileHashKeys(path)
    assert keys.current.key == path.read_bytes()
    assert len(keys.current.key) == 32
    assert keys.find(keys.current.name) == keys.current == FileHashKeys(path).current
    assert keys.find("another") is None
    with pytest.raises(StateError, match="File exists"):
        make(path)


def test_its_name_tells_it_from_others_and_is_nothing_of_it(path: Path) -> None:
    names = set()
    for number in range(4):
        make(path, lambda size, number=number: bytes([number]) * size)  # type: ignore[misc]
        current = FileHashKeys(path).current
        assert current.name not in repr(current.key.hex())
        assert current.key.hex() not in repr(current)
        assert repr(current.key) not in repr(current)
        names.add(current.name)
        path.unlink()
    assert len(names) == 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o610])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    make(path)
    path.chmod(mode)
    with pytest.raises(StateError, match=f"is open to others: mode {mode:04o}, expected 0600"):
        FileHashKeys(path)


@pytest.mark.parametrize("size", [0, 31, 1025])
def test_a_file_of_another_size_is_refused(path: Path, size: int) -> None:
    make(path, lambda _: bytes(size))
    with pytest.raises(StateError, match="expected 32 to 1024"):
        FileHashKeys(path)


def test_a_link_or_none_is_refused(path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        FileHashKeys(path)
    path.symlink_to("/dev/zero")
    with pytest.raises(StateError, match="is a symbolic link"):
        FileHashKeys(path)
