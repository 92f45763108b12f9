"""Stopping: open calls end in peace, or are cut when the grace has passed; and other ends of connections."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

import pytest

from interceptors.contract import Code, Outcome
from sidecar.relay.meter import Unmetered
from sidecar.relay.settings import FrontSettings
from tests.interceptors.links import diary
from tests.relay.ends import Call, Client
from tests.relay.raw import RST_STREAM, WINDOW_UPDATE, frame
from tests.relay.world import PEER, World

GRACE: Final = 30.0
FAREWELL: Final = 5.0
LINGER: Final = 5.0
MOST: Final = (1 << 31) - 1
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 7, 8
WINDOW_UPDATE_OF_1: Final = frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")
PONG: Final = re.compile(rb"\0\0\x08\x06\x01\0\0\0\0.{8}", re.DOTALL)


class Unanswering(Client):
    """Answers no PING, and so never says that it has heard a farewell."""

    def take(self) -> bytes:
        return PONG.sub(b"", super().take())


def unanswering(idle_s: float = 3600.0) -> World:
    """A world with such a client."""
    world = World(settings=FrontSettings(idle_s=idle_s, keepalive_s=10_000), connect=False)
    world.client = Unanswering()
    world.attach(world.client)
    return world


def reset_idle(client: Client, number: int) -> None:
    client.raw(frame(RST_STREAM, 0, number, CANCEL.to_bytes(4, "big")))


def ping(world: World, end: bool = True) -> Call:
    call = world.call("bidi")
    call.message(b"ping", end=end)
    world.settle()
    return call


def test_open_calls_end_in_peace() -> None:
    with World() as world:
        call = ping(world, end=False)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(10)
        assert world.client.goaways == [(MOST, 0), (1, 0)]
        assert not drain.done()
        call.message(b"more", end=True)
        world.settle()
        world.tap[0].answer(b"pong")
        world.settle()
        assert (call.status, world.tap[0].messages) == (0, [b"ping", b"more"])
        world.settle()
        assert drain.result() is True
        assert world.client.gone


def test_what_outlasts_the_grace_is_cut() -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages)]) as world:
        call = ping(world)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(GRACE - 1)
        assert not drain.done()
        world.advance(1.5)
        assert drain.result() is False
        assert world.client.gone
        assert (call.status, call.message_text) == (Code.UNAVAILABLE, b"sidecar is stopping")
        assert world.tap[0].reset == 8
        assert [outcome.cause for _, outcome in pages] == ["sidecar.stopping"]


def test_a_call_that_crosses_the_first_goaway_is_served_and_a_later_one_refused() -> None:
    with World() as world:
        world.answer = lambda call: call.answer(b"pong")
        first = ping(world, end=False)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.loop.turn()
        crossing = world.call("bidi", end=True)  # sent before the GOAWAY arrives
        world.settle()
        assert crossing.status == 0
        first.half_close()
        world.settle()
        assert first.status == 0
        assert drain.result() is True


def test_idle_connections_close_at_once() -> None:
    with World() as world:
        others = [world.connect() for _ in range(3)]
        world.advance(FAREWELL)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.settle()
        assert all(end.gone for end in (world.client, *others))
        assert drain.result() is True


def test_a_call_behind_the_answer_to_the_first_ping_is_served() -> None:
    """As gRPC's C core writes: answers to PINGs first, then the heads of streams that were open before the GOAWAY."""
    with World() as world:
        world.answer = lambda call: call.answer(b"pong")
        first = ping(world)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.loop.turn()
        world.client.receive(world.transport(world.client).take())
        crossing = world.call("bidi", end=True)
        world.settle()
        assert world.client.goaways == [(MOST, 0), (crossing.id, 0)]
        assert (first.status, crossing.status) == (0, 0)
        assert drain.result() is True


@pytest.mark.parametrize("late", [False, True], ids=["connected before the drain", "connected while it goes on"])
def test_a_fresh_connection_is_told_to_go_at_its_first_call(late: bool) -> None:
    """A gRPC client makes it for a call that waits, and gives the call up where GOAWAY comes with our SETTINGS."""
    with World(connect=False) as world:
        world.answer = lambda call: call.answer(b"pong")
        waiting = world.connect()  # so that the drain goes on
        if not late:
            world.client = world.connect()
            world.settle()
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(FAREWELL / 2)
        if late:
            world.client = world.connect()
            world.settle()
        assert not world.client.goaways
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        assert call.status == 0
        assert world.client.goaways == [(MOST, 0), (call.id, 0)]
        assert world.client.gone
        assert not waiting.gone
        world.advance(FAREWELL)
        assert waiting.goaways == [(MOST, 0), (0, 0)]
        assert drain.result() is True


