"""Messages of many frames: they arrive as they were sent, and nothing that was read is kept for a part of it."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.contract import PASS
from tests.interceptors.links import gives, scripted
from tests.relay.ends import Call, Tapped, framed
from tests.relay.hand_turned import HandTurned, Transport
from tests.relay.test_flow import LOOKS, MOST, STREAM, make, slowly, started
from tests.relay.world import World, pieces

NARROW: Final = {SettingCodes.INITIAL_WINDOW_SIZE: 20_000}
WIDE: Final = {SettingCodes.INITIAL_WINDOW_SIZE: 8 << 20}
MESSAGE: Final = random.Random(1).randbytes(1_000_000)
SENT: Final = 45_000  # bytes, which fit into what a window has left


class Wired(Transport):
    """A connection whose socket is a real one with a buffer of a few frames.  direct: bytes that came through it."""

    sockets: list[socket.socket]

    def __init__(self, loop: HandTurned, protocol: Any, peer: tuple[str, int] = ("192.0.2.1", 5000)) -> None:
        self._ours, self._theirs = pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        self.sockets += pair
        self.direct = 0
        super().__init__(loop, protocol, peer)

    def shrink(self) -> None:
        """Take a frame or two at a time from here on."""
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 10)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._ours if name == "socket" else super().get_extra_info(name, default)

    def take(self) -> bytes:
        if self.stuck:
            return b""
        came = []
        try:
            while part := self._theirs.recv(1 << 20):
                came.append(part)
        except BlockingIOError:
            pass
        self.direct += sum(map(len, came))
        return b"".join(came) + super().take()


@pytest.fixture
def wired() -> Iterator[type[Wired]]:
    made: list[socket.socket] = []
    yield type("WiredHere", (Wired,), {"sockets": made})
    for end in made:
        end.close()


def links_of(kind: str) -> Any:
    return () if kind == "passing" else (scripted("look", on_request=gives(PASS), on_response=gives(PASS)),)


def middle(stream: int, size: int = SENT) -> bytes:
    """Frames of a message that has begun, as one read brings them."""
    body = MESSAGE[:size]
    return b"".join(
        len(part).to_bytes(3, "big") + b"\0\0" + stream.to_bytes(4, "big") + part for part in pieces(16_384)(body)
    )


def begun(world: World) -> tuple[Call, Tapped]:
    """A stream of both directions, a long message begun on each."""
    call = world.call("bidi")
    world.settle()
    tapped = world.tap[-1]
    tapped.head()
    for half in (call, tapped):
        half.send(framed(MESSAGE)[:20_000])
    world.settle()
    return call, tapped


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(LOOKS)),
    sizes=st.lists(st.integers(0, 120_000), min_size=1, max_size=4),
    frame=st.sampled_from([1_000, 4_095, 4_096, 10_000, 16_384]),
    cut=st.sampled_from([700, 16_393, 40_000, 1 << 20]),
    wide=st.booleans(),
)
def test_however_messages_are_cut_they_arrive_as_sent(
    kind: str, sizes: list[int], frame: int, cut: int, wide: bool
) -> None:
    messages = [random.Random(size).randbytes(size) for size in sizes]
    opened = WIDE if wide else None
    with World(
        links_of(kind), cut=pieces(cut), cut_back=pieces(cut), frame=frame, client=opened, server=opened
    ) as world:
        call = world.call("bidi")
        call.message(*messages, end=True)
        world.settle()
        tapped = world.tap[-1]
        assert tapped.messages == messages
        assert tapped.ended
        tapped.head()
        tapped.message(*messages)
        world.settle()
        tapped.trailers()
        world.settle()
        assert call.messages == messages


def test_what_is_amid_a_message_leaves_before_more_is_read(wired: type[Wired]) -> None:
    with World(server=WIDE, transport=wired) as world:
        call, _ = begun(world)
        up: Any = world.transport(world.server)
        assert up.take() == b""
        world.wire(world.client).data_received(middle(call.id, 40_000))
        assert up.take() == middle(world.tap[-1].id, 40_000)
        assert up.direct > 40_000
        call.cancel()


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.parametrize("way", ["request", "response"])
@pytest.mark.parametrize("sink", ["takes", "takes some", "is paused", "has little window", "has no socket"])
def test_nothing_that_was_read_is_kept_for_a_part_of_it(wired: type[Wired], kind: str, way: str, sink: str) -> None:
    """Whether its payloads have left or wait: those are copies, each as long as what waits."""
    opened = NARROW if sink == "has little window" else WIDE
    with World(
        links_of(kind), client=opened, server=opened, transport=Transport if sink == "has no socket" else wired
    ) as world:
        call, tapped = begun(world)
        source: Any = world.client if way == "request" else world.server
        target: Any = world.server if way == "request" else world.client
        stream, came = (call.id, tapped) if way == "request" else (tapped.id, call)
        over: Any = world.transport(target)
        if sink == "is paused":
            over.pause()
        elif sink == "takes some":
            over.shrink()
        octets = middle(stream)
        before = sys.getrefcount(octets)
        world.wire(source).data_received(octets)
        assert sys.getrefcount(octets) == before
        if sink == "is paused":
            over.resume()
        before_direct = getattr(over, "direct", 0)
        world.settle()
        if sink == "takes some" and kind == "passing":
            assert 0 < over.direct - before_direct < SENT
        assert sys.getrefcount(octets) == before
        assert came.data == (framed(MESSAGE)[:20_000] + MESSAGE[:SENT] if kind == "passing" else b"")
        call.cancel()


def test_a_slow_client_holds_no_more_than_a_window_of_one_message() -> None:
    body = framed(bytes(1_999_995))
    with make((), client={SettingCodes.INITIAL_WINDOW_SIZE: 1_000}) as world:
        call, tapped = started(world)
        world.client.reads = False
        tapped.send(body)
        world.settle()
        held = len(body) - tapped.unsent - len(call.data)
        assert STREAM // 2 < held <= MOST
        slowly(world, tapped, call, MOST, body)
        call.cancel()


def test_a_slow_model_server_holds_no_more_than_a_window_of_one_message() -> None:
    body = framed(bytes(1_999_995))
    with make((), server={SettingCodes.INITIAL_WINDOW_SIZE: 1_000}) as world:
        call, tapped = started(world)
        world.server.reads = False
        call.send(body)
        world.settle()
        held = len(body) - call.unsent - len(tapped.data)
        assert STREAM // 2 < held <= MOST
        slowly(world, call, tapped, MOST, body)
        call.cancel()
