"""Which calls are taken and which are refused, first as a table, then through a whole relay."""

from __future__ import annotations

import base64
import ssl
from dataclasses import replace

import pytest
from google.rpc import error_details_pb2, status_pb2
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import PASS, Code
from interceptors.record import Record
from sidecar.relay.admission import RESERVE, Admission
from sidecar.relay.front import FrontWire
from sidecar.relay.settings import FrontSettings
from sidecar.relay.tls_channel import TlsChannel
from tests.interceptors.links import Hold, appends, gives, scripted
from tests.relay.ends import Call, Client, pick
from tests.relay.hand_turned import Transport
from tests.relay.world import World

SMALL = FrontSettings(calls=3, buffered=4_000, memory=1_000)
HEALTH = b"/grpc.health.v1.Health/Check"


def admission(chance: float = 0.5) -> Admission:
    return Admission(SMALL, 0.0, lambda: chance)


def reason(of: Admission, reserved: bool = False, buffered: int = 0, held: int = 0) -> str:
    refused = of.refuse(reserved, buffered, held)
    return "" if refused is None else refused.deny.reason


@pytest.mark.parametrize(
    ("open_calls", "memory", "buffered", "held", "waiting", "expected"),
    [
        (2, 999, 2_999, 1, 9, ""),
        (3, 0, 0, 0, 0, "overload.calls"),
        (0, 1_000, 0, 0, 0, "overload.memory"),
        (0, 0, 3_000, 1, 0, "overload.buffered"),
        (0, 0, 3_000, 0, 0, ""),  # held by other connections
        (0, 0, 0, 0, 10, "overload.concurrency"),
    ],
)
def test_what_is_refused(open_calls: int, memory: int, buffered: int, held: int, waiting: int, expected: str) -> None:
    tried = admission()
    tried.concurrency.limit = 10.0
    for _ in range(open_calls):
        tried.enter(False)
    for _ in range(waiting):
        tried.concurrency.asked()
    tried.look(0.1, memory)
    assert reason(tried, False, buffered, held) == expected
    assert reason(tried, True, buffered, held) == ""  # the reserve knows none of it


def test_the_reserve_is_not_endless() -> None:
    tried = admission()
    for _ in range(RESERVE):
        tried.enter(True)
    assert reason(tried, True) == "overload.reserve"
    assert reason(tried) == ""
    tried.leave(True)
    assert reason(tried, True) == ""


def test_latency_limits_nothing_where_it_is_not_to() -> None:
    tried = admission()
    tried.concurrency.limit = 0.0
    assert reason(tried) == "overload.concurrency"
    tried.switch(replace(SMALL, adaptive=False))
    assert reason(tried) == ""


@given(st.floats(0, 0.999), st.floats(0, 1_000))
def test_delays_are_spread_and_grow_with_the_pressure(chance: float, pressure: float) -> None:
    tried = admission(chance)
    tried.concurrency.limit = 0.0
    tried.concurrency.pressure = pressure
    refused = tried.refuse(False, 0, 0)
    assert refused is not None
    _, pushback = refused.deny.trailers[0]
    middle_ms = 200 * (1 + pressure)
    assert min(5_000, 0.5 * middle_ms) - 50 <= int(pushback) <= min(5_000, 1.5 * middle_ms) + 50
    assert tried.refuse(False, 0, 0) is refused  # encoded once


# --- through the relay ----------------------------------------------------------------------------------------------


def told(call: Call) -> tuple[int, float, bytes | None]:
    """The status of a refusal, and its delay as both kinds of clients read it: seconds, and the trailer."""
    fields = call.all("HEADERS")[0][1]
    packed = pick(fields, b"grpc-status-details-bin") or b""
    status = status_pb2.Status.FromString(base64.b64decode(packed + b"=" * (-len(packed) % 4)))
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    return status.code, retry.retry_delay.ToTimedelta().total_seconds(), pick(fields, b"grpc-retry-pushback-ms")


def ask(client: Client, path: bytes = b"/t.S/Unary") -> Call:
    call = client.call(path)
    call.message(b"q", end=True)
    return call


def test_one_call_too_many_is_refused_and_told_when_to_come_again() -> None:
    with World([Record()], settings=FrontSettings(calls=2)) as world:
        calls = [ask(world.client) for _ in range(3)]
        world.settle()
        assert len(world.tap) == 2
        assert calls[2].status == Code.RESOURCE_EXHAUSTED
        assert told(calls[2]) == (Code.RESOURCE_EXHAUSTED, 0.2, b"200")
        health = ask(world.client, HEALTH)
        world.settle()
        assert len(world.tap) == 3
        for tapped in world.tap:
            tapped.answer(b"a")
        world.settle()
        again = ask(world.client)
        world.settle()
        world.tap[3].answer(b"a")
        world.settle()
        assert [call.status for call in (calls[0], calls[1], health, again)] == [0, 0, 0, 0]
    (refused,) = [event for event in world.recorder.events if event.kind == "call.refused"]
    assert (refused.reason, refused.fold, refused.source) == ("overload.calls", True, "192.0.2.1")


