"""Flow control end to end: who does not read holds at most the windows, and stops nobody else."""

from __future__ import annotations

from typing import Any, Final

import pytest
from h2.settings import SettingCodes

from interceptors.contract import PASS
from sidecar.relay.http2.limits import Limits
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from tests.interceptors.links import gives, scripted
from tests.relay.ends import Call, Half, Tapped, framed
from tests.relay.world import World

STREAM, CONNECTION = 100_000, 400_000  # bytes: the windows of the relay, both sides
LIMITS: Final = Limits(stream_window=STREAM, connection_window=CONNECTION)
FRONT: Final = FrontSettings(limits=LIMITS)
UPSTREAM: Final = UpstreamSettings((Target("192.0.2.9", 1),), limits=LIMITS)
SMALL: Final = {SettingCodes.INITIAL_WINDOW_SIZE: 1_000}
MOST: Final = STREAM + 25_000  # of one call: its window, a payload, and a message that is not whole yet
LOOKS: Final[dict[str, Any]] = {
    "passing": (),
    "inspecting": (scripted("look", on_request=gives(PASS), on_response=gives(PASS)),),
}
MESSAGE: Final = bytes(5_000)
LOT: Final = framed(*[MESSAGE] * 400)  # 2 MB


@pytest.fixture(params=LOOKS)
def links(request: pytest.FixtureRequest) -> Any:
    return LOOKS[request.param]


