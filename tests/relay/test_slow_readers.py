"""Who leaves answers unread holds window that all share: he yields before others have to wait for it."""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from interceptors.contract import Code
from interceptors.record import Record
from sidecar.relay.http2.limits import Limits
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from tests.relay.ends import Call, Client, Tapped
from tests.relay.world import World

MESSAGE = bytes(100_000)
WINDOW = 1 << 20


def narrow() -> UpstreamSettings:
    return UpstreamSettings((Target("192.0.2.9", 1),), limits=Limits(stream_window=256 << 10, connection_window=WINDOW))


def ask(client: Client, count: int) -> list[Call]:
    calls = [client.call(b"/t.S/Unary") for _ in range(count)]
    for call in calls:
        call.message(b"q", end=True)
    return calls


def answers_whole(call: Tapped) -> None:
    call.answer(MESSAGE)


def goes_on(call: Tapped) -> None:
    call.head()
    call.message(MESSAGE)


def deaf(world: World) -> Client:
    """A client that lets nothing be sent to it."""
    return world.connect({SettingCodes.INITIAL_WINDOW_SIZE: 0})


def test_answers_that_nobody_reads_do_not_keep_others_waiting() -> None:
    with World([Record()], upstream=narrow()) as world:
        world.answer = goes_on
        slow = ask(deaf(world), 11)  # which is more than the window
        world.settle()
        (honest,) = ask(world.client, 1)
        world.settle()
        assert honest.messages == []
        world.advance(1.0)
        assert honest.messages == [MESSAGE]
        assert {call.reset for call in slow} == {ErrorCodes.ENHANCE_YOUR_CALM}
        assert {tapped.reset for tapped in world.tap[:11]} == {ErrorCodes.CANCEL}
        world.tap[11].trailers((b"grpc-status", b"0"))
        world.settle()
        assert honest.status == Code.OK
    assert [event.status for event in world.recorder.events] == [Code.RESOURCE_EXHAUSTED] * 11 + [Code.OK]


def test_whoever_holds_less_keeps_his_calls() -> None:
    with World(upstream=narrow()) as world:
        world.answer = goes_on
        modest, greedy = ask(deaf(world), 1), ask(deaf(world), 9)
        world.advance(1.0)
        assert all(call.reset is not None for call in greedy)
        assert modest[0].reset is None
        modest[0].cancel()


def test_unread_answers_of_calls_long_over_are_bounded() -> None:
    """The model server is done with them, so that no window of its bounds them."""
    with World(settings=FrontSettings(buffered=5 * len(MESSAGE))) as world:
        world.answer = answers_whole
        few = ask(deaf(world), 4)
        world.advance(1.0)
        assert not any(call.reset for call in few)
        many = ask(deaf(world), 6)
        world.advance(1.0)
        assert all(call.reset == ErrorCodes.ENHANCE_YOUR_CALM for call in many)
        assert not any(call.reset for call in few)
        for call in few:
            call.cancel()


def test_many_who_do_not_read_yield_at_once() -> None:
    """Each within what one may leave, together far beyond it: memory is not to grow by what further ones leave."""
    with World(settings=FrontSettings(buffered=5 * len(MESSAGE))) as world:
        world.answer = answers_whole
        calls = [call for _ in range(8) for call in ask(deaf(world), 2)]
        world.settle()
        world.advance(0.6)  # one look
        assert sum(call.reset is None for call in calls) == 4
        for call in calls:
            if call.reset is None:
                call.cancel()
