"""What is tried again, where, how often, and what the model server has to say about it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from interceptors.contract import Code
from sidecar.relay.settings import RetrySettings
from tests.relay.upstream.three import (
    A,
    B,
    only,
    ping,
    pong,
    refuses,
    served,
    unavailable,
    upstream,
)
from tests.relay.world import World


def test_a_refused_call_goes_to_another_endpoint() -> None:
    with World(upstream=upstream(2)) as world:
        world.answer = only(A, refuses)
        assert [ping(world).status for _ in range(4)] == [0] * 4
        assert served(world)[B] == 4


def test_refused_calls_are_tried_again_within_the_budget() -> None:
    with World(upstream=upstream(1)) as world:
        world.answer = refuses
        calls = [ping(world) for _ in range(100)]
        assert {call.status for call in calls} == {Code.UNAVAILABLE}
        assert len(world.tap) == 110  # the reserve; a refusal earns nothing
        assert world.pool.state().retries == 10


RETRIES: Final = RetrySettings(attempts=1)


@pytest.mark.parametrize("attempts", [0, 1, 2])
def test_unavailable_is_tried_again_only_where_the_config_says_so(attempts: int) -> None:
    with World(upstream=upstream(retries=RetrySettings(attempts=attempts))) as world:
        world.answer = unavailable
        call = ping(world)
        world.advance(1)
        assert (call.status, call.message_text) == (Code.UNAVAILABLE, b"busy")
        assert len(world.tap) == 1 + attempts
        assert len(served(world)) == 1 + attempts  # each time at another endpoint


@pytest.mark.parametrize(
    ("shape", "break_off", "again"),
    [
        ("unary", "lost", True), ("server", "lost", True), ("client", "lost", False), ("bidi", "lost", False),
        ("unary", "head", False), ("unary", "silent", True),
    ],
)  # fmt: skip
def test_a_broken_call_is_tried_again_where_nothing_came_and_it_is_unary(
    shape: str, break_off: str, again: bool
) -> None:
    with World(upstream=upstream(retries=RETRIES, try_s=3)) as world:
        call = ping(world, shape)
        (tapped,) = world.tap
        server: Any = tapped.end
        world.answer = pong
        if break_off == "head":
            tapped.head()
            world.settle()
        if break_off == "silent":
            world.advance(4)
        else:
            world.lose(server)
        world.advance(1)
        assert (call.status == 0) is again
        assert len(world.tap) == 1 + again


@pytest.mark.parametrize(
    ("pushback", "after"), [(b"-1", None), (b"odd", None), (b"2000", 2.0), (b"0", 0.0), (b"60000", None)]
)
def test_the_model_servers_pushback_is_heeded(pushback: bytes, after: float | None) -> None:
    with World(upstream=upstream(1, retries=RETRIES)) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", pushback), end=True)
        call = ping(world)
        world.answer = pong
        if after is None:
            world.advance(10)
            assert (call.status, len(world.tap)) == (Code.UNAVAILABLE, 1)
            return
        world.advance(max(0, after - 0.1))
        assert len(world.tap) == (2 if not after else 1)
        world.advance(0.2)
        assert (call.status, len(world.tap)) == (0, 2)


def test_retries_stay_within_a_tenth_of_the_calls() -> None:
    with World(upstream=upstream(retries=RETRIES)) as world:
        world.answer = only(B, unavailable)
        for _ in range(300):
            ping(world)
            world.advance(0.2)
        assert len(world.tap) <= 300 * 1.1 + 10


def test_a_call_that_is_cancelled_before_it_is_tried_again() -> None:
    with World(upstream=upstream(1, retries=RETRIES)) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", b"2000"), end=True)
        call = ping(world)
        call.cancel()
        world.advance(5)
        assert len(world.tap) == 1
        assert world.pool.state().waiting == 0
