"""Endpoints that stall, take too long, break or send connections away."""

from __future__ import annotations

from typing import Any

import pytest

from interceptors.contract import Code
from tests.relay.upstream.three import (
    ping,
    pong,
    upstream,
)
from tests.relay.world import World


def test_a_stalled_endpoint_is_given_up_and_no_call_waits_for_it() -> None:
    with World(upstream=upstream(1, keepalive_s=1, keepalive_answer_s=1)) as world:
        calls = [ping(world) for _ in range(3)]
        connect = world.loop.connector
        assert connect is not None

        def stalled(protocol: Any) -> Any:
            transport = connect(protocol)
            world.server.mute = True
            return transport

        world.loop.connector = stalled
        world.server.mute = True
        world.advance(2.5)
        assert {call.message_text for call in calls} == {b"model server: no answer to a PING within 1 s"}
        assert ping(world).status == Code.UNAVAILABLE
        world.loop.connector = connect
        world.advance(10)
        world.answer = pong
        assert ping(world).status == 0


def test_an_answer_that_does_not_begin_in_time() -> None:
    """The time runs from the end of the request: a caller may take as long as it likes to send it."""
    with World(upstream=upstream(1, try_s=2)) as world:
        slow = world.call("client")
        slow.message(b"one")
        world.advance(9)
        begun = ping(world, "server")
        world.tap[1].head()
        late = ping(world)
        world.advance(1.9)
        assert not late.ended
        world.advance(0.3)
        assert (late.status, late.message_text) == (Code.UNAVAILABLE, b"model server: no answer within 2 s")
        world.advance(5)
        assert (slow.ended, begun.ended) == (False, False)
        for call in (slow, begun):
            call.cancel()


def test_what_has_not_left_is_sent_elsewhere() -> None:
    """A connection that takes nothing more: what the model server cannot have seen is no loss."""
    with World(upstream=upstream(1)) as world:
        world.transport(world.server).pause()
        call = ping(world, "bidi")
        assert not world.tap
        first = world.server
        world.lose(first)
        world.answer = pong
        world.advance(1)
        assert call.status == 0
        assert not first.calls


@pytest.mark.parametrize("served", [True, False])
def test_connections_that_go_away_again_and_again_lose_no_call(served: bool) -> None:
    """served: whether each had a call before; one that had none is replaced ever less often."""
    with World(upstream=upstream(1)) as world:
        world.answer = pong
        for _ in range(50):
            if served:
                assert ping(world).status == 0
            world.server.goaway((1 << 31) - 1)
            call = ping(world)
            world.advance(0.01 if served else 4)
            assert call.status == 0