def test_a_client_that_does_not_answer_the_farewell_is_told_the_last_call_taken() -> None:
    with World() as world:
        call = ping(world)
        world.client.mute = True
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(FAREWELL + 0.1)
        assert world.client.goaways == [(MOST, 0), (call.id, 0)]
        assert not drain.done()
        world.tap[0].answer(b"pong")
        world.settle()
        assert call.status == 0
        world.advance(LINGER + 1)  # it does not close either
        assert drain.result() is True


def test_what_arrived_before_the_farewell_ended_is_heard_first() -> None:
    """A process that had no processor meanwhile finds its timer due and the socket readable at once."""
    with World() as world:
        world.answer = lambda call: call.answer(b"pong")
        assert ping(world).status == 0
        transport, soon = world.transport(world.client), world.loop.call_soon
        drain = world.loop.begin(world.front.drain(GRACE))
        call = world.call("bidi", end=True)
        unheard = world.client.take()
        world.client.mute = True
        until = world.loop.now + FAREWELL
        world.advance(FAREWELL - 0.01)
        while world.loop.step(until):
            continue
        soon(soon, soon, transport.feed, unheard)  # timers first, what they made ready next, and then the sockets
        world.loop.turn()
        world.client.mute = False
        world.settle()
        assert call.status == 0
        assert world.client.goaways == [(MOST, 0), (call.id, 0)]
        assert drain.result() is True


def test_a_connection_is_closed_by_its_client_first() -> None:
    """What the client says last would make a closed socket reset the connection, and the answer be lost with it."""
    with World() as world:
        call = ping(world)
        transport = world.transport(world.client)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.settle()
        world.client.mute = True
        world.tap[0].answer(b"pong")
        world.settle()
        assert call.status == 0
        assert (transport.ended, transport.closed) == (True, False)
        transport.feed(b"whatever it says is not heard any more")
        world.advance(LINGER - 1.5)
        assert not drain.done()
        world.advance(2)
        assert transport.closed
        assert drain.result() is True


def test_a_client_that_neither_ends_nor_answers() -> None:
    with World() as world:
        ping(world)
        world.client.mute = True
        drain = world.loop.begin(world.front.drain(5.0))
        world.advance(7)
        assert drain.result() is False
        assert world.tap[0].reset == 8


@pytest.mark.parametrize("after", [0.5, FAREWELL + 1], ids=["before the farewell is over", "after"])
def test_a_cut_ends_a_drain_also_where_a_client_stays(after: float) -> None:
    with World() as world:
        call = ping(world)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(after)
        world.client.mute = True
        world.front.cut()
        world.advance(0.5)
        assert (call.status, call.message_text) == (Code.UNAVAILABLE, b"sidecar is stopping")
        assert not drain.done()
        world.advance(1)
        assert drain.result() is False
        assert world.transport(world.client).closed


@pytest.mark.parametrize("grace", [0.0, 3.0, GRACE])
def test_connections_without_a_call_are_no_calls_that_were_cut(grace: float) -> None:
    """Neither one on which none has come, nor one whose client hears neither GOAWAY nor the end."""
    with World() as world:
        world.answer = lambda call: call.answer(b"pong")
        assert ping(world).status == 0
        world.client.mute = True
        for mute in (False, True):
            world.connect().mute = mute
        drain = world.loop.begin(world.front.drain(grace))
        world.advance(grace + 2)
        assert drain.result() is True
        assert world.transport(world.client).closed


def test_within_a_short_grace_a_fresh_connection_is_told_to_go() -> None:
    with World() as world:
        drain = world.loop.begin(world.front.drain(3.0))
        world.advance(1.4)
        assert not world.client.goaways
        world.advance(0.2)
        assert world.client.goaways == [(MOST, 0), (0, 0)]
        assert world.client.gone
        assert drain.result() is True


def test_an_answer_that_has_not_left_is_cut() -> None:
    with World() as world:
        ping(world)
        transport = world.transport(world.client)
        drain = world.loop.begin(world.front.drain(GRACE))
        world.advance(GRACE - 1)
        transport.stuck = True
        world.tap[0].answer(b"pong")
        world.advance(3)
        assert drain.result() is False
        assert transport.closed


def test_no_grace_at_all() -> None:
    with World() as world:
        ping(world)
        drain = world.loop.begin(world.front.drain(0.0))
        world.advance(2)
        assert drain.result() is False


def test_the_pool_says_goodbye() -> None:
    with World() as world:
        stop = world.loop.begin(world.pool.stop())
        world.settle()
        assert stop.done()
        assert world.server.goaways == [(0, 0)]
        assert world.server.gone
        assert len(world.servers) == 1


# --- the ends of connections ---------------------------------------------------------------------------------------


