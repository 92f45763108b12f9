"""Whoever sends much at once is looked at in turns, so that others do not wait for all of it."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.front import FrontWire
from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.wire import Flusher
from tests.relay.ends import Client
from tests.relay.hand_turned import HandTurned
from tests.relay.http2.ends import REQUEST, ServerEnd, continuation, data, headers
from tests.relay.world import World

CALLS = 90


def ticking() -> Callable[[], float]:
    """A clock on which every look takes a millisecond."""
    looks = itertools.count()
    return lambda: next(looks) * 0.001


def burst(client: Client) -> None:
    """Many calls in one flight."""
    for _ in range(CALLS):
        client.call(b"/t.S/Unary").message(b"q", end=True)


def test_a_call_of_another_does_not_wait_for_a_burst() -> None:
    with World() as world:
        world.relay.timer = ticking()
        other = world.connect()
        world.settle()
        burst(world.client)
        other.call(b"/t.S/Unary").message(b"other", end=True)
        for client in (world.client, other):
            world.transport(client).feed(client.take())
        world.settle()
        order = [call.messages[0] for call in world.tap]
        assert order.count(b"q") == CALLS
        assert order.index(b"other") < CALLS / 2
        for call in world.tap:
            call.answer(b"a")
        world.settle()


def test_nothing_is_read_meanwhile_and_everything_after() -> None:
    with World() as world:
        world.relay.timer = ticking()
        burst(world.client)
        transport = world.transport(world.client)
        transport.feed(world.client.take())
        assert not transport.reading
        assert len(world.wire(world.client).connection.streams) < CALLS
        world.settle()
        assert transport.reading
        assert len(world.tap) == CALLS
        for call in world.tap:
            call.answer(b"a")
        world.settle()


def test_a_connection_that_ends_meanwhile_is_looked_at_no_more() -> None:
    with World() as world:
        world.relay.timer = ticking()
        burst(world.client)
        transport = world.transport(world.client)
        transport.feed(world.client.take())
        world.lose(world.client)
        assert world.front.connections == 0
        assert len(world.tap) < CALLS


def test_what_is_read_in_one_turn_of_the_loop_is_one_turn() -> None:
    """A socket is read many times before any other is."""
    with World() as world:
        world.relay.timer = lambda: now
        now = 1.0
        transport = world.transport(world.client)
        for expected in (False, True):
            burst(world.client) if expected else world.client.call(b"/t.S/Unary").message(b"q", end=True)
            transport.feed(world.client.take())
            assert world.wire(world.client).connection.behind is expected
            now += 0.003
        world.settle()
        assert len(world.tap) == CALLS + 1
        for call in world.tap:
            call.answer(b"a")
        world.settle()


def test_however_many_are_behind_others_wait_for_few() -> None:
    loop: Any = HandTurned()
    now, done = 0.0, list[str]()
    flusher = Flusher(loop, lambda: now)

    def work(name: str, again: int) -> None:
        nonlocal now
        now += 0.0015
        done.append(name)
        if again:
            flusher.in_turn(partial(work, name, again - 1))

    for name in "abcd":
        flusher.in_turn(partial(work, name, 1))
    loop.call_soon(done.append, "another")
    loop.turn()
    assert "".join(done) == "abanothercdabcd"


def test_a_turn_that_fails_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It would be read from no more, for ever."""
    with World() as world:
        world.relay.timer = ticking()
        other = world.connect()
        world.settle()
        burst(world.client)
        transport = world.transport(world.client)
        transport.feed(world.client.take())
        assert not transport.reading
        clock = world.relay.clock

        def fails() -> float:
            world.relay.clock = clock
            raise ValueError("no")

        world.relay.clock = fails
        world.settle()
        assert world.client.gone
        assert [record.message for record in caplog.records] == ["relay_defect"]
        assert world.front.connections == 1
        call = other.call(b"/t.S/Unary")
        call.message(b"other", end=True)
        world.settle()
        world.tap[-1].answer(b"a")
        world.settle()
        assert call.status == 0


