"""A listener at a Unix socket's path: what stands there already is never taken from its owner."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.sidecars import guarded


def at(path: Path, certificates: Certificates) -> dict[str, Any]:
    config = guarded(certificates, "127.0.0.1:1")
    return {**config, "listen": {**config["listen"], "address": f"unix://{path}"}}


def fails(config: dict[str, Any], directory: Path) -> str:
    """Start a sidecar that cannot listen; what it logs."""
    file = directory / "second.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe").dump({**config, "state": {"directory": str(directory / "second")}}, out)
    command = [sys.executable, "-m", "sidecar", "serve", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    return ended.stderr


def test_a_file_at_the_path_is_left_alone(tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    assert "already in use" in fails(at(path, certificates), tmp_path)
    assert path.read_text() == "kept"


def test_a_socket_in_use_stays_with_who_listens(
    tmp_path: Path, certificates: Certificates, start_sidecar: StartSidecar
) -> None:
    path = tmp_path / "socket"
    config = at(path, certificates)
    with start_sidecar(config):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "somebody listens there already" in fails(config, tmp_path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


def test_a_socket_that_a_killed_process_left_is_replaced(
    tmp_path: Path, certificates: Certificates, start_sidecar: StartSidecar
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with start_sidecar(at(path, certificates)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
