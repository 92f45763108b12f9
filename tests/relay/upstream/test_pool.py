"""The model server's side: tried again where that is safe, queued, lost, absent, busy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pytest
from h2.settings import SettingCodes

from interceptors.contract import PASS, Code
from sidecar.relay.settings import Target, UpstreamSettings
from sidecar.relay.sides import REPLAY
from tests.interceptors.links import asks, gives, scripted
from tests.relay.ends import REFUSED_STREAM, Call, Tapped
from tests.relay.world import World

LOOKS: Final[dict[str, Any]] = {
    "passing": (),
    "inspecting": (scripted("look", on_request=gives(PASS), on_response=gives(PASS)),),
    "asks": (scripted("ask", on_request=asks(PASS)),),
}
ONE_STREAM: Final = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}


@pytest.fixture(params=LOOKS)
def links(request: pytest.FixtureRequest) -> Any:
    return LOOKS[request.param]


def pong(call: Tapped) -> None:
    call.answer(b"pong")


def ping(world: World, shape: str = "unary", *raws: bytes) -> Call:
    call = world.call(shape)
    call.message(*(raws or (b"ping",)), end=True)
    world.settle()
    return call


# --- tried again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refused", "goaway"])
@pytest.mark.parametrize("size", [4, 20_000, REPLAY - 5])
def test_a_call_that_was_not_processed_is_sent_again_exactly(links: Any, how: str, size: int) -> None:
    with World(links) as world:
        call = ping(world, "bidi", bytes(size))
        (first,) = world.tap
        world.answer = pong
        if how == "refused":
            first.cancel(REFUSED_STREAM)
        else:
            world.server.goaway(0)
        world.advance(1)
        assert (call.status, call.messages) == (0, [b"pong"])
        second = world.tap[1]
        assert (second.headers, second.messages, second.kinds) == (first.headers, [bytes(size)], first.kinds)
        assert len(world.servers) == (1 if how == "refused" else 2)


def test_trying_again_has_an_end(links: Any) -> None:
    with World(links) as world:
        world.answer = lambda call: call.cancel(REFUSED_STREAM)
        call = ping(world)
        assert call.status == Code.UNAVAILABLE
        assert len(world.tap) == 3


@pytest.mark.parametrize("cause", ["too long", "head", "informational"])
def test_what_cannot_be_sent_again_exactly_is_not(links: Any, cause: str) -> None:
    with World(links) as world:
        call = world.call("bidi")
        call.message(bytes(REPLAY) if cause == "too long" else b"ping")
        world.settle()
        (tapped,) = world.tap
        if cause == "head":
            tapped.head()
        tapped.cancel(REFUSED_STREAM)
        world.settle()
        if cause == "informational":
            assert len(world.tap) == 2
            call.cancel()
        else:
            assert call.status == Code.UNAVAILABLE
            assert len(world.tap) == 1


def test_a_stream_goes_on_where_it_was_refused(links: Any) -> None:
    """What comes after the refusal stands behind what is sent again."""
    with World(links) as world:
        call = world.call("bidi")
        call.message(b"one", b"two")
        world.settle()
        world.tap[0].cancel(REFUSED_STREAM)
        call.message(b"three")
        world.settle()
        call.message(b"four", end=True)
        world.settle()
        assert world.tap[1].messages == [b"one", b"two", b"three", b"four"]
        world.tap[1].answer(b"pong")
        world.settle()
        assert (call.status, call.messages) == (0, [b"pong"])


def test_window_is_returned_once_for_what_is_sent_twice() -> None:
    """The client sees its window again exactly, however often the bytes were sent."""
    with World() as world:
        call = world.call("bidi")
        start = world.client.connection.outbound_flow_control_window
        for _ in range(2):
            call.message(bytes(20_000))
            world.settle()
            world.tap[-1].cancel(REFUSED_STREAM)
            world.settle()
        assert len(world.tap) == 3
        for _ in range(2_000):
            call.message(bytes(20_000))
            world.settle()
        assert call.unsent == 0
        held = next(iter(world.wire(world.client).connection.streams.values())).held
        assert held == 0
        assert abs(start - world.client.connection.outbound_flow_control_window) <= (16 << 20) // 2
        call.cancel()


def test_goaway_lets_open_calls_end_and_new_ones_go_elsewhere() -> None:
    with World() as world:
        old = world.call("bidi")
        old.message(b"one")
        world.settle()
        first = world.server
        first.goaway(1)
        world.advance(0.1)
        world.answer = pong
        assert ping(world).status == 0
        assert len(world.servers) == 2
        assert len(world.servers[1].calls) == 1
        old.message(b"two", end=True)
        world.settle()
        assert old.status == 0
        assert first.calls[0].messages == [b"one", b"two"]
        assert world.transport(first).closed  # its last call has ended


def test_renewed_connections_take_new_calls_and_old_ones_end_where_they_are() -> None:
    with World() as world:
        old = world.call("bidi")
        old.message(b"one")
        world.settle()
        first = world.server
        world.pool.renew(None)
        world.advance(0.1)
        world.answer = pong
        assert ping(world).status == 0
        assert [len(server.calls) for server in world.servers] == [1, 1]
        old.message(b"two", end=True)
        world.settle()
        assert old.status == 0
        assert first.calls[0].messages == [b"one", b"two"]
        assert world.transport(first).closed  # its last call has ended


# --- lost, absent, back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["nothing", "head", "message"])
def test_a_connection_lost_in_a_call(links: Any, after: str) -> None:
    """UNAVAILABLE, once, and never tried again: the model server may have acted on it."""
    with World(links) as world:
        call = ping(world, "bidi")
        (tapped,) = world.tap
        if after != "nothing":
            tapped.head()
        if after == "message":
            tapped.message(b"one")
        world.settle()
        world.lose(world.server)
        assert call.status == Code.UNAVAILABLE
        assert len(call.data) == (8 if after == "message" else 0)
        world.answer = pong
        world.advance(1)
        assert len(world.tap) == 1
        assert ping(world).status == 0


def test_no_model_server_fails_fast_and_comes_back(links: Any) -> None:
    with World(links) as world:
        world.listening = False
        world.lose(world.server)
        world.advance(0.1)
        for _ in range(3):
            call = ping(world)
            assert call.status == Code.UNAVAILABLE
            assert call.message_text == b"model server is unavailable"  # where it is, is not the caller's to know
        world.listening, world.answer = True, pong
        world.advance(10)
        assert ping(world).status == 0


def test_calls_wait_while_a_connection_is_made(links: Any) -> None:
    with World(links) as world:
        world.lose(world.server)
        call = ping(world)
        assert call.status is None
        world.answer = pong
        world.advance(0.1)
        assert call.status == 0


def test_connections_that_do_not_last_are_made_ever_less_often() -> None:
    with World(upstream=UpstreamSettings((Target("192.0.2.9", 1),), backoff_most_s=5)) as world:
        made: list[float] = []
        start = world.loop.now
        while world.loop.now < start + 20:
            while not world.pool.up:
                world.advance(0.05)
            made.append(world.loop.now - start)
            world.lose(world.server)
        assert len(made) < 12
        world.advance(10)
        assert world.pool.up
        world.lose(world.server)
        assert world.pool.up  # the last one lasted: it is replaced at once


def test_the_backoff_grows_and_is_bounded() -> None:
    with World(upstream=UpstreamSettings((Target("192.0.2.9", 1),), backoff_first_s=1, backoff_most_s=4)) as world:
        attempts: list[float] = []
        connect = world.loop.connector

        def refuse(protocol: Any) -> Any:
            attempts.append(world.loop.now)
            raise ConnectionRefusedError(111, "Connection refused")

        world.loop.connector = refuse
        world.advance(5)
        world.lose(world.server)
        start = world.loop.now
        world.advance(20)
        # The jitter is fixed at one half: three quarters of 1, 2, 4, 4, … s.
        assert [round(at - start, 2) for at in attempts[:6]] == [0, 0.75, 2.25, 5.25, 8.25, 11.25]
        world.loop.connector = connect
        world.advance(5)
        assert world.pool.up


def test_a_server_that_never_says_settings() -> None:
    with World() as world:
        connect = world.loop.connector
        assert connect is not None

        def silent(protocol: Any) -> Any:
            transport = connect(protocol)
            world.server.mute = True
            return transport

        world.loop.connector = silent
        world.lose(world.server)
        world.advance(0.1)
        call = ping(world)
        assert call.status is None
        world.advance(4)
        assert call.status is None
        world.advance(1)
        assert call.status == Code.UNAVAILABLE
        assert call.message_text == b"model server is unavailable"
        assert "settings" in (world.pool.failure or "")
        world.loop.connector = connect
        world.advance(10)
        world.answer = pong
        assert ping(world).status == 0


@pytest.mark.parametrize("reads", [True, False])
def test_a_server_that_breaks_the_protocol(reads: bool) -> None:
    """Its calls end at once, also where it does not read what we have to say about it."""
    with World() as world:
        call = ping(world)
        server = world.server
        if not reads:
            world.transport(server).stuck = True
        server.raw(b"\0\0\1\6\0\0\0\0\0x")  # a PING of one byte
        world.settle()
        assert call.status == Code.UNAVAILABLE
        world.answer = pong
        world.advance(1)
        assert len(world.servers) == 2
        assert ping(world).status == 0


def test_a_connection_that_falls_silent_during_a_call_is_given_up() -> None:
    with World() as world:
        call = ping(world)
        world.server.mute = True
        world.advance(14)
        assert call.status is None
        world.advance(2)
        assert call.status == Code.UNAVAILABLE
        assert call.message_text == b"model server: no answer to a PING within 5 s"
        world.answer = pong
        world.advance(1)
        assert ping(world).status == 0


def test_pings_are_rarer_than_grpc_servers_put_up_with() -> None:
    """grpc/doc/keepalive.md: none without a call; in a silence two, then not more than one in five minutes."""
    with World() as world:
        world.advance(3000)  # not so long that the client, idle, is sent away
        assert world.server.pings == []
        call = ping(world, "bidi")
        for _ in range(2):
            world.advance(3600)
            first, second, *later = world.server.pings
            assert second - first > 10
            assert len(later) > 10
            assert all(after - before > 300 for before, after in pairwise([second, *later]))
            world.server.pings.clear()
            if not world.tap[0].headed:
                world.tap[0].head()
            world.tap[0].message(b"not silent")
        call.cancel()


# --- busy ----------------------------------------------------------------------------------------------------------


def test_calls_wait_for_a_free_stream_in_order(links: Any) -> None:
    with World(links, server=ONE_STREAM) as world:
        calls = [ping(world, "unary", b"%d" % number) for number in range(4)]
        for number, call in enumerate(calls):
            assert len(world.tap) == number + 1
            assert world.tap[number].messages == [b"%d" % number]
            assert call.status is None
            world.tap[number].answer(b"pong")
            world.settle()
            assert call.status == 0


def test_the_queue_has_an_end_in_length_and_in_time(links: Any) -> None:
    settings = UpstreamSettings((Target("192.0.2.9", 1),), queue=2, queue_s=3)
    with World(links, server=ONE_STREAM, upstream=settings) as world:
        held, waits, also, refused = (ping(world) for _ in range(4))
        assert refused.status == Code.UNAVAILABLE
        assert b"busy" in refused.message_text
        waits.cancel()
        world.advance(2)
        late = ping(world)
        assert (also.status, late.status) == (None, None)
        world.advance(2)
        assert (also.status, late.status) == (Code.UNAVAILABLE, None)
        world.answer = pong
        world.tap[0].answer(b"pong")
        world.settle()
        assert (held.status, late.status) == (0, 0)
        assert len(world.tap) == 2


def test_a_call_that_is_cancelled_while_it_waits_never_gets_there(links: Any) -> None:
    with World(links, server=ONE_STREAM) as world:
        held, waits = ping(world), ping(world)
        waits.cancel()
        world.settle()
        assert not world.pool._waiting
        world.answer = pong
        world.tap[0].answer(b"pong")
        world.settle()
        assert (held.status, len(world.tap)) == (0, 1)


def test_a_limit_that_is_raised_lets_who_waits_go(links: Any) -> None:
    with World(links, server=ONE_STREAM) as world:
        world.answer = pong
        held = world.call("bidi")
        world.settle()
        waits = ping(world)
        assert waits.status is None
        world.server.connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        world.settle()
        assert waits.status == 0
        held.cancel()


def test_a_server_that_allows_no_stream_at_all() -> None:
    with World(server={SettingCodes.MAX_CONCURRENT_STREAMS: 0}) as world:
        call = ping(world)
        world.advance(6)
        assert call.status == Code.UNAVAILABLE
        assert not world.tap


@pytest.mark.parametrize(("times", "status"), [(1, 0), (20, 0), (100, Code.UNAVAILABLE)])
def test_a_server_that_goes_away_as_it_comes(times: int, status: int) -> None:
    """Settings and GOAWAY in one breath: the connection is of no use, another is made, and no call is lost."""
    with World() as world:
        connect = world.loop.connector
        assert connect is not None
        count = 0

        def leaving(protocol: Any) -> Any:
            nonlocal count
            count += 1
            transport = connect(protocol)
            if count <= times:
                world.server.goaway(0)
            return transport

        world.loop.connector = leaving
        world.lose(world.server)
        world.answer = pong
        call = ping(world)
        world.advance(6)
        assert call.status == status
        world.advance(200)
        assert ping(world).status == 0


def test_several_connections_share_the_calls() -> None:
    with World(upstream=UpstreamSettings((Target("192.0.2.9", 1),), connections=3)) as world:
        calls = [world.call("bidi") for _ in range(6)]
        world.settle()
        assert [len(server.calls) for server in world.servers] == [2, 2, 2]
        for call in calls:
            call.cancel()


def test_one_of_several_connections_is_tried_again_ever_less_often() -> None:
    """Also while the others serve."""
    with World(upstream=UpstreamSettings((Target("192.0.2.9", 1),), connections=2)) as world:
        world.refusing = {"192.0.2.9:1"}
        world.lose(world.servers[0])
        world.dialled.clear()
        world.advance(20)
        assert 8 < len(world.dialled) < 20
        world.answer = pong
        assert ping(world).status == 0