def test_what_was_put_off_and_fails_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    with World() as world:
        other = world.connect()
        world.settle()
        wire, done = world.wire(world.client), list[int]()

        def fails() -> None:
            raise ValueError("no")

        wire.later(fails)
        wire.later(lambda: done.append(1))
        world.settle()
        assert world.client.gone
        assert not other.gone
        assert done == [1]
        assert [record.message for record in caplog.records] == ["relay_defect"]


def test_whoever_is_parted_with_meanwhile_is_heard_to_the_end() -> None:
    with World() as world:
        world.relay.timer = ticking()
        burst(world.client)
        transport = world.transport(world.client)
        transport.feed(world.client.take())
        assert not transport.reading
        world.wire(world.client).stop()
        world.settle()
        assert transport.reading
        transport.eof()
        world.settle()
        assert world.front.connections == 0


@pytest.mark.parametrize("fault", [frames.ping(bytes(8), False) * 400, frames.window_update(0, 0)])
def test_a_fault_within_a_burst_ends_the_connection(fault: bytes) -> None:
    with World() as world:
        world.relay.timer = ticking()
        burst(world.client)
        world.client.raw(fault)
        client = world.client
        world.settle()
        assert client.gone
        assert client.goaways
        for call in world.tap:
            assert call.reset == 8


def wires() -> int:
    """Clients' connections that something still holds, without help from the cycle collector."""
    return sum(type(found) is FrontWire for found in gc.get_objects())


def test_a_connection_that_failed_leaves_nothing_for_the_collector() -> None:
    with World() as world:
        world.relay.timer = ticking()
        before = wires()
        client = world.connect()
        world.settle()
        client.raw(frames.ping(bytes(8), False) * 400)
        world.settle()
        assert client.gone
        world._ends = [(end, transport) for end, transport in world._ends if end is not client]
        assert wires() == before


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.lists(st.booleans(), max_size=50))
def test_turns_change_nothing_of_what_is_seen(sizes: list[int], lates: list[bool]) -> None:
    """However many frames are looked at at a time, the owners are told the same, in the same order."""
    octets = b"".join(
        headers(2 * at + 1) + b"".join(data(2 * at + 1, b"x" * 9) for _ in range(size)) + data(2 * at + 1, end=True)
        for at, size in enumerate(sizes)
    )
    whole, turned = ServerEnd(greedy=True), ServerEnd(greedy=True)
    whole.feed(octets)
    asked = iter(lates)
    turned.connection.receive(octets, 0.0, lambda: next(asked, False))
    turns = 1
    while turned.connection.behind:
        turned.connection.receive(b"", 0.0, lambda: next(asked, False))
        turns += 1
    assert turned.events == whole.events
    assert turns == 1 + sum(lates[: len(lates) - len(list(asked))])


BLOCK = encode((*REQUEST, (b"x", b"v" * 2000)))


@pytest.mark.parametrize(
    ("frames_of_one", "count", "least"),
    [
        (lambda _: data(1, bytes(16_384)), 10, 9),
        (lambda _: data(1, bytes(600)), 80, 4),
        (lambda number: data(number, bytes(20)), 80, 19),
        (lambda number: headers(number, block=BLOCK), 10, 9),
        (lambda number: headers(number, block=BLOCK[:9], flags=0) + continuation(number, BLOCK[9:]), 10, 9),
    ],
    ids=["long DATA", "short DATA", "short DATA of many", "HEADERS", "CONTINUATION"],
)
def test_the_clock_is_looked_at_as_often_as_there_is_much_to_look_at(
    frames_of_one: Callable[[int], bytes], count: int, least: int
) -> None:
    """Long DATA may hold many messages, and what came for each stream has its owner at work. A block is decoded."""
    end = ServerEnd(greedy=True)
    end.feed(headers(1))
    if frames_of_one(3) == data(3, bytes(20)):
        end.feed(*(headers(2 * at + 3) for at in range(count)))
    looks: list[int] = []

    def late() -> bool:
        looks.append(1)
        return False

    end.connection.receive(b"".join(frames_of_one(2 * at + 3) for at in range(count)), 0.0, late)
    assert len(looks) >= least
