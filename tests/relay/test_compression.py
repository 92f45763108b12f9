"""Compressed messages: untouched where no link looks, inflated and packed again where one does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import zlib
from typing import Any, Final

import pytest

from interceptors.contract import PASS, Call, Code, Forward, Message, View
from sidecar.relay.settings import FrontSettings
from tests.interceptors.links import appends, gives, scripted
from tests.relay.ends import Tapped, framed, pick
from tests.relay.world import World, pieces

WBITS: Final = {b"gzip": 31, b"deflate": 15}
METADATA_ONLY: Final = scripted("see", View.METADATA, on_start=gives(PASS))
LOOK: Final = scripted("look", on_request=gives(PASS), on_response=gives(PASS))
GROW: Final = scripted("grow", on_request=appends(b"!"), on_response=appends(b"?"))
TEXT: Final = b"a text that repeats, a text that repeats, a text that repeats"


def packed(raw: bytes, encoding: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=WBITS[encoding])
    body = deflater.compress(raw) + deflater.flush()
    return b"\1" + len(body).to_bytes(4, "big") + body


def unpacked(data: bytes, encoding: bytes) -> list[tuple[int, bytes]]:
    """(flag, message inflated) of each message."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        body = data[5 : 5 + size]
        found.append((data[0], zlib.decompress(body, WBITS[encoding]) if data[0] else body))
        data = data[5 + size :]
    return found


def echo(encoding: bytes) -> Any:
    def answer(tapped: Tapped) -> None:
        tapped.head((b"grpc-encoding", encoding))
        tapped.send(tapped.data)
        tapped.trailers()

    return answer


@pytest.mark.parametrize("cut", [1, 16_384])
@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("links", [(), (METADATA_ONLY,), (LOOK,)], ids=["none", "metadata", "look"])
def test_what_nobody_changes_keeps_its_very_bytes(links: Any, encoding: bytes, cut: int) -> None:
    sent = packed(TEXT, encoding) + framed(TEXT) + packed(b"", encoding)
    with World(links, cut=pieces(cut), cut_back=pieces(cut)) as world:
        world.answer = echo(encoding)
        call = world.call("bidi", (b"grpc-encoding", encoding), (b"grpc-accept-encoding", b"gzip, br"))
        call.send(sent, end=True)
        world.settle()
        (tapped,) = world.tap
        assert (call.status, call.data, tapped.data) == (0, sent, sent)
        assert pick(tapped.headers, b"grpc-encoding") == encoding
        # The answer's messages are looked at as well, where links look: it may only come in what we know.
        assert pick(tapped.headers, b"grpc-accept-encoding") == (b"gzip" if LOOK in links else b"gzip, br")
        assert call.head is not None
        assert pick(call.head, b"grpc-encoding") == encoding


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_what_a_link_changes_is_packed_again(encoding: bytes) -> None:
    """A message that came plain goes plain: flags stay as they were."""
    seen: list[bytes] = []

    def look(call: Call, message: Message) -> object:
        seen.append(message.raw)
        return PASS

    with World([scripted("see", on_request=look), GROW]) as world:
        world.answer = echo(encoding)
        call = world.call("bidi", (b"grpc-encoding", encoding))
        call.send(packed(TEXT, encoding) + framed(TEXT), end=True)
        world.settle()
        assert seen == [TEXT, TEXT]
        assert unpacked(world.tap[0].data, encoding) == [(1, TEXT + b"!"), (0, TEXT + b"!")]
        assert unpacked(call.data, encoding) == [(1, TEXT + b"!?"), (0, TEXT + b"!?")]


def test_what_a_link_releases_at_flush_goes_plain() -> None:
    release = scripted("add", on_flush=lambda call, response: Forward((Message(b"last"),)))
    with World([release]) as world:
        world.answer = echo(b"gzip")
        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        call.send(packed(TEXT, b"gzip"), end=True)
        world.settle()
        assert unpacked(world.tap[0].data, b"gzip") == [(1, TEXT), (0, b"last")]
        assert unpacked(call.data, b"gzip") == [(1, TEXT), (0, b"last"), (0, b"last")]


