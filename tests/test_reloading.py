"""What a running sidecar can change, what it watches, and what its workers are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import build, parse
from sidecar.config.model import Config
from sidecar.reloading import differences, reloadable, watched

BASE: dict[str, Any] = {
    "listen": {"tls": {"client_ca": "ca.pem"}},
    "authentication": {"mtls": {"trust_domains": [{"name": "example.org", "ca": "org.pem"}]}},
    "audit": {"file": "events.jsonl"},
}


def config(**changes: Any) -> Config:
    return build({**BASE, **changes}, Path("/etc/sidecar"), {})


@pytest.mark.parametrize(
    ("changes", "paths", "reloads"),
    [
        ({}, [], True),
        ({"workers": 2}, ["workers"], False),
        ({"worker_memory": "1GiB"}, ["worker_memory"], False),
        ({"listen": {"tls": {"client_ca": "new.pem"}}}, ["listen.tls.client_ca"], True),
        ({"listen": {"tls": {"client_ca": "ca.pem"}, "grace": "1s"}}, ["listen.grace"], True),
        ({"listen": {"tls": "none"}, "authentication": {}}, ["authentication.mtls", "listen.tls"], False),
        ({"listen": {"tls": {"client_ca": "ca.pem"}, "address": "127.0.0.1:1"}}, ["listen.address"], False),
        ({"upstream": {"address": "127.0.0.1:9"}}, ["upstream.address"], False),
        ({"upstream": {"tls": {"ca": "up.pem"}}}, ["upstream.tls"], False),
        ({"upstream": {"ports": [9]}}, ["upstream.ports"], True),
        ({"state": {"directory": "/elsewhere"}}, ["state.directory"], False),
        ({"audit": {}}, ["audit.file"], False),
        ({"telemetry": {"sample": 0.5}}, ["telemetry.sample"], True),
        ({"telemetry": {"otlp": "http://127.0.0.1:4317"}}, ["telemetry.otlp"], False),
        ({"interceptors": [{"use": "a:B"}]}, ["interceptors"], True),
        ({"authorization": {"rules": []}}, [], True),
        ({"authorization": {"unsafe_shared_sequences": True}}, ["authorization.unsafe_shared_sequences"], True),
        ({"authorization": {"policies": True}}, ["authorization.policies"], False),
        (
            {"authorization": {"policies": True, "bootstrap_admins": ["spiffe://example.org/a"]}},
            ["authorization.bootstrap_admins", "authorization.policies"],
            False,
        ),
        ({"unsafe_observe_only": True}, ["unsafe_observe_only"], True),
    ],
)
def test_what_can_be_changed_while_it_runs(changes: dict[str, Any], paths: list[str], reloads: bool) -> None:
    assert differences(config(), config(**changes)) == paths
    assert all(reloadable(path) for path in paths) is reloads


def test_every_file_that_is_read_is_watched_and_none_that_is_written() -> None:
    found = watched(config(telemetry={"access_log": {"file": "access.jsonl"}}))
    assert sorted(path.name for path in found) == ["ca.pem", "org.pem", "server-key.pem", "server.pem"]


def test_a_worker_makes_the_same_config_of_what_it_is_given() -> None:
    made = parse(YAML, Path("/etc/sidecar"), {})
    again = build(made.effective(), Path("/etc/sidecar"), {})
    assert again == made
    assert again.digest() == made.digest()


YAML = """
listen:
  tls: {client_ca: ca.pem, crl: crl.pem}
  limits: {resets: 5/second}
upstream:
  address: unix:///run/model.sock
  services: [{service: a.B, methods: [{name: C, unary_request: true}], model_field: [1, 2]}]
authentication: {mtls: {trust_domains: [example.org]}}
authorization: {rules: [{identities: ["spiffe://example.org/**"], methods: ["/**"], models: ["m-*"]}]}
interceptors: [{use: "./mine.py:Mine", settings: {a: [1, null, {b: 1.5}]}}]
workers: auto
"""
