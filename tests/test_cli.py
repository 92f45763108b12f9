"""The command line, run as its users do; what a command prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import REPOSITORY

CONFIG = """
listen: {address: "127.0.0.1:0", tls: {client_ca: certs/ca.pem}}
upstream: {address: "127.0.0.1:1"}
authentication: {mtls: {trust_domains: [example.org]}}
"""


class Ran:
    """How a command ended: status, out, err."""

    def __init__(self, *arguments: str, directory: Path, stdin: str = "", **environment: str) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("LANGTRAIN")}
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments],
            cwd=directory,
            env={**kept, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Development certificates and a config that is sound."""
    assert Ran("certs", "dev", "certs", directory=tmp_path).status == 0
    (tmp_path / "sidecar.yaml").write_text(CONFIG)
    return tmp_path


def test_check_says_nothing_of_what_is_sound(directory: Path) -> None:
    ran = Ran("check", "--config", "sidecar.yaml", directory=directory)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    ran = Ran("check", "--config", "sidecar.yaml", "--json", directory=directory)
    assert json.loads(ran.out) == {"ok": True, "faults": [], "warnings": []}


def test_check_lists_every_fault_of_a_config(directory: Path) -> None:
    (directory / "bad.yaml").write_text(f"{CONFIG}workers: 0\n'[red]x': 1\n")
    ran = Ran("check", "-c", "bad.yaml", directory=directory)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[0].startswith("fault [red]x (line 6): expected a known key")
    assert ran.err.splitlines()[1:] == [
        "fault workers (line 5): expected a number from 1 to 64, or auto, came the number 0",
        "2 faults",
    ]


def test_check_lists_every_fault_of_the_host(directory: Path) -> None:
    (directory / "certs" / "ca.pem").unlink()
    ran = Ran(
        "check", "-c", "sidecar.yaml", "--json", directory=directory,
        LANGTRAIN_SIDECAR__LISTEN__ADDRESS="192.0.2.1:0", LANGTRAIN_SIDECAR__UNSAFE_OBSERVE_ONLY="true",
        LANGTRAIN_SIDECAR__INTERCEPTORS="[{use: './none.py:None'}]",
    )  # fmt: skip
    report = json.loads(ran.out)
    assert ran.status == 1
    assert report["ok"] is False
    assert [fault["path"] for fault in report["faults"]] == [
        "listen.tls.client_ca",
        "listen.address",
        "interceptors[0]",
    ]
    assert [warning["path"] for warning in report["warnings"]] == ["unsafe_observe_only"]


def test_serve_tells_faults_as_log_lines(directory: Path) -> None:
    ran = Ran("serve", "-c", "sidecar.yaml", directory=directory, LANGTRAIN_SIDECAR__WORKERS="0")
    (line,) = map(json.loads, ran.err.splitlines())
    assert ran.status == 1
    assert (line["level"], line["event"], line["path"]) == ("error", "refused", "workers")
    assert line["origin"] == "LANGTRAIN_SIDECAR__WORKERS"


def test_serve_warns_of_what_is_unsafe(directory: Path) -> None:
    (directory / "certs" / "server.pem").unlink()  # so that it does not go on to serve
    ran = Ran("serve", "-c", "sidecar.yaml", directory=directory, LANGTRAIN_SIDECAR__UNSAFE_OBSERVE_ONLY="true")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert ran.status == 1
    assert [(line["level"], line["event"]) for line in lines] == [
        ("warning", "unsafe_setting"),
        ("error", "refused"),
    ]
    assert lines[0]["setting"] == "unsafe_observe_only"
    assert lines[1]["path"] == "listen.tls.certificate"
    assert "server.pem: No such file or directory" in lines[1]["detail"]


def test_show_and_digest(directory: Path) -> None:
    shown = Ran("config", "show", "-c", "sidecar.yaml", directory=directory)
    (directory / "shown.yaml").write_text(shown.out)
    digests = [Ran("config", "digest", "-c", name, directory=directory).out for name in ("sidecar.yaml", "shown.yaml")]
    assert digests[0] == digests[1]
    as_json = Ran("config", "show", "-c", "sidecar.yaml", "--json", directory=directory)
    assert json.loads(as_json.out)["listen"]["grace"] == "30s"


def test_schema_and_reference(tmp_path: Path) -> None:
    assert json.loads(Ran("config", "schema", directory=tmp_path).out)["title"] == "Config"
    reference = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    assert Ran("config", "reference", directory=tmp_path, PYTHONIOENCODING="utf-8").out == reference


def test_development_certificates_overwrite_nothing(directory: Path) -> None:
    ran = Ran("certs", "dev", "certs", directory=directory)
    assert ran.status == 1
    assert "certs already has README.txt" in ran.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["check"], 2),
        (["chek"], 2),
        (["check", "--config", "none.yaml"], 1),
        (["check", "--config", "."], 2),
        (["serve", "--config", "none.yaml"], 1),
        (["serve", "--config", "none.yaml", "--log-level", "loud"], 2),
        (["config", "show", "--config", "none.yaml"], 1),
    ],
)
def test_exit_status(tmp_path: Path, arguments: list[str], status: int) -> None:
    assert Ran(*arguments, directory=tmp_path).status == status


def test_an_error_not_understood_shows_no_trace(directory: Path) -> None:
    (directory / "sitecustomize.py").write_text(
        "import sidecar.config.load as load\n"
        "def broken(*_): raise RuntimeError('hunter2')\n"
        "load.load = broken\n"
        "import sidecar.config\nsidecar.config.load = broken\n"
    )
    path = os.pathsep.join((str(directory), str(REPOSITORY)))
    ran = Ran("check", "-c", "sidecar.yaml", directory=directory, PYTHONPATH=path)
    assert ran.status == 2
    assert "internal error of kind RuntimeError" in ran.err
    assert "hunter2" not in ran.err
