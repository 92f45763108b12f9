"""Who leaves answers unread holds window that all share: he yields before others have to wait for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from interceptors.contract import Code
from interceptors.record import Record
from sidecar.relay.http2.limits import Limits
from sidecar.relay.meter import Unmetered
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from tests.relay.ends import Call, Client, Tapped
from tests.relay.world import World

MESSAGE = bytes(100_000)
SHORT = bytes(50_000)  # which comes whole, read or not
WINDOW = 1 << 20
NARROW = 65_535  # bytes that an answer may come ahead of its reader until it has shown that it comes fast
READ_S = 5.0
IMPATIENT = FrontSettings(read_s=READ_S)


def narrow() -> UpstreamSettings:
    return UpstreamSettings((Target("192.0.2.9", 1),), limits=Limits(stream_window=256 << 10, connection_window=WINDOW))


def ask(client: Client, count: int) -> list[Call]:
    calls = [client.call(b"/t.S/Unary") for _ in range(count)]
    for call in calls:
        call.message(b"q", end=True)
    return calls


def answers_whole(call: Tapped) -> None:
    call.answer(SHORT)


def goes_on(call: Tapped) -> None:
    call.head()
    call.message(MESSAGE)


def deaf(world: World) -> Client:
    """A client that lets nothing be sent to it."""
    return world.connect({SettingCodes.INITIAL_WINDOW_SIZE: 0})


def test_answers_that_nobody_reads_do_not_keep_others_waiting() -> None:
    with World([Record()], upstream=narrow()) as world:
        world.answer = goes_on
        slow = ask(deaf(world), 17)  # which is more than the window
        world.settle()
        (honest,) = ask(world.client, 1)
        world.settle()
        assert honest.messages == []
        world.advance(1.0)
        assert honest.messages == [MESSAGE]
        assert {call.reset for call in slow} == {ErrorCodes.ENHANCE_YOUR_CALM}
        assert {tapped.reset for tapped in world.tap[:17]} == {ErrorCodes.CANCEL}
        world.tap[17].trailers((b"grpc-status", b"0"))
        world.settle()
        assert honest.status == Code.OK
    assert [event.status for event in world.recorder.events] == [Code.RESOURCE_EXHAUSTED] * 17 + [Code.OK]


def test_whoever_holds_less_keeps_his_calls() -> None:
    with World(upstream=narrow()) as world:
        world.answer = goes_on
        modest, greedy = ask(deaf(world), 1), ask(deaf(world), 15)
        world.advance(1.0)
        assert all(call.reset is not None for call in greedy)
        assert modest[0].reset is None
        modest[0].cancel()


def test_unread_answers_of_calls_long_over_are_bounded() -> None:
    """The model server is done with them, so that no window of its bounds them."""
    with World(settings=FrontSettings(buffered=5 * len(SHORT))) as world:
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
    with World(settings=FrontSettings(buffered=5 * len(SHORT))) as world:
        world.answer = answers_whole
        calls = [call for _ in range(8) for call in ask(deaf(world), 2)]
        world.settle()
        world.advance(0.6)  # one look
        assert sum(call.reset is None for call in calls) == 4
        for call in calls:
            if call.reset is None:
                call.cancel()


def test_of_what_nobody_reads_little_comes() -> None:
    with World() as world:
        world.answer = goes_on
        calls = ask(deaf(world), 20)
        world.settle()
        assert {len(MESSAGE) + 5 - tapped.unsent for tapped in world.tap} == {NARROW}
        for call in calls:
            call.cancel()


def test_who_reads_gets_as_much_as_before() -> None:
    """At the first half of the narrow window all of it is there: one more round trip for an answer, and no further."""
    with World() as world:
        (call,) = ask(world.client, 1)
        world.settle()
        (tapped,) = world.tap
        tapped.head()
        tapped.send(bytes((0, 0, 0x7F, 0, 0)) + bytes(NARROW - 5))
        world.settle()
        assert world.server.connection.local_flow_control_window(tapped.id) > (1 << 20) - NARROW
        call.cancel()


def test_who_read_and_stopped_holds_a_share() -> None:
    """Many who let half of a window come, and then no more: a fourth of the connection's window bounds what follows."""
    limits = Limits(stream_window=1 << 20, connection_window=8 << 20)
    with World(upstream=UpstreamSettings((Target("192.0.2.9", 1),), limits=limits)) as world:
        client = world.connect({SettingCodes.INITIAL_WINDOW_SIZE: 33_000})
        client.reads = False
        calls = [client.call(b"/t.S/Server") for _ in range(50)]
        for call in calls:
            call.message(b"q", end=True)
        world.settle()
        for tapped in world.tap:
            tapped.head()
            tapped.send(bytes((0, 0, 0x7F, 0, 0)) + bytes(1 << 20))
            world.settle()
        came = sum((1 << 20) + 5 - tapped.unsent for tapped in world.tap)
        assert came <= 50 * (33_000 + NARROW) + (2 << 20)
        for call in calls:
            call.cancel()


