from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sidecar.check.places import inspect
from sidecar.config.load import parse


def told(directory: Path, text: str) -> list[str]:
    report = inspect(parse(f"listen: {{address: '127.0.0.1:0', tls: none}}\n{text}", directory, {}))
    return [str(each).replace(str(directory), "DIR") for each in report.faults]


def test_a_free_host(tmp_path: Path) -> None:
    assert told(tmp_path, "") == []
    assert told(tmp_path, "state: {directory: a/b/c}\naudit: {file: d/e.jsonl}") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("state: {directory: file}", "state.directory: expected a directory, came DIR/file, which is none"),
        ("state: {directory: file/below}", "state.directory: expected a directory, came DIR/file, which is none"),
        ("audit: {file: .}", "audit.file: expected a file that can be written, came DIR"),
        ("audit: {file: file/below}", "audit.file: expected a directory, came DIR/file, which is none"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_written(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "file").touch()
    assert told(tmp_path, text) == [fault]


def test_a_directory_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)  # root may write everywhere
    assert told(tmp_path, "") == ["state.directory: expected a directory that can be written, came DIR, which cannot"]


def addressed(directory: Path, address: str) -> list[str]:
    report = inspect(parse(f"listen: {{address: '{address}', tls: none, unsafe_plaintext: true}}", directory, {}))
    return [str(each).replace(str(directory), "DIR") for each in report.faults]


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert addressed(tmp_path, f"127.0.0.1:{port}") == [
            f"listen.address: cannot listen on 127.0.0.1:{port}: Address already in use"
        ]
    assert addressed(tmp_path, f"127.0.0.1:{port}") == []


def test_an_address_of_another_host(tmp_path: Path) -> None:
    assert addressed(tmp_path, "192.0.2.1:0") == [
        "listen.address: cannot listen on 192.0.2.1:0: Cannot assign requested address"
    ]


def test_unix_sockets(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert addressed(tmp_path, f"unix://{tmp_path}/new.sock") == []
    assert addressed(tmp_path, f"unix://{tmp_path}/file") == [
        "listen.address: expected no file but a socket at DIR/file, came another"
    ]
    assert addressed(tmp_path, f"unix://{tmp_path}/none/a.sock") == [
        "listen.address: expected a socket in a directory that exists, came DIR/none"
    ]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "live.sock"))
        server.listen()
        assert addressed(tmp_path, f"unix://{tmp_path}/live.sock") == [
            "listen.address: cannot listen on DIR/live.sock: another process does"
        ]
    assert addressed(tmp_path, f"unix://{tmp_path}/live.sock") == []  # left by a process that is gone
