"""`langtrain-sidecar status`, run as its users do, against services behind a front."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.operations.in_memory import SilentSupervisorError
from tests.processes import Process
from tests.services.running import Running
from tests.test_cli import Ran


def test_a_table_for_people(services: Running, tmp_path: Path) -> None:
    ran = Ran("status", "--endpoint", services.target, directory=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "langtrain-sidecar 0.1.0, up 1:02:05, config c4e58ea1"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in ran.out.splitlines() if "│" in line]
    assert rows == [
        ["relay", "4711", "serving", "0", "61", "40", "7"],
        ["relay", "4712", "draining", "2", "97", "3", "3"],
        ["services", "–", "backing off", "1", "0", "0", "0"],
        ["127.0.0.1:8001", "ready", "4", "0"],
        ["127.0.0.1:8002", "ejected", "1", "12"],
        ["/inference.GRPCInferenceService/*", "identify → authorize (bytes) → record"],
        ["listen.tls.certificate", "CN=sidecar", rows[6][2]],
        ["policies", "0.2 s of 5 s"],
        ["revocations", "never"],
    ]
    assert rows[6][2].startswith("2028-01-15 08:00 UTC, in ")


def test_json_for_scripts(services: Running, tmp_path: Path) -> None:
    ran = Ran("status", "--json", directory=tmp_path, LANGTRAIN_ENDPOINT=services.target)
    shown = json.loads(ran.out)
    assert shown["config_digest"] == services.operations.now.config_digest
    assert shown["started"] == "2027-01-15T08:00:00.250Z"
    assert shown["draining"] is False
    assert shown["workers"][1]["state"] == "WORKER_STATE_DRAINING"
    assert shown["feeds"] == [
        {"name": "policies", "staleness": "0.250s", "limit": "5s"}, {"name": "revocations", "limit": "5s"}
    ]  # fmt: skip


def test_watching_shows_what_changes(services: Running) -> None:
    command = [sys.executable, "-m", "sidecar", "status", "--watch", "--json", "--endpoint", services.target]
    with Process(command) as process:
        process.wait_line(lambda line: '"draining": false' in line)
        services.operations.now = replace(services.operations.now, draining=True)
        process.wait_line(lambda line: '"draining": true' in line)


def test_a_watch_ends_with_a_word_when_the_sidecar_does(services: Running) -> None:
    command = [sys.executable, "-m", "sidecar", "status", "--watch", "--endpoint", services.target]
    with Process(command) as process:
        process.wait_line(lambda line: "langtrain-sidecar 0.1.0" in line)
        services.operations.raises = SilentSupervisorError("the control channel is gone")
        line = process.wait_line(lambda line: line.startswith("error"))
        assert line == f"error {services.target}: INTERNAL: the sidecar does not answer"
        assert process.wait() == 1


def test_what_a_sidecar_says_is_never_acted_on(services: Running, tmp_path: Path) -> None:
    services.operations.now = replace(services.operations.now, version="\x1b[2J[red]1")
    ran = Ran("status", "--endpoint", services.target, directory=tmp_path)
    assert ran.out.splitlines()[0].startswith("langtrain-sidecar �[2J[red]1, up")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--endpoint", "unix:///nowhere.sock"), "error unix:///nowhere.sock: UNAVAILABLE: "),
        (("--endpoint", "127.0.0.1:1", "--cert", "no.pem"), "error 127.0.0.1:1: [Errno 2] No such file"),
        (
            ("--endpoint", "127.0.0.1:1", "--cert", "sidecar.yaml"),
            "error 127.0.0.1:1: cert and key: expected",
        ),
    ],
)
def test_what_fails_says_so(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("")
    ran = Ran("status", *options, directory=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(said)
    assert len(ran.err.splitlines()) == 1
