"""The file of lines: whole lines or none, ours alone, whatever a crash or a full disk left."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.audit.appendfile import CHUNK, AppendFile
from sidecar.audit.ports import AuditError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit" / "events.jsonl"


def test_creates_what_is_missing_for_its_owner_alone(path: Path) -> None:
    file = AppendFile(path)
    file.append(b"{}\n")
    file.close()
    assert path.read_bytes() == b"{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700] * 2


def test_appends_to_what_is_there(path: Path) -> None:
    for line in (b'{"n":1}\n', b'{"n":2}\n{"n":3}\n'):
        file = AppendFile(path)
        file.append(line)
        file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n'


@pytest.mark.parametrize(
    ("found", "kept", "removed"),
    [
        (b"", b"", 0),
        (b'{"n":1}\n', b'{"n":1}\n', 0),
        (b'{"n":1}\n{"n":2}', b'{"n":1}\n{"n":2}\n', 0),
        (b'{"n":1}\n{"n":', b'{"n":1}\n', 5),
        (b'{"n":1}\n2', b'{"n":1}\n', 1),
        (b'{"n":1}\n\x00\x00\x00', b'{"n":1}\n', 3),
        (b'{"n":1}\n\xff', b'{"n":1}\n', 1),
        (b'{"n":', b"", 5),
        (b'{"n":1}\n{"x":"' + b"y" * 2 * CHUNK, b'{"n":1}\n', 2 * CHUNK + 6),
        (b"\n" + b"y" * CHUNK, b"\n", CHUNK),
        (b"y" * CHUNK, b"", CHUNK),
    ],
)
def test_a_torn_last_line_is_cut_and_a_whole_one_ended(path: Path, found: bytes, kept: bytes, removed: int) -> None:
    path.parent.mkdir(0o700, parents=True)
    path.write_bytes(found)
    path.chmod(0o600)
    file = AppendFile(path)
    assert (path.read_bytes(), file.removed) == (kept, removed)
    file.append(b"{}\n")
    file.close()
    assert path.read_bytes() == kept + b"{}\n"


def test_a_second_process_is_refused_until_the_first_is_gone(path: Path) -> None:
    file = AppendFile(path)
    second = """if True:
        import sys
        from pathlib import Path
        from sidecar.audit.appendfile import AppendFile
        AppendFile(Path(sys.argv[1]))
    """
    refused = subprocess.run([sys.executable, "-c", second, str(path)], capture_output=True, text=True, check=False)
    assert f"AuditError: audit file {path} is in use by another sidecar" in refused.stderr
    file.close()
    AppendFile(path).close()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def open_file(path: Path) -> None:
    path.touch()
    path.chmod(0o620)


def open_folder(path: Path) -> None:
    path.parent.chmod(0o770)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (fifo, "is not a regular file"),
        (folder, "Is a directory"),
        (link, "is a symbolic link, expected a file"),
        (open_file, "is writable by others: mode 0620"),
        (open_folder, "is writable by others: mode 0770, expected 0700"),
    ],
)
def test_what_others_could_change_is_refused(path: Path, spoil: object, message: str) -> None:
    path.parent.mkdir(0o700, parents=True)
    spoil(path)  # type: ignore[operator]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AuditError, match=message):
        AppendFile(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failed_sync_takes_the_lines_back(path: Path) -> None:
    failures = iter([OSError(errno.EIO, "Input/output error"), None])

    def sync(fd: int) -> None:
        if (failure := next(failures)) is not None:
            raise failure

    file = AppendFile(path, sync)
    with pytest.raises(AuditError, match="Input/output error"):
        file.append(b'{"n":1}\n')
    assert path.read_bytes() == b""
    file.append(b'{"n":1}\n')
    file.close()
    assert path.read_bytes() == b'{"n":1}\n'


def test_what_could_not_be_cut_at_once_is_cut_before_the_next_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AppendFile(path)
    file.append(b'{"n":1}\n')
    write, cut = os.write, os.ftruncate
    chances: Iterator[bool] = iter([False, True])

    def half(fd: int, data: bytes) -> int:
        if len(data) > 4:
            return write(fd, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(fd: int, length: int) -> None:
        if not next(chances):
            raise OSError(errno.EIO, "Input/output error")
        cut(fd, length)

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", truncate)
    with pytest.raises(AuditError, match="No space left on device"):
        file.append(b'{"n":2}\n')
    assert path.read_bytes() == b'{"n":1}\n{"n"'
    monkeypatch.setattr(os, "write", write)
    file.append(b'{"n":3}\n')
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":3}\n'


def test_a_limit_on_the_size_of_files_leaves_whole_lines(path: Path) -> None:
    script = """if True:
        import resource, signal, sys
        from pathlib import Path
        from sidecar.audit.appendfile import AppendFile
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        file = AppendFile(Path(sys.argv[1]))
        for _ in range(3):
            file.append(b"x" * 399 + bytes([10]))
    """
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert f"AuditError: audit file {path}: File too large" in ran.stderr
    assert path.stat().st_size == 800
