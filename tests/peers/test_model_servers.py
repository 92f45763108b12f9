"""Triton's client to MLServer and to KServe: through the sidecar they say what they say without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import sidecars
from tests.certificates import CLIENT, STRANGER, Certificates
from tests.conftest import StartSidecar
from tests.peers import model_servers
from tests.peers.conftest import DIRECT
from tests.peers.model_servers import ModelServer, client
from tests.peers.targets import Target

SERVICE = "/inference.GRPCInferenceService"
needs_sidecar = pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: without a sidecar nothing is refused")


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with model_servers.mlserver(tmp_path_factory.mktemp("mlserver")) as running:
        yield running


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with model_servers.kserve(tmp_path_factory.mktemp("kserve")) as running:
        yield running


@pytest.fixture(scope="module")
def before(certificates: Certificates, start_sidecar: StartSidecar) -> Any:
    """`with before(server, models=[...]) as (target, sidecar):` a sidecar that lets the client use these models."""

    @contextmanager
    def open_front(
        server: ModelServer, models: list[str] | None = None, rules: list[dict[str, Any]] | None = None
    ) -> Iterator[tuple[Target, Any]]:
        if DIRECT:
            yield server.target, None
            return
        config = sidecars.guarded(certificates, server.target.address)
        config["upstream"]["ports"] = list(server.ports)
        if models:
            named = [
                f"{SERVICE}/{method}" for method in ("ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata")
            ]
            config["authorization"]["rules"] = [
                {"identities": [CLIENT], "methods": named, "models": models},
                {"identities": [CLIENT], "methods": [f"{SERVICE}/Server*"]},
            ]
        if rules:
            config["authorization"]["rules"] = rules
        with start_sidecar(config) as sidecar:
            yield Target(sidecar.address, certificates), sidecar

    return open_front


def test_triton_client_to_mlserver(mlserver: ModelServer, before: Any) -> None:
    cases = ("digits,words", "ADDRESS")
    expected = client("mlserver", "triton_client.py", *cases, target=mlserver.target)
    assert expected["words"]["answer"] == ["EIN", "WÜRFEL", "FÄLLT", "☂", "NICHT", "WEIT"]
    assert len(expected["digits"]["answers"]["1000"]) == 1000
    with before(mlserver, ["digits", "words", "missing"]) as (target, _):
        assert client("mlserver", "triton_client.py", *cases, target=target) == expected


def test_mlserver_streams(mlserver: ModelServer, before: Any) -> None:
    arguments = ("ADDRESS", "words,words")
    expected = client("mlserver", "mlserver_stream.py", *arguments, target=mlserver.target)
    assert expected == {"words": ["ONE", "TWO", "THREE"] * 2, "status": "OK", "message": ""}
    with before(mlserver, ["words"]) as (target, _):
        assert client("mlserver", "mlserver_stream.py", *arguments, target=target) == expected


def test_triton_client_to_kserve(kserve: ModelServer, before: Any) -> None:
    expected = client("mlserver", "triton_client.py", "double", "ADDRESS", target=kserve.target)
    assert len(expected["double"]["doubled"]) == 1500
    with before(kserve, ["double"]) as (target, _):
        assert client("mlserver", "triton_client.py", "double", "ADDRESS", target=target) == expected


def test_kserve_client_with_typed_contents(kserve: ModelServer, before: Any) -> None:
    expected = client("kserve", "kserve_client.py", "ADDRESS", target=kserve.target)
    assert expected["doubled"][:3] == [1.0, -2.5, 6.0]
    with before(kserve, ["double"]) as (target, _):
        assert client("kserve", "kserve_client.py", "ADDRESS", target=target) == expected


@needs_sidecar
def test_a_stranger_is_denied(mlserver: ModelServer, before: Any) -> None:
    with before(mlserver, ["words"]) as (target, sidecar):
        refused = client("mlserver", "triton_client.py", "refused", "ADDRESS", target=target, stranger=True)
    assert {status for status, _ in refused["refused"].values()} == {"StatusCode.PERMISSION_DENIED"}
    denied = [event for event in sidecar.events() if event["kind"] == "call.denied"]
    assert {event["principal"] for event in denied} == {STRANGER}


@needs_sidecar
def test_a_model_outside_the_rule_is_denied(mlserver: ModelServer, before: Any) -> None:
    with before(mlserver, ["digits"]) as (target, _):
        refused = client("mlserver", "triton_client.py", "refused", "ADDRESS", target=target)["refused"]
    assert refused["words"][0] == "StatusCode.PERMISSION_DENIED"
    assert refused["live"] == ["OK", "True"]


@needs_sidecar
def test_every_message_of_a_stream_is_authorised(mlserver: ModelServer, before: Any) -> None:
    with before(mlserver, ["words"]) as (target, _):
        answer = client("mlserver", "mlserver_stream.py", "ADDRESS", "words,secret,words", target=target)
    assert (answer["words"], answer["status"]) == (["ONE", "TWO", "THREE"], "PERMISSION_DENIED")


@needs_sidecar
def test_nobody_enters_the_sequences_of_another(mlserver: ModelServer, before: Any) -> None:
    """Both call their sequences alike; each has its own, and hears its own id."""
    number, text = {"int64_param": "42"}, {"string_param": "forty-two"}
    own = {"42": [[1, number], [3, number]], "forty-two": [[1, text], [3, text]]}
    with before(mlserver, rules=[{"identities": [CLIENT, STRANGER], "methods": ["/**"]}]) as (target, _):
        first = client("mlserver", "triton_client.py", "sums", "ADDRESS", target=target)
        second = client("mlserver", "triton_client.py", "sums", "ADDRESS", target=target, stranger=True)
        again = client("mlserver", "triton_client.py", "sums", "ADDRESS", target=target)
    assert first["sums"] == second["sums"] == own
    assert [each[0] for each in again["sums"]["42"]] == [4, 6]


@needs_sidecar
def test_ways_around_messages_are_denied_unless_named(mlserver: ModelServer, before: Any) -> None:
    plain = {"identities": [CLIENT], "methods": ["/**"], "models": ["digits", "words"]}
    with before(mlserver, rules=[plain]) as (target, sidecar):
        denied = client("mlserver", "triton_client.py", "around", "ADDRESS", target=target)["around"]
        reasons = [event["reason"] for event in sidecar.events() if event["kind"] == "call.denied"]
    assert denied.pop("index") == ["digits", "words"]
    assert denied.pop("plain") == ["OK"]
    assert {name: answer[0] for name, answer in denied.items()} == dict.fromkeys(denied, "StatusCode.PERMISSION_DENIED")
    assert [reason.removeprefix("authorize.permission:models.") for reason in reasons] == [
        *["shared_memory"] * 5, "trace_settings", "log_settings", "load_config", "load_files",
    ]  # fmt: skip
    with before(mlserver, rules=[plain, {**plain, "permissions": ["models.*"]}]) as (target, _):
        named = client("mlserver", "triton_client.py", "around", "ADDRESS", target=target)["around"]
    # What it is now refused for is the model server's to say.
    assert "StatusCode.PERMISSION_DENIED" not in [named[name][0] for name in ("input", "output", "config", "files")]