BAD: Final = {
    "unknown encoding": (b"br", b"\1\0\0\0\2xx", Code.UNIMPLEMENTED),
    "no encoding": (b"", b"\1\0\0\0\2xx", Code.INTERNAL),
    "identity": (b"identity", b"\1\0\0\0\2xx", Code.INTERNAL),
    "not gzip": (b"gzip", b"\1\0\0\0\2xx", Code.INTERNAL),
    "cut": (
        b"gzip",
        (lambda body: b"\1" + (len(body) - 10).to_bytes(4, "big") + body[5:-5])(packed(TEXT, b"gzip")),
        13,
    ),
    "more behind": (b"gzip", b"\1\0\0\0\x1a" + packed(b"", b"gzip")[5:] + b"\0" * 6, Code.INTERNAL),
    "too large inflated": (b"gzip", packed(bytes(20_000), b"gzip"), Code.RESOURCE_EXHAUSTED),
}
LIMIT: Final = FrontSettings(decompressed=10_000)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("response", [False, True], ids=["request", "response"])
def test_what_cannot_be_read_is_refused_where_a_link_looks(bad: str, response: bool) -> None:
    encoding, sent, code = BAD[bad]
    fields = [(b"grpc-encoding", encoding)] if encoding else []
    with World([LOOK], settings=LIMIT) as world:
        call = world.call("bidi", *([] if response else fields))
        if response:
            world.settle()
            world.tap[0].head(*fields)
            world.tap[0].send(sent)
            world.tap[0].trailers()
        else:
            call.send(sent, end=True)
        world.settle()
        assert call.status == (Code.INTERNAL if response and code is Code.UNIMPLEMENTED else code)
        assert call.data == world.tap[0].data == b""
        if bad == "unknown encoding" and not response:
            # grpc/doc/compression.md: the server says what it takes.
            assert pick(call.trailers, b"grpc-accept-encoding") == b"identity,deflate,gzip"


@pytest.mark.parametrize("bad", BAD)
def test_where_no_link_looks_all_of_that_is_the_model_servers(bad: str) -> None:
    encoding, sent, _ = BAD[bad]
    with World([METADATA_ONLY], settings=LIMIT) as world:
        world.answer = echo(encoding)
        call = world.call("bidi", *([(b"grpc-encoding", encoding)] if encoding else []))
        call.send(sent, end=True)
        world.settle()
        assert (call.status, call.data, world.tap[0].data) == (0, sent, sent)


def test_an_unknown_encoding_hurts_only_what_is_compressed_with_it() -> None:
    with World([LOOK]) as world:
        world.answer = echo(b"br")
        call = world.call("bidi", (b"grpc-encoding", b"br"))
        call.send(framed(TEXT), end=True)
        world.settle()
        assert (call.status, call.messages) == (0, [TEXT])


@pytest.mark.parametrize(
    ("accepted", "left"),
    [(b"gzip", b"gzip"), (b"deflate , gzip", b"deflate , gzip"), (b"br,gzip,snappy", b"gzip"), (b"zstd", None)],
)
def test_answers_are_asked_for_in_what_links_can_read(accepted: bytes, left: bytes | None) -> None:
    for links, expected in (([LOOK], left), ([METADATA_ONLY], accepted)):
        with World(links) as world:
            call = world.call("unary", (b"grpc-accept-encoding", accepted))
            call.message(b"ping", end=True)
            world.settle()
            assert pick(world.tap[0].headers, b"grpc-accept-encoding") == expected
            world.tap[0].answer(b"pong")
            world.settle()


# --- what takes longer than the loop may -----------------------------------------------------------------------------

LONG: Final = random.Random(7).randbytes(100_000) + bytes(300_000)  # beyond what is inflated at once


@pytest.mark.parametrize("cut", [999, 16_384])
@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_long_messages_keep_their_order(encoding: bytes, cut: int) -> None:
    """They are inflated and packed elsewhere, while short ones come behind them."""
    messages = [b"first", LONG, b"second", LONG[::-1], b"", LONG, b"last"]
    with World([LOOK, GROW], cut=pieces(cut), cut_back=pieces(cut)) as world:
        world.answer = echo(encoding)
        call = world.call("bidi", (b"grpc-encoding", encoding))
        for raw in messages:
            call.send(packed(raw, encoding))
        call.half_close()
        world.settle()
        assert call.status == 0
        assert unpacked(world.tap[0].data, encoding) == [(1, raw + b"!") for raw in messages]
        assert unpacked(call.data, encoding) == [(1, raw + b"!?") for raw in messages]


@pytest.mark.parametrize("body", [packed(bytes(200_001), b"gzip"), packed(LONG, b"gzip")[:-9] + bytes(9)])
def test_what_turns_out_elsewhere_to_be_wrong_is_refused(body: bytes) -> None:
    limit = 200_000 if len(body) < 10_000 else 1 << 20
    with World([LOOK], settings=FrontSettings(decompressed=limit)) as world:
        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        call.send(body + packed(TEXT, b"gzip"), end=True)
        world.settle()
        assert call.status == (Code.RESOURCE_EXHAUSTED if limit == 200_000 else Code.INTERNAL)
        assert world.tap[0].data == b""


def test_what_is_inflated_is_charged_while_it_is_here() -> None:
    """A few compressed bytes do not get round the budget for held messages."""
    with World([LOOK], settings=FrontSettings(buffered=300_000)) as world:
        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        call.send(packed(LONG, b"gzip"), end=True)
        world.settle()
        assert call.status == Code.RESOURCE_EXHAUSTED