class Counted(Unmetered):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def abused(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize("answer", [goes_on, answers_whole], ids=["goes on", "is whole"])
def test_an_answer_of_which_nothing_is_read_for_long_is_dropped(answer: Callable[[Tapped], None]) -> None:
    with World([Record()], settings=IMPATIENT) as world:
        world.answer = answer
        world.relay.meter = counted = Counted()
        calls = ask(deaf(world), 3)
        world.advance(READ_S)
        assert not any(call.reset for call in calls)
        world.advance(1.5)
        assert {call.reset for call in calls} == {ErrorCodes.ENHANCE_YOUR_CALM}
        assert counted.reasons == ["client.slow"] * 3
    statuses = {event.status for event in world.recorder.events}
    assert statuses == {Code.OK if answer is answers_whole else Code.RESOURCE_EXHAUSTED}


def test_an_answer_of_which_something_is_read_now_and_then_may_take_long() -> None:
    with World(settings=IMPATIENT) as world:
        world.answer = answers_whole
        client = deaf(world)
        client.reads = False
        (call,) = ask(client, 1)
        for _ in range(10):
            world.advance(READ_S - 1)
            client.connection.increment_flow_control_window(1, call.id)
        world.settle()
        assert len(call.data) == 10
        client.connection.increment_flow_control_window(len(SHORT), call.id)
        world.settle()
        assert call.messages == [SHORT]


def test_a_stream_of_which_everything_is_read_may_rest() -> None:
    with World(settings=IMPATIENT) as world:
        world.answer = goes_on
        (call,) = ask(world.client, 1)
        world.advance(10 * READ_S)
        assert call.messages == [MESSAGE]
        assert call.alive
        call.cancel()


def stick(world: World, client: Client, size: int) -> None:
    """The client's socket takes no more of what is written; `size` bytes of it are left."""
    transport = world.transport(client)
    transport.stuck = True
    transport.wrote += bytes(size)


def pause(world: World, client: Client, size: int) -> None:
    """The same, and that is more than may be left."""
    stick(world, client, size)
    world.transport(client).pause()


def test_a_client_whose_socket_takes_nothing_is_cut() -> None:
    with World(settings=IMPATIENT) as world:
        client = world.connect()
        world.settle()
        world.relay.meter = counted = Counted()
        world.answer = goes_on
        pause(world, client, 1000)
        ask(client, 2)
        world.advance(READ_S)
        assert not any(tapped.reset for tapped in world.tap)
        world.advance(1.5)
        assert [tapped.reset for tapped in world.tap] == [ErrorCodes.CANCEL] * 2
        assert counted.reasons == ["client.slow"] * 3  # two calls, and their connection
        assert world.transport(client).closed


def test_a_client_whose_socket_takes_nothing_is_cut_whatever_little_is_left() -> None:
    with World(settings=IMPATIENT) as world:
        client = world.connect()
        world.settle()
        stick(world, client, 1000)
        world.advance(READ_S)
        assert not world.transport(client).closed
        world.advance(1.5)
        assert world.transport(client).closed


def test_a_socket_that_takes_a_little_now_and_then_is_not_cut() -> None:
    with World(settings=IMPATIENT) as world:
        client = world.connect()
        world.settle()
        pause(world, client, 1000)
        for _ in range(5):
            world.advance(READ_S - 1)
            del world.transport(client).wrote[-1:]
        assert not world.transport(client).closed
        world.lose(client)


def test_calls_whose_client_has_a_slow_link_are_not_cut() -> None:
    """What waits behind a socket that takes a little now and then cannot have been read yet."""
    with World(settings=IMPATIENT) as world:
        client = world.connect()
        world.settle()
        world.answer = goes_on
        (call,) = ask(client, 1)
        pause(world, client, 1000)
        for _ in range(5):
            world.advance(READ_S - 1)
            del world.transport(client).wrote[-1:]
        assert world.tap[0].reset is None
        world.advance(READ_S + 1.5)
        assert world.tap[0].reset == ErrorCodes.CANCEL
        assert call.messages == []


def test_who_leaves_nothing_on_streams_is_not_cut_for_window_that_others_hold() -> None:
    with World(upstream=narrow()) as world:
        slow = world.connect()
        world.settle()
        pause(world, slow, 2 * WINDOW)
        world.advance(1.1)
        world.answer = goes_on
        greedy = ask(deaf(world), 17)
        world.advance(1.1)
        assert {call.reset for call in greedy} == {ErrorCodes.ENHANCE_YOUR_CALM}
        assert not world.transport(slow).closed
        world.lose(slow)


def test_what_sockets_do_not_take_counts_as_unread() -> None:
    """Nobody's calls wait any more: what is left can only be given up with its connection."""
    with World(settings=FrontSettings(buffered=5 * len(SHORT))) as world:
        clients = [world.connect() for _ in range(8)]
        world.settle()
        for number, client in enumerate(clients):
            pause(world, client, len(SHORT) + number)
        world.advance(1.1)
        assert [world.transport(client).closed for client in clients] == [False] * 4 + [True] * 4
        for client in clients[:4]:
            world.lose(client)
