"""Odd requests over raw frames: each refused as it deserves, none seen by the model server, and none harms the next."""

from __future__ import annotations

from typing import Any, Final

import pytest

from interceptors.contract import PASS, Outcome
from tests.interceptors.links import diary, gives, scripted
from tests.relay.ends import Tapped
from tests.relay.odd_requests import MALFORMED, PING, Odd, every, honest, with_metadata
from tests.relay.raw import RawClient
from tests.relay.world import World, pieces

ODD: Final = dict(every())
LONG: Final = "metadata: 1 MiB"  # too long to come byte by byte
LOOKS: Final[dict[str, Any]] = {
    "passing": (),
    "inspecting": (scripted("look", on_request=gives(PASS), on_response=gives(PASS)),),
}


@pytest.fixture(params=LOOKS)
def links(request: pytest.FixtureRequest) -> Any:
    return LOOKS[request.param]


def pong(call: Tapped) -> None:
    call.answer(b"pong")


def connected(world: World) -> RawClient:
    client = RawClient()
    world.attach(client)
    world.settle()
    return client


def send(world: World, client: RawClient, odd: Odd, path: bytes = b"/t.S/Unary") -> int:
    number = client.request(odd.fields(honest(path)), *odd.body, trailers=odd.trailers)
    world.settle()
    return number


def served(world: World, client: RawClient) -> bool:
    """Whether an honest call succeeds."""
    number = client.request(honest(b"/t.S/Unary"), PING)
    world.settle()
    return client.outcome(number) == ("grpc", 0)


@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", ODD)
def test_refused_unseen_and_harmless(links: Any, name: str, cut: int) -> None:
    odd = ODD[name]
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links], cut=pieces(1 if cut and name != LONG else 100_000)) as world:
        world.answer = pong
        client = connected(world)
        number = send(world, client, odd)
        assert client.outcome(number) == odd.outcome
        assert world.tap == []
        ends = [item for item in client.seen[number] if item[0] == "HEADERS"]
        assert len(ends) <= 1
        if odd.outcome[0] == "goaway":
            assert client.gone
            client = connected(world)
        assert served(world, client)
        assert len(world.tap) == 1
        # Known of: by an outcome where a call was made of it, else by an event of its source.
        assert len(pages) == 2 or [event.source for event in world.recorder.events] == ["192.0.2.1"]


@pytest.mark.parametrize("name", [name for name in ODD if name.startswith("body: ")])
def test_a_stream_that_goes_wrong_never_ends_well(links: Any, name: str) -> None:
    """On a streaming side the model server knows of the call already: it is reset there, never ended."""
    odd = ODD[name]
    if "message" in name and "a length" not in name:
        return  # any number of messages may travel there
    with World(links) as world:
        client = connected(world)
        number = send(world, client, odd, b"/t.S/Client")
        assert client.outcome(number) == odd.outcome
        (tapped,) = world.tap
        assert tapped.kinds in (["HEADERS", "RST"], ["HEADERS", "DATA", "RST"])
        assert set(tapped.messages) <= {b"ping"}
        world.answer = pong
        assert served(world, client)


def test_what_only_looks_odd_is_served(links: Any) -> None:
    with World(links) as world:
        world.answer = pong
        client = connected(world)
        fields = honest(b"/_a1.B_2._/_")
        for scheme in (b"http", b"https"):
            for kind in (b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"):
                changed = {b":scheme": scheme, b"content-type": kind}
                number = client.request([(name, changed.get(name, value)) for name, value in fields], PING)
                world.settle()
                assert client.outcome(number) == ("grpc", 0)
        number = client.request([*fields, *with_metadata()], PING[:3], PING[3:], b"")
        world.settle()
        assert client.outcome(number) == ("grpc", 0)
        kept = [field for field in with_metadata() if field[0] not in (b"content-length", b"grpc-timeout")]
        assert [field for field in world.tap[-1].headers if field in kept] == kept
        assert world.tap[-1].messages == [b"ping"]


def test_host_in_place_of_authority(links: Any) -> None:
    with World(links) as world:
        world.answer = pong
        client = connected(world)
        fields = [field for field in honest(b"/t.S/Unary") if field[0] != b":authority"]
        for extra, authority in (((b"host", b"other:2"), b"other:2"), ((b"x-a", b"b"), b"localhost")):
            number = client.request([*fields, extra], PING)
            world.settle()
            assert client.outcome(number) == ("grpc", 0)
            assert (b":authority", authority) in world.tap[-1].headers
            assert not [value for name, value in world.tap[-1].headers if name == b"host"]


def test_many_odd_requests_on_one_connection() -> None:
    """One after the other, an honest one between each two: nothing of one shows in the next; each is on record."""
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages)]) as world:
        world.answer = pong
        client = connected(world)
        for name, odd in ODD.items():
            if odd.outcome[0] == "goaway":
                continue
            pages.clear()
            world.recorder.events.clear()
            assert client.outcome(send(world, client, odd)) == odd.outcome, name
            reasons = [event.reason for event in world.recorder.events]
            reasons += [outcome.denied.reason for _, outcome in pages if outcome.denied is not None]
            assert len(reasons) == 1, name
            assert (reasons[0] == "http2.malformed") is (odd.outcome == MALFORMED), name
            assert served(world, client), name
            world.advance(1)