def test_an_idle_connection_is_drained() -> None:
    with World(settings=FrontSettings(idle_s=100)) as world:
        world.answer = lambda call: call.answer(b"pong")
        assert ping(world).status == 0
        world.advance(300)
        assert world.client.gone


def test_an_idle_connection_whose_client_does_not_answer() -> None:
    with unanswering(idle_s=100) as world:
        world.advance(101)
        assert world.client.goaways == [(MOST, NO_ERROR)]
        assert not world.client.gone
        world.advance(FAREWELL + 1)
        assert world.client.goaways == [(MOST, NO_ERROR), (0, NO_ERROR)]
        assert world.client.gone


def test_a_client_that_is_sent_away_and_does_not_answer_goes_with_its_open_calls() -> None:
    with unanswering() as world:
        calls = [ping(world)]
        reset_idle(world.client, 99)
        world.advance(FAREWELL - 1)
        calls.append(ping(world))
        assert world.client.goaways == [(MOST, PROTOCOL_ERROR)]
        world.advance(2)
        assert world.client.goaways == [(MOST, PROTOCOL_ERROR), (calls[1].id, PROTOCOL_ERROR)]
        late = ping(world)
        assert late.reset == REFUSED_STREAM
        world.advance(60)
        assert not world.client.gone
        assert len(world.tap) == 2
        for tapped in world.tap:
            tapped.answer(b"pong")
        world.settle()
        assert [(call.status, call.messages) for call in calls] == [(0, [b"pong"])] * 2
        assert world.client.gone


def test_a_client_that_is_sent_away_is_counted_and_recorded_once() -> None:
    class Counted(Unmetered):
        def connection_failed(self, reason: str) -> None:
            reasons.append(reason)

    reasons: list[str] = []
    with World() as world:
        world.relay.meter = Counted()
        ping(world).cancel()
        reset_idle(world.client, 99)
        reset_idle(world.client, 101)
        world.settle()
        assert reasons == ["http2.protocol_error"]
        (event,) = world.recorder.events
        assert (event.kind, event.reason) == ("connection.refused", "http2.protocol_error")


@pytest.mark.parametrize("why", ["sent away", "idle"])
def test_a_client_that_is_to_go_and_never_reads_its_last_answer_is_cut(why: str) -> None:
    """Its calls are over, and what it goes on saying costs no answer: nothing else would end it."""
    with unanswering(idle_s=100) as world:
        call, transport = ping(world), world.transport(world.client)
        transport.stuck = True
        world.tap[0].answer(b"pong")
        world.settle()
        transport.pause()
        if why == "sent away":
            reset_idle(world.client, 99)
        else:
            world.advance(100)
        for _ in range(15):
            world.client.raw(WINDOW_UPDATE_OF_1)
            world.advance(1)
        assert call.status is None
        assert transport.closed


def test_a_client_that_is_sent_away_and_falls_silent_is_cut() -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages)], settings=FrontSettings(keepalive_s=60)) as world:
        ping(world)
        reset_idle(world.client, 99)
        world.settle()
        world.client.mute = True
        world.advance(79)
        assert not pages
        world.advance(3)
        assert pages[0][1].cancelled
        assert world.client.gone


def test_a_client_that_falls_silent_is_cut_and_its_calls_cancelled() -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages)], settings=FrontSettings(keepalive_s=60)) as world:
        ping(world)
        world.client.mute = True
        world.advance(79)
        assert not pages
        world.advance(3)
        assert pages[0][1].cancelled
        assert world.tap[0].reset == 8


def test_a_certificate_that_expires_ends_its_connection_with_its_calls() -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages)]) as world:
        call = ping(world)
        wire = world.wire(world.client)
        certificate = dataclasses.replace(PEER, not_after=world.relay.wall() + 100)
        wire._end_with(certificate)
        world.advance(99)
        assert not pages
        world.advance(2)
        assert pages[0][1].cancelled
        assert world.client.gone
        assert call.status is None


@pytest.mark.parametrize("size", [1, 3])
def test_connections_from_one_source(size: int) -> None:
    with World(settings=FrontSettings(connections_per_source=size)) as world:
        for _ in range(size - 1):
            world.connect()
        world.settle()
        refused: Any = world.connect()
        world.settle()
        assert refused.gone
        assert not world.client.gone
        assert [event.reason for event in world.recorder.events] == ["front.too_many_connections"]
        world.lose(world.client)
        world.client = world.connect()
        world.settle()
        assert not world.client.gone


def test_who_says_nothing_at_all() -> None:
    with World(settings=FrontSettings(handshake_s=5, header_s=5)) as world:
        silent = world.connect()
        silent.mute = True
        world.advance(9)
        assert not silent.gone
        world.advance(3)
        assert silent.gone
        assert [event.reason for event in world.recorder.events] == ["front.preface_timeout"]
