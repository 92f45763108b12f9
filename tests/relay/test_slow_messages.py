"""A request message that is due and hardly comes ends its call; what merely is quiet, or may not be sent, does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from h2.settings import SettingCodes

from interceptors.contract import PASS, Code, Interceptor
from interceptors.record import Record
from sidecar.relay.http2.limits import Limits
from sidecar.relay.settings import FrontSettings
from tests.interceptors.links import asks, scripted
from tests.relay.ends import Call
from tests.relay.world import World

WITHIN = 5.0
SETTINGS = FrontSettings(message_s=WITHIN)
PREFIX = (100_000).to_bytes(5, "big")  # of a message that is not compressed


READS = scripted(on_request=lambda call, message: PASS)


def slow(call: Call) -> None:
    assert (call.status, call.message_text) == (Code.DEADLINE_EXCEEDED, b"request message did not arrive in time")
    assert call.reset == 0  # NO_ERROR: nobody wants the rest


def test_a_unary_call_whose_message_does_not_come() -> None:
    with World([Record()], settings=SETTINGS) as world:
        nothing, some = world.call(), world.call()
        some.send(PREFIX + b"x" * 10)
        world.advance(WITHIN - 1)
        assert nothing.alive
        assert some.alive
        world.advance(2)
        slow(nothing)
        slow(some)
        assert world.tap == []
    assert [event.reason for event in world.recorder.events] == ["message.slow"] * 2


@pytest.mark.parametrize("links", [(), (READS,)], ids=["passing", "inspecting"])
def test_a_message_of_a_stream_that_does_not_become_whole(links: Sequence[Interceptor]) -> None:
    with World(links, settings=SETTINGS) as world:
        call = world.call("bidi")
        call.message(b"whole")
        world.advance(3 * WITHIN)
        assert call.alive  # between messages nothing is due
        call.send(PREFIX + b"x" * 10)
        world.advance(WITHIN - 1)
        assert call.alive
        world.advance(2)
        slow(call)
        assert world.tap[0].reset == 8
        assert not world.tap[0].ended


def test_whoever_sends_on_may_take_longer() -> None:
    with World((READS,), settings=SETTINGS) as world:
        call = world.call()
        call.send((8_000).to_bytes(5, "big"))
        for _ in range(8):
            world.advance(2)
            call.send(bytes(1_000))
        call.send(b"", end=True)
        world.settle()
        world.tap[0].answer(b"a")
        world.settle()
        assert call.status == Code.OK


def test_a_trickle_is_not_sending_on() -> None:
    with World(settings=SETTINGS) as world:
        call = world.call()
        call.send(PREFIX)
        for _ in range(8):
            world.advance(1)
            if call.speaks:
                call.send(b"x" * 40)
        slow(call)


def test_a_link_that_is_full_makes_no_call_late() -> None:
    """What comes whole takes its time: here a frame of 16 KB a little less often than calls may be silent."""
    with World(settings=SETTINGS) as world:
        waiting = [world.call() for _ in range(6)]
        busy = world.call()
        busy.send((150_000).to_bytes(5, "big"))
        for _ in range(10):
            busy.send(bytes(15_000))
            world.advance(WITHIN - 1)
            assert all(call.alive for call in [busy, *waiting])
        for call in waiting:
            call.message(b"q", end=True)
        busy.send(b"", end=True)
        world.settle()
        for tapped in world.tap:
            tapped.answer(b"a")
        world.settle()
        assert [call.status for call in [busy, *waiting]] == [Code.OK] * 7
    assert not world.recorder.events


def test_a_link_that_brings_too_little_for_all_that_owe() -> None:
    with World(settings=SETTINGS) as world:
        silent = [world.call() for _ in range(9)]
        talks = world.call()
        talks.send(PREFIX)
        for _ in range(3):
            talks.send(bytes(2_500))  # of 5,000 bytes a second
            world.advance(1)
        assert all(call.alive for call in silent)
        for _ in range(10):
            talks.send(bytes(500))
            world.advance(1)
        for call in silent:
            slow(call)
        assert talks.alive
        talks.cancel()
        world.settle()


def test_what_a_connection_once_brought_is_no_credit() -> None:
    with World(settings=SETTINGS) as world:
        silent, whole = world.call(), world.call()
        whole.message(bytes(500_000), end=True)
        world.settle()
        world.tap[0].answer(b"a")
        world.advance(WITHIN + 2)
        assert whole.status == Code.OK
        slow(silent)


def test_each_message_has_its_own_time() -> None:
    with World(settings=SETTINGS) as world:
        call = world.call("client")
        for _ in range(10):
            call.send((10).to_bytes(5, "big"))
            world.advance(WITHIN - 1)
            call.send(bytes(10))
            world.advance(1)
        call.send(b"", end=True)
        world.settle()
        world.tap[0].answer(b"a")
        world.settle()
        assert call.status == Code.OK


def test_without_window_it_is_not_for_the_caller_to_send() -> None:
    narrow = FrontSettings(message_s=WITHIN, limits=Limits(stream_window=65_535))
    with World(settings=narrow, server={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as world:
        call = world.call("client")
        call.message(bytes(100_000), end=True)
        world.advance(4 * WITHIN)
        assert call.unsent
        assert call.alive
        call.cancel()
        world.settle()


def test_while_a_link_asks_nothing_is_due() -> None:
    with World([scripted(on_start=asks(PASS))], settings=SETTINGS) as world:
        world.answers.holds = True
        call = world.call()
        world.advance(3 * WITHIN)
        assert call.alive
        world.answers.settle()
        call.message(b"q", end=True)
        world.settle()
        world.tap[0].answer(b"a")
        world.settle()
        assert call.status == Code.OK
