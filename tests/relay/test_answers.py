"""What the model server answers arrives as it was sent, whatever it is, unless a link edits or refuses it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from interceptors.contract import PASS, Code, Deny, Forward, Message, Outcome, View
from tests.interceptors.links import asks, diary, gives, scripted
from tests.relay.ends import CANCEL, binary
from tests.relay.world import World

NO: Final = Deny(Code.ABORTED, "test.no", "no")
LOOKS: Final[dict[str, Any]] = {
    "passing": (),
    "inspecting": (scripted("look", on_request=gives(PASS), on_response=gives(PASS), on_flush=gives(PASS)),),
    "edits nothing": (scripted("see", View.METADATA, on_headers=gives(PASS), on_trailers=gives(PASS)),),
    "asks": (scripted("ask", on_headers=asks(PASS), on_response=asks(PASS), on_trailers=asks(PASS)),),
}
HTML: Final = b"<html>upstream connect error</html>"


@pytest.fixture(params=LOOKS)
def links(request: pytest.FixtureRequest) -> Any:
    return LOOKS[request.param]


@pytest.mark.parametrize("status", range(17))
@pytest.mark.parametrize("only", [True, False], ids=["trailers only", "with a head"])
def test_every_status_with_its_trailers(links: Any, status: int, only: bool) -> None:
    fields = (
        (b"grpc-status", b"%d" % status), (b"grpc-message", b"50%25 %E2%82%AC %zz"), (b"x-two", b"a"), (b"x-two", b"b"),
        (b"grpc-status-details-bin", binary(b"\x08\x05details")),
    )  # fmt: skip
    with World(links) as world:
        call = world.call("bidi", end=True)
        world.settle()
        (tapped,) = world.tap
        if only:
            tapped.head(*fields, end=True)
        else:
            tapped.head((b"x-initial", b"1"))
            tapped.message(b"one")
            tapped.trailers(*fields)
        world.settle()
        assert call.status == status
        head = ((b":status", b"200"), (b"content-type", b"application/grpc"))
        assert call.kinds == (["HEADERS", "END"] if only else ["HEADERS", "DATA", "TRAILERS", "END"])
        assert call.trailers == ((*head, *fields) if only else fields)
        assert call.head == ((*head, *fields) if only else (*head, (b"x-initial", b"1")))


@pytest.mark.parametrize("end", [True, False], ids=["no body", "a body"])
@pytest.mark.parametrize(("status", "code"), [(503, 14), (404, 12), (401, 16), (500, 2), (302, 2), (429, 14)])
def test_an_answer_that_is_not_grpc(links: Any, status: int, code: int, end: bool) -> None:
    """Its head crosses, its body, which holds no messages, does not; the client derives the status by itself."""
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        call = world.call("bidi", end=True)
        world.settle()
        (tapped,) = world.tap
        fields = ((b"content-type", b"text/html"), (b"retry-after", b"3"))
        length = (b"content-length", b"%d" % (0 if end else len(HTML)))
        tapped.head(*fields, length, status=b"%d" % status, end=end)
        if not end:
            tapped.send(HTML, end=True)
        world.settle()
        assert call.seen == [("HEADERS", ((b":status", b"%d" % status), *fields)), ("END",)]
        assert pages[0][1].status == code


def test_a_status_that_is_missing_or_no_number(links: Any) -> None:
    for fields, kinds in (((), ["HEADERS", "DATA", "END"]), (((b"grpc-status", b"none"),), None)):
        pages: list[tuple[str, Outcome]] = []
        with World([diary(pages), *links]) as world:
            call = world.call("bidi", end=True)
            world.settle()
            (tapped,) = world.tap
            tapped.head()
            tapped.message(b"one", end=not fields)
            if fields:
                tapped.trailers(*fields)
            world.settle()
            assert call.messages == [b"one"]
            assert call.ended
            assert kinds is None or call.kinds == kinds
            assert pages[0][1].status == Code.UNKNOWN


def test_informational_heads_go_before_the_answer(links: Any) -> None:
    with World(links) as world:
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        (tapped,) = world.tap
        tapped.end.connection.send_headers(tapped.id, [(b":status", b"103"), (b"link", b"</a>")])
        tapped.end.connection.send_headers(tapped.id, [(b":status", b"100")])
        world.settle()
        assert call.seen == [
            ("INFORM", ((b":status", b"103"), (b"link", b"</a>"))),
            ("INFORM", ((b":status", b"100"),)),
        ]
        tapped.answer(b"pong")
        world.settle()
        assert (call.status, call.messages) == (0, [b"pong"])


@pytest.mark.parametrize("after", ["nothing", "head", "message"])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 5, 8, 11, 13, 0xFFFF])
def test_a_reset_by_the_model_server_crosses_with_its_code(links: Any, code: int, after: str) -> None:
    with World(links) as world:
        call = world.call("bidi")
        world.settle()
        (tapped,) = world.tap
        if after != "nothing":
            tapped.head()
        if after == "message":
            tapped.message(b"one")
        world.settle()
        tapped.cancel(code)
        world.settle()
        assert call.reset == code
        assert call.status is None
        assert not call.ended


def test_an_answer_while_the_client_still_sends(links: Any) -> None:
    """It arrives whole; both sides are told that the rest of the request is not wanted, and what comes is dropped."""
    with World(links) as world:
        call = world.call("bidi")
        call.message(b"one")
        world.settle()
        (tapped,) = world.tap
        tapped.answer(b"enough", fields=((b"grpc-status", b"8"),))
        call.message(b"two")
        world.settle()
        assert (call.status, call.messages) == (8, [b"enough"])
        assert call.reset == 0
        assert tapped.reset == CANCEL
        again = world.call("bidi")
        again.message(b"three")
        world.settle()
        world.tap[1].answer(b"more")
        world.settle()
        assert (again.status, again.messages) == (0, [b"more"])


AFTERMATHS: Final = ("no error", "cancel", "refused", "goaway", "lost")


@pytest.mark.parametrize("aftermath", AFTERMATHS)
@pytest.mark.parametrize("hook", ["on_headers", "on_response", "on_trailers"])
def test_a_complete_answer_is_delivered_whatever_comes_after_it(hook: str, aftermath: str) -> None:
    """RFC 9113 §8.1: a client must not discard a response for a RST_STREAM that follows it."""
    with World([scripted("ask", **{hook: asks(PASS)})]) as world:
        world.answers.holds = True
        call = world.call("bidi")
        call.message(b"one")
        world.settle()
        (tapped,) = world.tap
        server = world.server
        tapped.answer(b"enough")
        world.settle()
        if aftermath == "lost":
            world.lose(server)
        elif aftermath == "goaway":
            server.goaway(0)
        else:
            tapped.cancel({"no error": 0, "cancel": 8, "refused": 7}[aftermath])
        call.message(b"two")  # nobody wants it
        world.settle()
        assert not call.ended
        world.answers.settle()
        world.settle()
        assert (call.status, call.messages, call.reset) == (0, [b"enough"], 0)
        assert len(world.tap) == 1
        world.advance(1)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (((b"bad name", b"x"),), Code.INTERNAL),
        (((b"x-bad", b"a\r\nb"),), Code.INTERNAL),
        (((b"connection", b"close"),), Code.INTERNAL),
        (((b"content-length", b"3"),), Code.INTERNAL),
        (((b"x-long", b"x" * 20_000),), Code.RESOURCE_EXHAUSTED),
    ],
    ids=["name", "value", "connection", "length", "size"],
)
def test_a_malformed_answer(links: Any, fields: Any, code: Code) -> None:
    with World(links) as world:
        call = world.call("bidi", end=True)
        world.settle()
        (tapped,) = world.tap
        tapped.head(*fields)
        tapped.message(b"one", end=True)
        world.settle()
        assert call.status == code
        assert b"bad" not in call.message_text
        world.answer = lambda call: call.answer()
        again = world.call("bidi", end=True)
        world.settle()
        assert again.status == 0


def test_messages_released_into_an_answer_of_trailers_only() -> None:
    """It gets a head, since no message may stand before one."""

    def flush(call: object, response: bool) -> object:
        return Forward((Message(b"released"),)) if response else PASS

    with World([scripted("add", on_flush=flush)]) as world:
        call = world.call("bidi", end=True)
        world.settle()
        world.tap[0].head((b"grpc-status", b"5"), (b"x-last", b"1"), end=True)
        world.settle()
        assert call.kinds == ["HEADERS", "DATA", "TRAILERS", "END"]
        assert call.head == ((b":status", b"200"), (b"content-type", b"application/grpc"))
        assert call.messages == [b"released"]
        assert call.trailers == ((b"grpc-status", b"5"), (b"x-last", b"1"))


def test_a_content_length_does_not_outlive_a_rewrite() -> None:
    grow = scripted("grow", on_response=lambda call, message: Forward((Message(message.raw * 9),)))
    with World([grow]) as world:
        call = world.call("bidi", end=True)
        world.settle()
        world.tap[0].head((b"content-length", b"8"))
        world.tap[0].message(b"one")
        world.tap[0].trailers()
        world.settle()
        assert (call.status, call.messages) == (0, [b"one" * 9])
        assert call.head == ((b":status", b"200"), (b"content-type", b"application/grpc"))


@pytest.mark.parametrize("number", [2, 3])
def test_a_second_message_of_a_unary_answer(links: Any, number: int) -> None:
    with World(links) as world:
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        (tapped,) = world.tap
        tapped.head()
        tapped.message(*[b"pong"] * number)
        tapped.trailers()
        world.settle()
        assert call.status == Code.UNIMPLEMENTED
        assert call.messages == []


@pytest.mark.parametrize(("sent", "code"), [(b"\0\0\0\0\5four", 13), (b"\2\0\0\0\0", 13), (b"\0\xff\0\0\0", 8)])
def test_a_body_that_is_not_messages(links: Any, sent: bytes, code: int) -> None:
    with World(links) as world:
        call = world.call("bidi", end=True)
        world.settle()
        (tapped,) = world.tap
        tapped.head()
        tapped.send(sent)
        tapped.trailers()
        world.settle()
        assert call.status == code
        assert call.data == b""
