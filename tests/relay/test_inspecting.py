"""Messages that links look at: their order, their budget, and what is kept while the sink does not read."""

from __future__ import annotations

from typing import Any

import pytest
from h2.settings import SettingCodes

from interceptors.contract import (
    HOLD,
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Forward,
    Interceptor,
    Message,
    ModelName,
    NoCodec,
    Verdict,
    View,
)
from sidecar.relay.settings import FrontSettings
from tests.interceptors.links import appends, asks, gives, scripted
from tests.relay.ends import CANCEL, Tapped, framed
from tests.relay.world import SHAPES, World, pieces

LOOK = scripted("look", on_request=gives(PASS), on_response=gives(PASS))
NO = Deny(Code.ABORTED, "test.no", "no")
BIG = 20_000  # bytes: more than a frame


@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_a_half_close_in_a_frame_of_its_own(cut: int) -> None:
    with World([LOOK], cut=pieces(cut)) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call("unary")
        call.message(b"ping")
        world.settle()
        assert not world.tap  # a unary request goes upstream when it is whole
        call.half_close()
        world.settle()
        assert (call.status, call.messages, world.tap[0].messages) == (0, [b"pong"], [b"ping"])


def test_a_denial_gives_back_the_budget_of_what_stands_behind_it() -> None:
    with World([scripted("deny", on_request=gives(NO))]) as world:
        call = world.call("bidi")
        call.send(framed(b"refused") + b"\0\0\0\1\0" + bytes(200))
        world.settle()
        assert call.status == Code.ABORTED
        assert world.relay._buffered == 0


def test_what_has_left_is_not_charged_any_more_when_hooks_ask() -> None:
    with World([scripted("ask", on_request=asks(PASS))]) as world:
        call = world.call("bidi")
        for at in range(3):
            world.answers.holds = True
            call.message(bytes(100))
            world.settle()
            assert world.relay._buffered == 105
            world.answers.settle()
            world.settle()
            assert world.relay._buffered == 0
            assert len(world.tap[0].messages) == at + 1
        call.cancel()


@pytest.mark.parametrize("cut", [3, 100_000])
def test_a_whole_request_is_charged_while_its_hook_asks_and_no_longer(cut: int) -> None:
    with World([scripted("ask", on_request=asks(PASS))], cut=pieces(cut)) as world:
        world.answer = lambda call: call.answer(b"done")
        world.answers.holds = True
        call = world.call("unary")
        call.message(bytes(100), end=True)
        world.settle()
        assert world.relay._buffered == 105
        assert not world.tap
        world.answers.settle()
        world.settle()
        assert (call.status, world.relay._buffered, world.tap[0].messages) == (0, 0, [bytes(100)])


def late(call: Call, response: bool) -> Verdict:
    return PASS if response else Forward((Message(b"late"),))


@pytest.mark.parametrize("cut", [3, 100_000])
@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ({"on_request": gives(PASS)}, [b"ping"]),
        ({"on_request": gives(Forward((Message(b"other"),)))}, [b"other"]),
        ({"on_request": gives(HOLD), "on_flush": late}, [b"late"]),
        ({"on_request": gives(PASS), "on_flush": gives(PASS)}, [b"ping"]),
        ({"on_request": gives(HOLD)}, None),
        ({"on_request": gives(Forward((Message(b"1"), Message(b"2"))))}, None),
        ({"on_request": gives(NO)}, None),
    ],
)
def test_a_whole_request_fares_as_one_that_comes_in_pieces(
    cut: int, hooks: dict[str, Any], expected: list[bytes] | None
) -> None:
    """expected: what goes upstream, None for nothing."""
    with World([scripted("link", **hooks)], cut=pieces(cut)) as world:
        world.answer = lambda call: call.answer(b"done")
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        assert (call.status == 0) is (expected is not None)
        assert [each.messages for each in world.tap] == ([] if expected is None else [expected])
        assert world.relay._buffered == 0


def test_many_messages_whose_hooks_ask_in_one_payload() -> None:
    """An answer that comes at once goes on in a loop, not ever deeper."""
    with World([scripted("ask", on_request=asks(PASS))]) as world:
        world.answer = lambda call: call.answer(b"done")
        call = world.call("client")
        call.send(framed(*[b""] * 3_000), end=True)
        world.settle()
        assert (call.status, len(world.tap[0].messages)) == (0, 3_000)


def test_a_hook_that_asks_often() -> None:
    def often(*args: object) -> Any:
        for _ in range(3_000):
            yield from asks(PASS)()
        return PASS

    with World([scripted("ask", on_request=often)]) as world:
        world.answer = lambda call: call.answer(b"done")
        call = world.call("unary")
        call.message(b"", end=True)
        world.settle()
        assert call.status == 0


