"""Several endpoints of one upstream: which of them a call goes to, and what happens when one is bad, or all."""

from __future__ import annotations

from typing import Any

import pytest
from h2.settings import SettingCodes

from interceptors.contract import Code
from tests.relay.upstream.three import (
    A,
    B,
    C,
    at,
    conditions,
    nothing,
    only,
    ping,
    pong,
    resets,
    served,
    unavailable,
    upstream,
)
from tests.relay.world import World

# --- balance -------------------------------------------------------------------------------------------------------


def test_calls_go_round() -> None:
    with World(upstream=upstream()) as world:
        world.answer = pong
        for _ in range(9):
            assert ping(world).status == 0
        assert served(world) == {A: 3, B: 3, C: 3}


def test_a_slow_endpoint_gets_fewer() -> None:
    with World(upstream=upstream()) as world:
        world.answer = only(A, nothing)
        calls = [ping(world) for _ in range(31)]
        assert served(world)[A] == 1
        for call in calls:
            if call.alive:
                call.cancel()


def test_the_limit_on_calls_of_one_endpoint() -> None:
    with World(upstream=upstream(2, calls_most=2)) as world:
        calls = [ping(world) for _ in range(5)]
        assert served(world) == {A: 2, B: 2}
        at(world, B)[0].answer(b"pong")
        world.settle()
        assert served(world) == {A: 2, B: 3}
        for call in calls:
            if call.alive:
                call.cancel()


def test_further_connections_where_all_streams_are_taken() -> None:
    settings = upstream(1, connections_most=3)
    with World(upstream=settings, server={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as world:
        calls = [ping(world) for _ in range(7)]
        world.advance(1)
        assert [len(server.calls) for server in world.servers] == [2, 2, 2]
        for call in calls:
            call.cancel()
        world.advance(60)
        assert world.pool.endpoints()[0].connections == 1  # what was added goes when it is idle
        world.answer = pong
        assert ping(world).status == 0


# --- one of several is bad -----------------------------------------------------------------------------------------


def test_an_endpoint_that_cannot_be_reached_gets_no_calls() -> None:
    with World(upstream=upstream()) as world:
        world.answer = pong
        world.refusing.add(B)
        world.lose(world.at(B))
        world.advance(0.2)
        assert [ping(world).status for _ in range(6)] == [0] * 6
        assert served(world) == {A: 3, C: 3}
        assert conditions(world) == ["ready", "down", "ready"]
        assert world.pool.endpoints()[1].reason == "[Errno 111] Connection refused"
        world.refusing.clear()
        world.advance(5)
        assert conditions(world) == ["ready"] * 3


@pytest.mark.parametrize("how", [unavailable, resets])
def test_an_endpoint_that_fails_calls_is_ejected_and_comes_back(how: Any) -> None:
    with World(upstream=upstream()) as world:
        world.answer = only(B, how)
        for _ in range(30):
            ping(world)
        assert served(world)[B] == 5
        assert conditions(world) == ["ready", "ejected", "ready"]
        world.advance(11)
        assert conditions(world) == ["ready"] * 3
        for _ in range(30):
            ping(world)
        assert served(world)[B] == 6  # on trial one failure is enough
        world.answer = pong
        world.advance(21)
        assert [ping(world).status for _ in range(30)] == [0] * 30
        assert served(world)[B] == 16


def test_not_all_are_ejected() -> None:
    """Where all fail alike, the calls may be to blame: they reach the model server all the same."""
    with World(upstream=upstream()) as world:
        world.answer = unavailable
        assert [ping(world).status for _ in range(30)] == [Code.UNAVAILABLE] * 30
        assert conditions(world).count("ejected") == 1
        assert sum(served(world).values()) == 30


def test_the_last_one_that_is_left_serves_though_it_is_ejected() -> None:
    with World(upstream=upstream(2)) as world:
        world.answer = only(A, unavailable)
        for _ in range(20):
            ping(world)
        assert conditions(world) == ["ejected", "ready"]
        world.refusing.add(B)
        world.lose(world.at(B))
        world.answer = pong
        assert ping(world).status == 0


def test_what_callers_do_is_no_failure() -> None:
    with World(upstream=upstream(2)) as world:
        for _ in range(30):
            ping(world).cancel()
            call = world.call("unary", (b"grpc-timeout", b"10m"))
            call.message(b"ping", end=True)
            world.advance(0.1)
            assert call.status == Code.DEADLINE_EXCEEDED
        assert conditions(world) == ["ready", "ready"]


# --- none is ready -------------------------------------------------------------------------------------------------


def test_calls_wait_while_none_is_ready_where_the_config_says_so() -> None:
    with World(upstream=upstream(2, wait=True, queue_s=3)) as world:
        world.refusing = {A, B}
        for address in (A, B):
            world.lose(world.at(address))
        world.advance(5)
        early = ping(world)
        world.advance(3.2)
        assert (early.status, early.message_text) == (Code.UNAVAILABLE, b"model server is unavailable")
        call = ping(world)
        world.refusing.clear()
        world.answer = pong
        world.advance(2.5)
        assert call.status == 0


def test_a_peer_that_is_not_the_one_meant_is_told_nothing() -> None:
    with World(upstream=upstream(1), admit=lambda _: "process 7 is not the one that was started") as world:
        assert ping(world).status == Code.UNAVAILABLE
        assert world.pool.failure == "process 7 is not the one that was started"
        assert not world.transport(world.server).wrote