def test_a_refused_call_that_goes_on_sending_ends() -> None:
    with World(settings=FrontSettings(calls=1)) as world:
        first, second = world.call("bidi"), world.call("bidi")
        second.message(bytes(40_000))
        world.settle()
        assert second.status == Code.RESOURCE_EXHAUSTED
        assert second.kinds == ["HEADERS", "END", "RST"]
        first.cancel()


def test_calls_that_wait_for_an_answer_are_limited_and_others_are_not() -> None:
    with World() as world:
        world.relay.admission.concurrency.limit = 2.0
        streams = [world.call("bidi") for _ in range(5)]  # not whole: they ask for nothing yet
        waiting = [ask(world.client) for _ in range(3)]
        world.settle()
        assert waiting[2].status == Code.UNAVAILABLE
        assert told(waiting[2])[2] == b"200"
        answered = [tapped for tapped in world.tap if tapped.messages]
        answered[0].head()  # it has begun to answer, and may take as long as it likes
        world.settle()
        taken = ask(world.client)
        world.settle()
        assert taken.status is None
        for call in (*streams, waiting[0], waiting[1], taken):
            call.cancel()


def test_memory_is_looked_at_and_calls_are_taken_again_when_it_is_there() -> None:
    with World(settings=FrontSettings(memory=1_000)) as world:
        world.answer = lambda tapped: tapped.answer(b"a")
        for held, status in ((1_000, Code.RESOURCE_EXHAUSTED), (999, Code.OK)):
            world.relay.resident = lambda held=held: held  # type: ignore[misc]
            world.advance(1.0)
            call = ask(world.client)
            world.settle()
            assert call.status == status


def test_one_connection_cannot_hold_what_all_share() -> None:
    settings = FrontSettings(buffered=100_000, buffered_per_connection=40_000)
    with World([scripted("look", on_request=gives(PASS))], settings=settings) as world:
        greedy = world.call("client")
        greedy.send(b"\0\0\0\xff\xff" + bytes(30_000))
        other = world.call("client")
        other.send(b"\0\0\0\xff\xff" + bytes(30_000))
        world.settle()
        assert [greedy.status, other.status] == [None, Code.RESOURCE_EXHAUSTED]
        elsewhere = world.connect().call(b"/t.S/Client")
        elsewhere.send(b"\0\0\0\xff\xff" + bytes(30_000))
        world.settle()
        assert elsewhere.status is None
        assert world.relay.buffered == 60_010
        greedy.cancel()
        elsewhere.cancel()


def test_what_links_keep_is_charged_until_they_give_it_back() -> None:
    with World([Hold()], settings=FrontSettings(buffered_per_connection=50_000)) as world:
        world.answer = lambda tapped: tapped.answer(b"a")
        modest = world.call("client")
        for _ in range(4):
            modest.message(bytes(10_000))
        world.settle()
        assert world.relay.buffered >= 40_000
        modest.send(b"", end=True)
        world.settle()
        assert modest.status == Code.OK
        assert world.relay.buffered == 0
        greedy = world.call("client")
        for _ in range(6):
            greedy.message(bytes(10_000))
        world.settle()
        assert greedy.status == Code.RESOURCE_EXHAUSTED


def test_what_links_add_is_charged_where_it_waits() -> None:
    """The model server takes nothing: what waits for it has grown on the way."""
    with World(
        [scripted("grow", on_request=appends(bytes(30_000)))],
        settings=FrontSettings(buffered_per_connection=25_000),
        server={SettingCodes.INITIAL_WINDOW_SIZE: 0},
    ) as world:
        call = world.call("bidi")
        call.message(b"small")
        world.settle()
        assert call.status == Code.RESOURCE_EXHAUSTED


# --- handshakes -----------------------------------------------------------------------------------------------------


def greeting(world: World, source: str = "192.0.2.1") -> Transport:
    """A connection that does not even begin its handshake."""
    channel = TlsChannel(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), lambda _: None, server_side=True)
    return Transport(world.loop, FrontWire(world.front, channel), (source, 5000))


def test_handshakes_beyond_those_in_progress_are_not_begun() -> None:
    with World(settings=FrontSettings(handshakes=2), connect=False) as world:
        first, second, third = (greeting(world) for _ in range(3))
        assert [each.closed for each in (first, second, third)] == [False, False, True]
        world.advance(0.6)
        assert greeting(world).closed
        world.advance(0.5)
        newcomer = greeting(world)
        assert [each.closed for each in (first, second, newcomer)] == [True, False, False]
        second.cut()
        world.settle()
        assert not greeting(world).closed
    assert {event.reason for event in world.recorder.events} == {"overload.handshakes", "front.handshake_timeout"}


def test_one_source_does_not_keep_others_from_greeting() -> None:
    """Whoever begins handshakes faster than any grows old has most places: he yields to whoever has fewer."""
    with World(settings=FrontSettings(handshakes=4), connect=False) as world:
        hostile = [greeting(world, "192.0.2.66") for _ in range(4)]
        honest = [greeting(world, "192.0.2.1") for _ in range(2)]
        assert [each.closed for each in hostile] == [True, True, False, False]
        assert not any(each.closed for each in honest)
        assert greeting(world, "192.0.2.66").closed
        assert greeting(world, "192.0.2.1").closed  # it has as many as the other