def test_what_waited_for_an_answer_keeps_its_order() -> None:
    """Messages longer than a frame, split, come out of what was kept: none may overtake the rest of another."""

    def split(call: object, message: Message) -> Forward:
        return Forward((Message(message.raw + b"1" * BIG), Message(message.raw + b"2" * BIG)))

    with World([scripted("ask", on_start=asks(PASS)), scripted("split", on_request=split)], frame=16) as world:
        world.answers.holds = True
        call = world.call("bidi")
        for letter in (b"a", b"b", b"c"):
            call.message(letter)
        world.settle()
        world.answers.settle()
        world.settle()
        starts = [raw[:2] for raw in world.tap[0].messages]
        assert starts == [b"a1", b"a2", b"b1", b"b2", b"c1", b"c2"]
        call.cancel()


def test_what_waited_for_the_model_server_keeps_its_order() -> None:
    grow = scripted("grow", on_request=lambda call, message: Forward((Message(message.raw + bytes(BIG)),)))
    with World([grow]) as world:
        world.lose(world.server)
        call = world.call("bidi")
        for letter in (b"a", b"b", b"c", b"d"):
            call.message(letter)
            world.settle()
        assert not world.tap
        world.advance(0.1)
        assert [raw[:1] for raw in world.tap[0].messages] == [b"a", b"b", b"c", b"d"]
        call.cancel()


def test_messages_larger_than_the_windows() -> None:
    size = 3 << 20
    small = {SettingCodes.INITIAL_WINDOW_SIZE: 100_000}
    with World([LOOK], client=small, server=small) as world:

        def echo(tapped: Tapped) -> None:
            tapped.head()
            tapped.message(*tapped.messages)

        world.answer = echo
        call = world.call("bidi")
        call.message(bytes(size), end=True)
        world.settle()
        assert [len(raw) for raw in call.messages] == [size]
        world.tap[0].trailers()
        world.settle()
        assert call.status == 0


def test_a_budget_for_all_calls() -> None:
    """Beyond it calls are refused; what is held by links' need to see it whole counts until it has left."""
    settings = FrontSettings(buffered=100_000)
    with World([LOOK], settings=settings) as world:
        first, second = world.call("bidi"), world.call("bidi")
        first.send(b"\0\0\1\0\0" + bytes(60_000))
        world.settle()
        assert world.relay._buffered == 60_005
        second.send(b"\0\0\1\0\0" + bytes(60_000))
        world.settle()
        assert second.status == Code.RESOURCE_EXHAUSTED
        assert first.status is None
        first.send(bytes(0x10000 - 60_000), end=True)
        world.settle()
        assert len(world.tap[0].messages[0]) == 0x10000
        assert world.relay._buffered == 0
        first.cancel()


def test_what_a_slow_client_has_not_read_stays_charged() -> None:
    small = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    with World([LOOK], client=small) as world:
        world.client.reads = False
        world.answer = lambda call: call.answer(bytes(50_000))
        call = world.call("unary")
        call.message(b"", end=True)
        world.settle()
        assert len(call.data) == 1000
        assert world.relay._buffered > 49_000
        world.client.reads = True
        while world.client.unread[call.id]:
            world.client.read(call, world.client.unread[call.id])
            world.settle()
        assert (call.status, len(call.messages[0])) == (0, 50_000)
        assert world.relay._buffered == 0


def test_what_a_client_never_read_is_let_go_with_it() -> None:
    small = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    for gone in ("reset", "lost"):
        with World([LOOK], client=small) as world:
            world.client.reads = False
            world.answer = lambda call: call.answer(bytes(50_000))
            call = world.call("unary")
            call.message(b"", end=True)
            world.settle()
            assert world.relay._buffered > 49_000
            if gone == "reset":
                call.cancel()
            else:
                world.lose(world.client)
            world.settle()
            assert world.relay._buffered == 0


def test_a_slow_model_server_stops_the_client() -> None:
    """Once messages wait for the model server, no more than the client's window is taken."""
    small = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    with World([LOOK], server=small) as world:
        world.server.reads = False
        call = world.call("bidi")
        call.send(framed(*[bytes(1000)] * 4_000))
        world.settle()
        assert len(world.tap[0].data) == 1000
        assert call.unsent > 4_000_000 - (1 << 20) - 20_000
        assert world.relay._buffered < 20_000
        call.cancel()