def test_a_call_that_is_over_takes_nothing_back() -> None:
    with World([LOOK]) as world:
        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        world.settle()
        call.send(packed(LONG, b"gzip"))
        transport = world.transport(world.client)
        transport.feed(world.client.take())  # inflating has begun, and no turn has passed
        call.cancel()
        world.settle()
        assert world.tap[0].reset is not None


def test_what_waits_for_a_thread_is_let_go_with_its_call() -> None:
    with World([LOOK]) as world:
        calls = [world.call("bidi", (b"grpc-encoding", b"gzip")) for _ in range(5)]
        world.settle()
        for call in calls:
            call.send(packed(LONG, b"gzip"))
        world.transport(world.client).feed(world.client.take())
        assert world.relay.aside._waiting
        for call in calls:
            call.cancel()
        world.transport(world.client).feed(world.client.take())  # no turn has passed
        assert not world.relay.aside._waiting
        assert world.relay.buffered == 0
        world.settle()


@pytest.mark.parametrize("link", [LOOK, GROW], ids=["inflating", "packing"])
def test_work_that_fails_elsewhere_ends_its_call(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []

    def takes(record: logging.LogRecord) -> bool:
        """In place of a handler, which would keep the frames that the exception passed, and they the call."""
        logged.append(record.getMessage())
        return False

    monkeypatch.setattr(logging.getLogger("sidecar.relay"), "filters", [takes])
    raw = LONG if link is LOOK else TEXT * 1000
    with World([link]) as world:

        def fails(executor: None, work: object) -> asyncio.Future[Any]:
            future = world.loop.create_future()
            world.loop.call_soon(future.set_exception, MemoryError())
            return future

        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        world.settle()
        world.loop.run_in_executor = fails  # type: ignore[method-assign]
        call.send(packed(raw, b"gzip") + packed(TEXT, b"gzip"))
        world.settle()
        assert (call.status, call.message_text) == (Code.INTERNAL, b"internal error")
        assert logged == ["relay_defect"]
        assert world.tap[0].data == b""
        assert world.relay.buffered == 0


def test_what_takes_long_to_pack_is_packed_elsewhere_and_charged_meanwhile() -> None:
    raw = TEXT * 1000  # inflated at once
    charged: list[int] = []
    with World([GROW]) as world:
        world.answer = echo(b"gzip")
        run = world.loop.run_in_executor

        def watched(executor: None, work: Any) -> asyncio.Future[Any]:
            charged.append(world.relay.buffered)
            return run(executor, work)

        world.loop.run_in_executor = watched  # type: ignore[method-assign]
        call = world.call("bidi", (b"grpc-encoding", b"gzip"))
        call.send(packed(raw, b"gzip") * 3 + packed(TEXT, b"gzip"), end=True)
        world.settle()
        assert unpacked(call.data, b"gzip") == [*[(1, raw + b"!?")] * 3, (1, TEXT + b"!?")]
        assert len(charged) == 6
        assert all(2 * len(raw) < count < 3 * len(raw) for count in charged)


def test_messages_to_inflate_give_way_however_many_calls_they_are_of() -> None:
    """Of all calls of a connection no more are looked at in a turn than fit into it."""
    order: list[bytes] = []

    def look(call: Call, message: Message) -> object:
        order.append(message.raw)
        return PASS

    with World([scripted("see", on_request=look)]) as world:
        looks = itertools.count()
        world.relay.timer = lambda: next(looks) * 0.001  # every look at the clock takes a millisecond
        other = world.connect()
        world.settle()
        calls = [world.call("client", (b"grpc-encoding", b"gzip")) for _ in range(20)]
        world.settle()
        for call in calls:
            call.send(packed(TEXT, b"gzip") * 50, end=True)
        ping = other.call(b"/t.S/Bidi")
        ping.message(b"ping", end=True)
        for client in (world.client, other):
            world.transport(client).feed(client.take())
        assert order.count(TEXT) < 10
        world.settle()
        assert order.count(TEXT) == 1000
        assert order.index(b"ping") < 50
        for tapped in world.tap:
            tapped.answer(b"pong")
        world.settle()
        assert [call.status for call in (*calls, ping)] == [0] * 21


def test_many_short_messages_give_way_to_other_calls() -> None:
    order: list[str] = []

    def look(call: Call, message: Message) -> object:
        order.append(call.method.path)
        return PASS

    with World([scripted("see", on_request=look)]) as world:
        flood, ping = world.call("client"), world.call("bidi")
        flood.message(*[b""] * 3000, end=True)
        ping.message(b"ping", end=True)
        world.settle()
        assert order.count("/t.S/Client") == 3000
        assert order.index("/t.S/Bidi") < 200
        for tapped in world.tap:
            tapped.answer(b"pong")
        world.settle()
        assert (flood.status, ping.status) == (0, 0)