@pytest.fixture(params=[1_000, 16_384])
def frame(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


def make(links: Any, frame: int = 16_384, **options: Any) -> World:
    return World(links, settings=FRONT, upstream=UPSTREAM, frame=frame, **options)


def started(world: World) -> tuple[Call, Tapped]:
    """A stream of both directions, its head sent."""
    call = world.call("bidi")
    world.settle()
    tapped = world.tap[-1]
    tapped.head()
    world.settle()
    return call, tapped


def slowly(world: World, source: Half, sink: Half, most: int, lot: bytes = LOT) -> None:
    """The sink reads bit by bit, until everything has come; never more than `most` bytes are between the ends."""
    size = source.unsent + len(sink.data)
    steps = 0
    while len(sink.data) < len(lot):
        unread = sink.end.unread[sink.id]
        assert unread, "nothing comes any more"
        sink.end.read(sink, unread)
        world.settle()
        sent = len(lot) - source.unsent
        assert sent - len(sink.data) <= most
        steps += 1
    assert size <= len(lot)
    assert steps > 100
    assert sink.data == lot


def test_a_slow_client_holds_no_more_than_a_window(links: Any, frame: int) -> None:
    with make(links, frame, client=SMALL) as world:
        call, tapped = started(world)
        world.client.reads = False
        tapped.send(LOT)
        world.settle()
        held = len(LOT) - tapped.unsent - len(call.data)
        assert STREAM // 2 < held <= MOST
        slowly(world, tapped, call, MOST)
        call.cancel()


def test_a_slow_model_server_holds_no_more_than_a_window(links: Any, frame: int) -> None:
    with make(links, frame, server=SMALL) as world:
        call, tapped = started(world)
        world.server.reads = False
        call.send(LOT)
        world.settle()
        held = len(LOT) - call.unsent - len(tapped.data)
        assert STREAM // 2 < held <= MOST
        slowly(world, call, tapped, MOST)
        call.cancel()


def test_others_go_on_beside_a_slow_client(links: Any) -> None:
    """On the same connections, however much the slow one's model server has to say."""
    with make(links, client=SMALL) as world:
        slow, tapped = started(world)
        world.client.reads = False
        tapped.send(LOT)
        world.settle()
        for _ in range(20):
            call, other = started(world)
            other.message(b"x" * 500)
            call.message(b"y" * 50_000)
            world.settle()
            assert (call.messages, other.messages) == ([b"x" * 500], [b"y" * 50_000])
            call.cancel()
            world.settle()
        assert not slow.ended
        slow.cancel()


def test_several_slow_clients_beside_each_other(links: Any) -> None:
    """Clients that do not read use up the model server's connection window only together with many others."""
    with make(links, client=SMALL) as world:
        world.client.reads = False
        for _ in range(3):
            _, tapped = started(world)
            tapped.send(LOT)
            world.settle()
        call, other = started(world)
        other.message(b"x" * 500)
        world.settle()
        assert call.messages == [b"x" * 500]
        for one in list(world.client.streams.values()):
            one.cancel()


@pytest.mark.parametrize("ends", ["cancel", "reset", "lost"])
def test_windows_are_whole_again_after_calls_that_ended_badly(links: Any, ends: str) -> None:
    """Not a byte of either connection's window is lost with a call, wherever its bytes were."""
    with make(links, client=SMALL, server=SMALL) as world:
        for _ in range(50):
            call, tapped = started(world)
            world.client.reads = world.server.reads = False
            call.send(LOT)
            tapped.send(LOT)
            world.settle()
            if ends == "lost":
                world.lose(world.client)
                world.client = world.connect(SMALL)
            elif ends == "cancel":
                call.cancel()
            else:
                tapped.cancel(2)
            world.settle()
            for end in (world.client, world.server):
                end.reads = True
        assert world.client.connection.outbound_flow_control_window > CONNECTION // 2
        assert world.server.connection.outbound_flow_control_window > CONNECTION // 2
        call, tapped = started(world)
        call.send(LOT)
        tapped.send(LOT)
        world.settle()
        assert (call.data, tapped.data) == (LOT, LOT)
        call.cancel()


def test_windows_change_while_data_waits(links: Any) -> None:
    """SETTINGS_INITIAL_WINDOW_SIZE, down below nothing and up again (RFC 9113 §6.9.2)."""
    with make(links, client={SettingCodes.INITIAL_WINDOW_SIZE: 50_000}) as world:
        call, tapped = started(world)
        world.client.reads = False
        tapped.send(LOT)
        world.settle()
        assert len(call.data) == 50_000
        for size in (10, 60_000, 5, 2 * len(LOT)):
            world.client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
            world.settle()
        world.client.connection.increment_flow_control_window(len(LOT))
        world.settle()
        assert call.data == LOT
        call.cancel()


def test_a_transport_that_does_not_take_bytes(links: Any) -> None:
    """The same from below: what the kernel does not take is not taken from the model server."""
    large = {SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30}
    with make(links, client=large) as world:
        world.client.connection.increment_flow_control_window(1 << 30)
        call, tapped = started(world)
        transport = world.transport(world.client)
        transport.pause()
        tapped.send(LOT)
        world.settle()
        assert not call.data
        assert len(LOT) - tapped.unsent <= STREAM + 20_000
        transport.resume()
        world.settle()
        assert call.data == LOT
        call.cancel()


def test_trailers_wait_behind_data(links: Any) -> None:
    with make(links, client=SMALL) as world:
        call, tapped = started(world)
        world.client.reads = False
        tapped.message(MESSAGE)
        tapped.trailers((b"grpc-status", b"7"))
        world.settle()
        assert len(call.data) == 1_000
        assert not call.ended
        world.client.reads = True
        while not call.ended:
            world.client.read(call, world.client.unread[call.id])
            world.settle()
        assert (call.status, call.messages) == (7, [MESSAGE])


def test_messages_that_are_cut_by_small_windows_always_arrive() -> None:
    """Short messages are kept until they are whole: that must not need more window than there is."""
    limits = Limits(stream_window=65_535, connection_window=65_535)
    settings, upstream = FrontSettings(limits=limits), UpstreamSettings((Target("192.0.2.9", 1),), limits=limits)
    for first in (4_000, 32_000, 33_000, 50_000, 60_000):
        with World(settings=settings, upstream=upstream) as world:
            call, tapped = started(world)
            for half, other in ((call, tapped), (tapped, call)):
                half.message(bytes(first), bytes(16_000), bytes(10))
                world.settle()
                assert [len(raw) for raw in other.messages] == [first, 16_000, 10]
            call.cancel()


def test_short_messages_of_many_streams_in_small_pieces() -> None:
    """Each stream holds part of a message, together more than the connection's window."""
    limits = Limits(stream_window=65_536, connection_window=65_536)
    settings, upstream = FrontSettings(limits=limits), UpstreamSettings((Target("192.0.2.9", 1),), limits=limits)
    with World(settings=settings, upstream=upstream) as world:
        pairs = [started(world) for _ in range(20)]
        for back in (False, True):
            body = framed(bytes(12_000))
            for at in range(0, len(body), 500):
                for pair in pairs:
                    pair[back].send(body[at : at + 500])
                world.settle()
            for pair in pairs:
                assert len(pair[not back].messages[0]) == 12_000
        for call, _ in pairs:
            call.cancel()
