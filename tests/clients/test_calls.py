"""What is asked again and what is not, deadlines, pages, and errors: the same of both kinds of clients."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest

import langtrain
from langtrain.auth import (
    AsyncAuthenticationManager,
    AsyncRoleManager,
    AuthenticationManager,
    KeyLostError,
    RoleManager,
)
from langtrain.calls import RETRIES, methods
from langtrain.v1 import api_keys_pb2 as keys_pb
from langtrain.v1 import policies_pb2 as pb
from sidecar.errors import RequestError
from sidecar.services.errors import status_of
from tests.clients.answering import answering, failing

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
ROLE = pb.CreateRoleResponse(role=pb.Role(name="r", permissions=["a.b"]))
DELETED = pb.DeleteRoleResponse()


def test_what_is_done_once_is_asked_again_under_the_same_key() -> None:
    with answering({"CreateRole": failing(UNAVAILABLE, 2, ROLE)}) as (server, endpoint):
        with RoleManager(endpoint) as manager:
            assert manager.create_role("r", ["a.b"]).name == "r"
            manager.create_role("r", ["a.b"])
        keys = [heard.request.idempotency_key for heard in server.heard]
        assert len(keys) == 4
        assert keys[0] == keys[1] == keys[2] != keys[3]
        assert len(keys[0]) == 32


def test_event_loops_ask_again_too() -> None:
    with answering({"CreateRole": failing(UNAVAILABLE, 2, ROLE)}) as (server, endpoint):

        async def ask() -> None:
            async with AsyncRoleManager(endpoint) as manager:
                assert (await manager.create_role("r", ["a.b"])).name == "r"

        asyncio.run(ask())
        assert len({heard.request.idempotency_key for heard in server.heard}) == 1
        assert len(server.heard) == 3


def test_what_may_be_done_twice_is_asked_once() -> None:
    with answering({"DeleteRole": failing(UNAVAILABLE, 1, DELETED)}) as (server, endpoint):
        with RoleManager(endpoint) as manager, pytest.raises(langtrain.UnavailableError):
            manager.delete_role("r")
        assert len(server.heard) == 1


def test_asking_again_ends() -> None:
    with answering({"GetRole": failing(UNAVAILABLE, 100, DELETED)}) as (server, endpoint):
        with RoleManager(endpoint) as manager, pytest.raises(langtrain.UnavailableError):
            manager.get_role("r")
        assert len(server.heard) == RETRIES["maxAttempts"]


def test_only_what_reads_or_carries_a_key_is_safe() -> None:
    changing = {method.name for method in methods().values() if not method.safe}
    assert changing == {
        "ClaimAdministrator", "DeleteGroup", "DeletePolicy", "DeleteRole", "Drain", "RevokeApiKey", "RevokeGrant",
        "SetLogLevel", "WatchStatus",
    }  # fmt: skip


def test_a_key_whose_text_was_lost_is_named() -> None:
    """The first answer never came, and the second has no text, for it is shown once."""
    again = keys_pb.CreateApiKeyResponse(api_key=keys_pb.ApiKey(key_id="abc"))
    with (
        answering({"CreateApiKey": failing(UNAVAILABLE, 1, again)}) as (_, endpoint),
        AuthenticationManager(endpoint) as manager,
        pytest.raises(KeyLostError) as raised,
    ):
        manager.create_api_key("user123", ["models.inference"])
    assert (raised.value.key_id, raised.value.reason) == ("abc", "API_KEY_LOST")
    assert "API key abc was made" in str(raised.value)


def test_pages_are_one_list() -> None:
    def page(request: pb.ListRolesRequest, _: Any) -> pb.ListRolesResponse:
        number = int(request.page_token or 0)
        roles = [pb.Role(name=f"r{number}")]
        return pb.ListRolesResponse(roles=roles, next_page_token=str(number + 1) if number < 2 else "")

    with answering({"ListRoles": page}) as (server, endpoint), RoleManager(endpoint) as manager:
        assert [role.name for role in manager.list_roles()] == ["r0", "r1", "r2"]
        assert {heard.request.page_size for heard in server.heard} == {1000}


def test_every_call_has_a_deadline() -> None:
    def hang(_: Any, context: grpc.ServicerContext) -> pb.GetRoleResponse:
        assert context.time_remaining() < 0.5
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(30)
        return pb.GetRoleResponse()

    async def ask(endpoint: str) -> None:
        async with AsyncRoleManager(endpoint, timeout_s=0.3) as manager:
            await manager.get_role("r")

    with answering({"GetRole": hang}) as (_, endpoint):
        with RoleManager(endpoint, timeout_s=0.3) as manager, pytest.raises(langtrain.DeadlineError):
            manager.get_role("r")
        with pytest.raises(langtrain.DeadlineError):
            asyncio.run(ask(endpoint))


def test_an_error_says_what_is_wrong_with_which_field() -> None:
    def refuse(_: Any, context: grpc.ServicerContext) -> keys_pb.CreateApiKeyResponse:
        context.abort_with_status(status_of(RequestError([("owner", "expected one"), ("rate", "expected a rate")])))
        raise AssertionError("abort raises")

    async def ask(endpoint: str) -> None:
        async with AsyncAuthenticationManager(endpoint) as manager:
            await manager.create_api_key("u", [])

    with answering({"CreateApiKey": refuse}) as (_, endpoint):
        with AuthenticationManager(endpoint) as manager, pytest.raises(langtrain.InvalidError) as raised:
            manager.create_api_key("u", [])
        with pytest.raises(langtrain.InvalidError) as awaited:
            asyncio.run(ask(endpoint))
    for error in (raised.value, awaited.value):
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
        assert error.fields == {"owner": "expected one", "rate": "expected a rate"}
        assert error.__cause__ is None