def test_a_unary_request_that_is_denied_whole_never_reaches_the_model_server_however_long() -> None:
    with World([scripted("flush", on_request=gives(HOLD), on_flush=gives(NO))]) as world:
        call = world.call("unary")
        call.message(bytes(500_000), end=True)
        world.settle()
        assert call.status == Code.ABORTED
        assert not world.tap
    with World([LOOK]) as world:
        call = world.call("unary")
        call.message(bytes(500_000))
        call.message(b"a second")
        world.settle()
        assert call.status == Code.UNIMPLEMENTED
        assert not world.tap


def test_a_message_that_is_cut_short_or_too_long() -> None:
    for sent, code in ((b"\0\0\0\0\5four", Code.INTERNAL), (b"\0\1\0\0\1" + bytes(9), Code.RESOURCE_EXHAUSTED)):
        for shape in ("unary", "bidi"):
            with World([LOOK], settings=FrontSettings(message=1 << 24)) as world:
                call = world.call(shape)
                call.send(sent, end=True)
                world.settle()
                assert call.status == code
                assert all(tapped.kinds == ["HEADERS", "RST"] for tapped in world.tap)
                assert CANCEL in [tapped.reset for tapped in world.tap] or shape == "unary"


class Text(NoCodec):
    """A codec whose decoded form is a str."""

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return ()

    def decode(self, raw: bytes, response: bool) -> object:
        try:
            return raw.decode()
        except ValueError:
            raise CodecError("not UTF-8") from None

    def encode(self, body: object, response: bool) -> bytes:
        assert isinstance(body, str)
        return body.encode()


def upper(response: bool) -> Any:
    def hook(call: Call, message: Message) -> Forward:
        assert isinstance(message.body, str)
        return Forward((Message.of(call, message.body.upper(), response),))

    return hook


@pytest.mark.parametrize("frame", [1, 16_384])
@pytest.mark.parametrize("shape", SHAPES)
def test_links_that_see_messages_decoded(shape: str, frame: int) -> None:
    """Beside one that looks at bytes; what is forwarded is decoded anew for the next."""
    links = [
        scripted("first", View.DECODED, on_request=upper(False), on_response=upper(True)),
        scripted("bytes", on_request=appends(b"+"), on_response=appends(b"+")),
        scripted("last", View.DECODED, on_request=upper(False), on_response=upper(True)),
    ]
    with World(links, codec=Text(), frame=frame) as world:
        world.answer = lambda call: call.answer("größe".encode())
        call = world.call(shape)
        call.message("straße".encode(), end=True)
        world.settle()
        assert (call.status, call.messages) == (0, ["GRÖSSE+".encode()])
        assert world.tap[0].messages == [b"STRASSE+"]


def test_a_message_that_does_not_decode() -> None:
    for response in (False, True):
        side = "on_response" if response else "on_request"
        with World([scripted("look", View.DECODED, **{side: gives(PASS)})], codec=Text()) as world:
            world.answer = lambda call: call.answer(b"\xff")
            call = world.call("unary")
            call.message(b"\xff", end=True)
            world.settle()
            assert call.status == (Code.INTERNAL if response else Code.INVALID_ARGUMENT)
            assert call.messages == []
            assert bool(world.tap) is response


class Seen:
    """A request that asks for its answers to be looked at."""


class Awaiting(Interceptor):
    name = "awaiting"
    view = View.BYTES
    awaits = Seen

    def on_request(self, call: Call, message: Message) -> Verdict:
        if message.raw == b"look":
            call.put(Seen())
        return PASS

    def on_response(self, call: Call, message: Message) -> Verdict:
        return Forward((Message(message.raw + b"!"),))


@pytest.mark.parametrize(
    ("shape", "raw", "looked"), [("unary", b"look", True), ("unary", b"pass", False), ("bidi", b"pass", True)]
)
def test_answers_are_looked_at_where_the_request_has_led_to_what_is_awaited(
    shape: str, raw: bytes, looked: bool
) -> None:
    """Where they are not, they may come in any encoding, and stream through."""
    with World([Awaiting()]) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call(shape, (b"grpc-accept-encoding", b"identity,gzip,zstd"))
        call.message(raw, end=True)
        world.settle()
        assert call.messages == [b"pong!" if looked else b"pong"]
        encodings = dict(world.tap[0].headers)[b"grpc-accept-encoding"]
        assert (b"zstd" in encodings) is not looked


def test_another_link_that_looks_is_not_passed_over() -> None:
    with World([scripted("also", on_response=appends(b"?")), Awaiting()]) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call("unary")
        call.message(b"pass", end=True)
        world.settle()
        (answer,) = call.messages
        assert answer.endswith(b"?")
