"""Who calls and over what: tokens, channels that are shared, and secrets that nothing shows."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

import langtrain
from langtrain.auth import AuthenticationManager, RoleManager
from langtrain.iam import AsyncPolicyEngine, PolicyEngine
from langtrain.v1 import policies_pb2 as pb
from langtrain.v1 import policies_pb2_grpc
from tests.certificates import Certificates
from tests.clients.answering import Answer, answering
from tests.peers.interop_server import credentials

ANSWERS: dict[str, Answer] = {
    "ListRoles": lambda *_: pb.ListRolesResponse(),
    "ListPolicies": lambda *_: pb.ListPoliciesResponse(),
}


def tls(certificates: Certificates) -> grpc.ServerCredentials:
    pair = certificates.server
    return grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])


def test_a_token_is_sent_over_tls(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(("first", "second\n"))
    with answering(ANSWERS, tls(certificates)) as (server, endpoint):
        with RoleManager(endpoint, ca=certificates.ca, token="ltk_argument") as manager:
            manager.list_roles()
        monkeypatch.setenv("LANGTRAIN_TOKEN", "ltk_environment\n")
        with RoleManager(endpoint, ca=certificates.ca) as manager:
            manager.list_roles()
        with RoleManager(endpoint, ca=certificates.ca, token=lambda: next(given)) as manager:
            manager.list_roles()
            manager.list_roles()
        sent = [heard.metadata["authorization"] for heard in server.heard]
    assert sent == ["Bearer ltk_argument", "Bearer ltk_environment", "Bearer first", "Bearer second"]


def test_a_token_is_sent_at_a_unix_socket_and_never_in_plaintext() -> None:
    with answering(ANSWERS) as (server, endpoint), RoleManager(endpoint, token="t") as manager:
        manager.list_roles()
        assert server.heard[0].metadata["authorization"] == "Bearer t"
    with pytest.raises(ValueError, match="token: expected TLS or a Unix socket"):
        RoleManager("127.0.0.1:1", token="t", unsafe_plaintext=True)


def test_any_stub_calls_by_a_token(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(ANSWERS, tls(certificates)) as (server, endpoint):
        monkeypatch.setenv("LANGTRAIN_TOKEN", "t")
        secure = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
        combined = grpc.composite_channel_credentials(secure, langtrain.call_credentials())
        with grpc.secure_channel(endpoint, combined) as channel:
            policies_pb2_grpc.PolicyServiceStub(channel).ListRoles(pb.ListRolesRequest(), timeout=10)
        monkeypatch.setenv("LANGTRAIN_ENDPOINT", endpoint)
        monkeypatch.setenv("LANGTRAIN_CA", str(certificates.ca))
        with langtrain.connect() as channel:
            policies_pb2_grpc.PolicyServiceStub(channel).ListRoles(pb.ListRolesRequest(), timeout=10)

        async def ask() -> None:
            async with langtrain.connect_aio() as channel:
                stub: Any = policies_pb2_grpc.PolicyServiceStub(channel)
                await stub.ListRoles(pb.ListRolesRequest(), timeout=10)

        asyncio.run(ask())
        assert [heard.metadata["authorization"] for heard in server.heard] == ["Bearer t"] * 3


@pytest.mark.parametrize("token", ["two words", "tok\nen", "tökén", " "])
def test_what_is_no_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: expected printable ASCII without blanks$"):
        RoleManager("localhost:1", token=token)
    with pytest.raises(ValueError, match=r"^token: expected printable ASCII without blanks$"):
        langtrain.call_credentials(token)


def test_nobody_without_a_token_has_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANGTRAIN_TOKEN", raising=False)
    with pytest.raises(ValueError, match="token: expected a JWT or an API key, here or in LANGTRAIN_TOKEN"):
        langtrain.call_credentials()


def test_a_token_that_cannot_be_had_fails_the_call(certificates: Certificates) -> None:
    def none() -> str:
        raise OSError("no token today")

    with answering(ANSWERS, tls(certificates)) as (server, endpoint):
        manager = RoleManager(endpoint, ca=certificates.ca, token=none)
        with manager, pytest.raises(langtrain.UnavailableError, match="no token today"):
            manager.list_roles()
        assert server.heard == []


def test_clients_with_the_same_settings_share_a_connection(certificates: Certificates) -> None:
    with answering(ANSWERS, tls(certificates)) as (server, endpoint):
        roles = RoleManager(endpoint, ca=certificates.ca)
        policies = PolicyEngine(endpoint, ca=certificates.ca)
        roles.list_roles()
        policies.list_policies()
        roles.close()
        policies.list_policies()
        with PolicyEngine(endpoint, ca=certificates.ca, token="another") as other:
            other.list_policies()
        policies.close()
        with PolicyEngine(endpoint, ca=certificates.ca) as later:
            later.list_policies()
        first, second, third, another, last = [heard.peer for heard in server.heard]
        assert first == second == third
        assert len({first, another, last}) == 3
        with pytest.raises(ValueError, match="is closed"):
            roles.list_roles()


def test_a_client_serves_one_event_loop_after_another(certificates: Certificates) -> None:
    with answering(ANSWERS, tls(certificates)) as (server, endpoint):
        engine = AsyncPolicyEngine(endpoint, ca=certificates.ca)

        async def ask() -> None:
            async with AsyncPolicyEngine(endpoint, ca=certificates.ca) as other:
                await asyncio.gather(engine.list_policies(), other.list_policies())
            await engine.list_policies()

        asyncio.run(ask())
        asyncio.run(ask())
        peers = [heard.peer for heard in server.heard]
        assert len(peers) == 6
        assert len(set(peers[:3])) == len(set(peers[3:])) == 1
        asyncio.run(engine.close())
        with pytest.raises(ValueError, match="is closed"):
            asyncio.run(engine.list_policies())


def test_nothing_shows_who_calls(certificates: Certificates) -> None:
    pair = certificates.client
    manager = AuthenticationManager(
        "localhost:1", ca=certificates.ca, cert=pair.certificate, key=pair.key, token="ltk_secret"
    )
    shown = f"{manager!r} {manager._settings!r} {langtrain.settings('localhost:1', token='ltk_secret')}"
    assert "AuthenticationManager('localhost:1')" in shown
    assert "ltk_secret" not in shown
    assert "PRIVATE KEY" not in shown


def test_mtls_and_a_token_go_together(certificates: Certificates) -> None:
    pair, own = certificates.client, certificates.server
    demanding = credentials(certificates.ca, own.certificate, own.key)
    with answering(ANSWERS, demanding) as (server, endpoint):
        with RoleManager(endpoint, ca=certificates.ca, cert=pair.certificate, key=pair.key, token="t") as manager:
            manager.list_roles()
        manager = RoleManager(endpoint, ca=certificates.ca, token="t")
        with manager, pytest.raises(langtrain.UnavailableError):
            manager.list_roles()
        assert len(server.heard) == 1
