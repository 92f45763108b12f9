"""Endpoints that are asked for their health."""

from __future__ import annotations

from typing import Any

from interceptors.contract import Code
from sidecar.relay.settings import HealthSettings, UpstreamSettings
from tests.relay.ends import Tapped, framed
from tests.relay.upstream.three import (
    HEALTH,
    A,
    B,
    at,
    conditions,
    nothing,
    only,
    ping,
    pong,
    served,
    upstream,
)
from tests.relay.world import World


def serving(code: int) -> Any:
    def answer(call: Tapped) -> None:
        if (b":path", HEALTH) in call.headers:
            call.answer(b"\x08" + bytes((code,)))
        else:
            pong(call)

    return answer


def checked(**settings: Any) -> UpstreamSettings:
    return upstream(2, health=HealthSettings(grpc=True, service="a.B", interval_s=1, timeout_s=0.5), **settings)


def test_calls_wait_for_the_first_check_and_go_where_it_is_well() -> None:
    with World(upstream=checked()) as world:
        call = ping(world)
        assert call.status is None
        asked = [call for call in world.tap if (b":path", HEALTH) in call.headers]
        assert {bytes(call.data) for call in asked} == {framed(b"\x0a\3a.B")}
        asked[0].answer(b"\x08\1")
        asked[1].answer(b"\x08\2")
        world.settle()
        assert conditions(world) == ["ready", "unhealthy"]
        assert [len(at(world, address)) for address in (A, B)] == [1, 0]
        world.answer = serving(1)
        world.advance(2)
        assert conditions(world) == ["ready", "ready"]
        call.cancel()


def test_an_endpoint_that_says_it_does_not_serve() -> None:
    with World(upstream=checked()) as world:
        world.answer = serving(1)
        world.advance(2)
        world.answer = only(A, serving(2), serving(1))
        world.advance(2)
        assert conditions(world) == ["unhealthy", "ready"]
        assert [ping(world).status for _ in range(4)] == [0] * 4
        assert served(world) == {B: 4}
        world.answer = serving(2)
        world.advance(2)
        assert ping(world).status == Code.UNAVAILABLE  # no panic: they say so themselves
        assert world.pool.failure == "health check: not serving"
        world.answer = serving(1)
        world.advance(2)
        assert ping(world).status == 0


def test_an_endpoint_that_does_not_answer_checks() -> None:
    with World(upstream=checked()) as world:
        world.answer = serving(1)
        world.advance(2)
        world.answer = only(A, nothing, serving(1))
        world.advance(4)
        assert [(state.condition, state.reason) for state in world.pool.endpoints()] == [
            ("unhealthy", "health check: no answer"), ("ready", ""),
        ]  # fmt: skip


def test_a_server_without_the_health_service_is_well() -> None:
    with World(upstream=checked()) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"12"), end=True)
        world.advance(3)
        assert conditions(world) == ["ready", "ready"]
