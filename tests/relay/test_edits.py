"""Links that edit headers and trailers, oblige a call to a deeper plan, or only observe."""

from __future__ import annotations

from typing import Any, Final

import pytest

from interceptors.chain import Chain
from interceptors.contract import (
    NO_CODEC,
    PASS,
    Call,
    Code,
    Deny,
    Detail,
    Forward,
    Headers,
    Interceptor,
    Message,
    Method,
    Outcome,
    Trailers,
    View,
    ask,
)
from tests.interceptors.links import Question, appends, diary, gives, scripted
from tests.relay.ends import Fields, binary
from tests.relay.world import Codecs, World

NO: Final = Deny(Code.ABORTED, "test.no", "no")
OURS: Final = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t.S/Unary"), (b":authority", b"model:1"),
               (b"te", b"trailers"), (b"content-type", b"application/grpc"))  # fmt: skip
CALLERS: Final = (
    (b"user-agent", b"test/1"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x-c-bin", binary(b"\0\1")),
)  # fmt: skip
CONSUMED: Final = (
    (b"x-forwarded-for", b"203.0.113.1"), (b"x-langtrain-principal", b"root"), (b"forwarded", b"for=x"),
    (b"x-forwarded-client-cert", b"By=x"), (b"x-real-ip", b"203.0.113.1"), (b"content-length", b"9"),
)  # fmt: skip


def reached(*links: Interceptor, metadata: Fields = CALLERS + CONSUMED) -> Fields:
    """The headers of a unary call, as the model server saw them."""
    with World(links) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call("unary", *metadata)
        call.message(b"ping", end=True)
        world.settle()
        assert call.status == 0
        return world.tap[0].headers


def edit(run: Any) -> Interceptor:
    """A link whose on_start runs `run` on the call's headers."""

    def on_start(call: Call) -> object:
        run(call.headers)
        return PASS

    return scripted("edit", on_start=on_start)


def test_the_callers_own_metadata_travels_in_order_and_what_we_consume_does_not() -> None:
    assert reached() == OURS + CALLERS
    assert reached(scripted("see", on_request=gives(PASS))) == OURS + CALLERS


def test_what_links_add_set_and_drop() -> None:
    added = edit(lambda headers: headers.set(b"x-new", b"n"))
    assert reached(added) == (*OURS, *CALLERS, (b"x-new", b"n"))
    replaced = edit(lambda headers: headers.set(b"x-a", b"n"))
    assert reached(replaced) == (*OURS, CALLERS[0], CALLERS[2], CALLERS[4], (b"x-a", b"n"))
    dropped = edit(lambda headers: headers.drop(b"x-a"))
    assert reached(dropped) == (*OURS, CALLERS[0], CALLERS[2], CALLERS[4])


@pytest.mark.parametrize("other", [lambda headers: None, lambda headers: headers.drop(b"x-a")], ids=["only", "beside"])
def test_a_reserved_name_travels_when_a_link_sets_it_and_never_when_the_caller_does(other: Any) -> None:
    """Whatever else the links edit, and also where the link says what the caller claimed."""
    for value in (b"spiffe://example.org/a", b"root"):
        fields = reached(edit(lambda headers, value=value: headers.set(b"x-langtrain-principal", value)), edit(other))
        assert [field for field in fields if field[0].startswith(b"x-langtrain")] == [(b"x-langtrain-principal", value)]
        assert not [field for field in fields if field[0] in {name for name, _ in CONSUMED[2:]}]


def test_edits_do_not_show_in_the_next_call() -> None:
    count = 0

    def once(call: Call) -> object:
        nonlocal count
        count += 1
        if count == 1:
            call.headers.set(b"x-a", b"edited")
            call.headers.set(b"x-new", b"new")
        return PASS

    with World([scripted("once", on_start=once)]) as world:
        world.answer = lambda call: call.answer(b"pong")
        for _ in range(3):
            call = world.call("unary", *CALLERS)
            call.message(b"ping", end=True)
            world.settle()
        first, second, third = (tapped.headers for tapped in world.tap)
        assert first != second == third == OURS + CALLERS


def respond(
    links: tuple[Interceptor, ...], *fields: tuple[bytes, bytes], only: bool = False, initial: Fields = ()
) -> tuple[Fields, Fields, Outcome]:
    """Head and trailers at the client, and the outcome."""
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        (tapped,) = world.tap
        if only:
            tapped.head(*initial, *fields, end=True)
        else:
            tapped.head(*initial)
            tapped.message(b"pong")
            tapped.trailers(*fields)
        world.settle()
        assert call.head is not None
        return call.head, call.trailers, pages[0][1]


HEAD: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
FAILED: Final = (
    (b"grpc-status", b"5"), (b"x-a", b"1"), (b"grpc-message", b"caf\xc3\xa9 %zz"), (b"grpc-status-details-bin", b"AA"),
)  # fmt: skip


def on_headers(run: Any) -> Interceptor:
    def hook(call: Call, headers: Headers) -> object:
        run(headers)
        return PASS

    return scripted("edit", on_headers=hook)


def on_trailers(run: Any) -> Interceptor:
    def hook(call: Call, trailers: Trailers) -> object:
        run(trailers)
        return PASS

    return scripted("edit", on_trailers=hook)


def test_response_headers_are_edited_in_reverse_order() -> None:
    outer = on_headers(lambda headers: headers.set(b"x-seen", (headers.get(b"x-seen") or b"") + b"outer"))
    inner = on_headers(lambda headers: headers.set(b"x-seen", b"inner,"))
    head, _, _ = respond((outer, inner), (b"grpc-status", b"0"), initial=((b"x-a", b"1"),))
    assert head == (*HEAD, (b"x-a", b"1"), (b"x-seen", b"inner,outer"))
    head, _, _ = respond((on_headers(lambda headers: headers.drop(b"x-a")),), *FAILED, initial=((b"x-a", b"1"),))
    assert head == HEAD


def test_an_edited_trailer_leaves_status_and_message_to_the_letter() -> None:
    add = on_trailers(lambda trailers: trailers.headers.set(b"x-new", b"n"))
    _, trailers, outcome = respond((add,), *FAILED)
    assert set(trailers) == {*FAILED, (b"x-new", b"n")}
    assert len(trailers) == 5
    assert outcome.status == 5
    _, trailers, _ = respond((add,), *FAILED, only=True)
    assert trailers[:2] == HEAD
    assert set(trailers[2:]) == {*FAILED, (b"x-new", b"n")}


def test_no_status_is_invented_where_there_was_none() -> None:
    _, trailers, outcome = respond(
        (on_trailers(lambda trailers: trailers.headers.set(b"x-new", b"n")),), (b"x-a", b"1")
    )
    assert trailers == ((b"x-a", b"1"), (b"x-new", b"n"))
    assert outcome.status == Code.UNKNOWN


@pytest.mark.parametrize("only", [False, True])
def test_another_status_takes_message_and_details_with_it(only: bool) -> None:
    seen: list[tuple[int, str]] = []

    def replace(trailers: Trailers) -> None:
        seen.append((trailers.status, trailers.message))
        trailers.end_with(Code.NOT_FOUND, "nothing à cet endroit")

    _, trailers, outcome = respond((on_trailers(replace),), *FAILED, only=only)
    assert seen == [(5, "café %zz")]
    own = ((b"x-a", b"1"), (b"grpc-status", b"5"), (b"grpc-message", b"nothing %C3%A0 cet endroit"))
    assert trailers == ((*HEAD, *own) if only else own)
    assert outcome.status == Code.NOT_FOUND


def test_a_denial_brings_details_and_trailers() -> None:
    deny = Deny(
        Code.RESOURCE_EXHAUSTED, "test.rate", "slow down", (Detail("type.googleapis.com/a.B", b"\x08\x01"),),
        ((b"x-wait", b"3"),),
    )  # fmt: skip
    for hook in ("on_start", "on_headers", "on_trailers"):
        if hook == "on_start":
            with World([scripted("deny", on_start=gives(deny))]) as world:
                call = world.call("unary")
                world.settle()
                trailers = call.trailers
        else:
            _, trailers, _ = respond((scripted("deny", **{hook: gives(deny)}),), (b"grpc-status", b"0"))
        assert trailers[-4:-2] == ((b"grpc-status", b"8"), (b"grpc-message", b"slow down"))
        assert trailers[-1] == (b"x-wait", b"3")
        assert trailers[-2][0] == b"grpc-status-details-bin"


class Redact(Interceptor):
    """Looks at messages only where a decision obliged it to."""

    name = "redact"
    view = View.BYTES
    honours = frozenset({"redact"})

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if "redact" in obligations else None

    def on_request(self, call: Call, message: Message) -> Any:
        return appends(b" redacted")(call, message)

    def on_response(self, call: Call, message: Message) -> Any:
        return appends(b" redacted")(call, message)


def obliges(name: str, asking: bool) -> Interceptor:
    def on_start(call: Call) -> Any:
        if asking:
            yield from ask(Question())
        call.oblige(name)
        return PASS

    def at_once(call: Call) -> object:
        call.oblige(name)
        return PASS

    return scripted("oblige", on_start=on_start if asking else at_once)


@pytest.mark.parametrize("asking", [False, True])
@pytest.mark.parametrize("shape", ["unary", "bidi"])
def test_an_obligation_chooses_the_deeper_plan(shape: str, asking: bool) -> None:
    with World([obliges("redact", asking), Redact()]) as world:
        world.answers.holds = asking
        world.answer = lambda call: call.answer(b"pong")
        call = world.call(shape)
        call.message(b"ping", end=True)
        world.settle()
        world.answers.settle()
        world.settle()
        assert (call.status, call.messages) == (0, [b"pong redacted"])
        assert world.tap[0].messages == [b"ping redacted"]
    with World([Redact()]) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call(shape)
        call.message(b"ping", end=True)
        world.settle()
        assert (call.messages, world.tap[0].messages) == ([b"pong"], [b"ping"])


@pytest.mark.parametrize("shape", ["unary", "bidi"])
def test_a_call_keeps_the_chain_it_began_with(shape: str) -> None:
    """A reload, while a start hook waits, to a chain in which nobody redacts."""
    with World([obliges("redact", asking=True), Redact()]) as world:
        world.answers.holds = True
        world.answer = lambda call: call.answer(b"pong")
        call = world.call(shape)
        call.message(b"ping", end=True)
        world.settle()
        world.relay.switch(world.relay.settings, Chain([]), Codecs(NO_CODEC))
        world.answers.settle()
        world.settle()
        assert (call.status, call.messages) == (0, [b"pong redacted"])
        assert world.tap[0].messages == [b"ping redacted"]


@pytest.mark.parametrize("asking", [False, True])
def test_an_obligation_that_nobody_honours_denies(asking: bool) -> None:
    with World([obliges("encrypt", asking), Redact()]) as world:
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        assert call.status == Code.PERMISSION_DENIED
        assert not world.tap


def test_a_chain_that_only_observes_lets_everything_pass() -> None:
    hooks = ("on_start", "on_request", "on_headers", "on_response", "on_flush", "on_trailers")
    seen: list[tuple[Deny, ...]] = []
    look = scripted("look", observer=True, on_end=lambda call, outcome: seen.append(call.would_deny))
    links = [look, *[scripted(hook, **{hook: gives(NO)}) for hook in hooks]]
    with World(Chain(links, observe_only=True)) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = world.call("unary")
        call.message(b"ping", end=True)
        world.settle()
        assert (call.status, call.messages, world.tap[0].messages) == (0, [b"pong"], [b"ping"])
        assert world.tap[0].kinds == ["HEADERS", "DATA", "END"]
    assert [denial.reason for denial in seen[0]] == ["test.no"] * 7  # on_flush runs for either side


def test_links_hear_what_time_it_is() -> None:
    """`call.now` moves before each hook."""
    seen: list[float] = []

    def look(call: Call, *rest: object) -> object:
        seen.append(call.now - call.started)
        return PASS

    hooks = ("on_start", "on_request", "on_flush", "on_headers", "on_response", "on_trailers", "on_end")
    with World([scripted("look", **dict.fromkeys(hooks, look))]) as world:
        call = world.call("bidi")
        world.advance(1)
        call.message(b"one")
        world.advance(1)
        call.half_close()
        world.advance(1)
        (tapped,) = world.tap
        tapped.head()
        world.advance(1)
        tapped.message(b"two")
        world.advance(1)
        tapped.trailers()
        world.settle()
    assert seen == [0, 1, 2, 3, 4, 5, 5, 5]


def test_one_message_held_until_the_answer_of_another_link() -> None:
    """A link that releases at flush meets one that asks behind it."""

    def asked(call: Call, message: Message) -> Any:
        yield from ask(Question())
        return Forward((Message(message.raw.upper()),))

    held: list[Message] = []

    def hold(call: Call, message: Message) -> Forward:
        held.append(message)
        return Forward()

    release = scripted("hold", on_request=hold, on_flush=lambda call, response: Forward(() if response else (*held,)))
    with World([release, scripted("ask", on_request=asked)]) as world:
        world.answers.holds = True
        world.answer = lambda call: call.answer(b"pong")
        call = world.call("client")
        call.message(b"one", b"two", end=True)
        world.settle()
        for _ in range(2):
            assert not world.tap[0].data
            world.answers.settle()
            world.settle()
        assert (call.status, world.tap[0].messages) == (0, [b"ONE", b"TWO"])
