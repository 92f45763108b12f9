"""What a chain makes of its links' verdicts, by table and by transcript."""

from __future__ import annotations

from typing import Any

import pytest

from interceptors.chain import Chain, ChainError
from interceptors.contract import (
    HOLD,
    PASS,
    AnswerError,
    Call,
    Code,
    CodecError,
    Deny,
    Detail,
    Forward,
    Headers,
    Interceptor,
    Message,
    Method,
    ModelName,
    NoCodec,
    Outcome,
    Trailers,
    View,
)
from tests.interceptors.links import Hold, Question, appends, asks, diary, gives, scripted
from tests.playbook import (
    METHOD,
    PEER,
    Playbook,
    Session,
    cancel,
    denied,
    end,
    half_close,
    nothing,
    request,
    response,
    response_headers,
    run,
    start,
    status,
    trailers,
)

UNARY = Method("/test.Service/Unary", True, True)
SHAPES = [
    UNARY,
    Method("/test.Service/ServerStream", True, False),
    Method("/test.Service/ClientStream", False, True),
    Method("/test.Service/Bidi", False, False),
]
HOOKS = ["on_start", "on_request", "on_headers", "on_response", "on_trailers", "on_flush"]
NO = Deny(Code.PERMISSION_DENIED, "test.no", "go away")
NOTHING: Any = None
UNSOUND: list[Any] = [
    (Code.OK, "test.no"),
    (0, "test.no"),
    ("PERMISSION_DENIED", "test.no"),
    (Code.ABORTED, None),
    (Code.ABORTED, "test.no", None),
    (Code.ABORTED, "test.no", "no", (b"detail",)),
    (Code.ABORTED, "test.no", "no", (Detail("type.googleapis.com/a.B", NOTHING),)),
    (Code.ABORTED, "test.no", "no", [Detail("type.googleapis.com/a.B", b"")]),
    (Code.ABORTED, "test.no", "no", (), [(b"x-a", b"a")]),
    (Code.ABORTED, "test.no", "no", (), ((b"grpc-status", b"0"),)),
    (Code.ABORTED, "test.no", "no", (), ((b"grpc-retry-pushback-ms", b"-1"),)),
    (Code.ABORTED, "test.no", "no", (), ((b"grpc-retry-pushback-ms", b"soon"),)),
    (Code.ABORTED, "test.no", "no", (), ((b"x-a", b"a\r\nb"),)),
    (Code.ABORTED, "test.no", "no", (), (b"x-a",)),
]
BYTES: Any = (b"not a message",)
NO_MESSAGES = Forward(BYTES)


class Fact:
    """Something that a link knows."""


class Words(NoCodec):
    """A codec whose decoded form is a list of words. decodes: how often it was asked."""

    def __init__(self) -> None:
        self.decodes = 0

    def models(self, raw: bytes, response: bool) -> tuple[ModelName, ...]:
        return ()

    def decode(self, raw: bytes, response: bool) -> object:
        self.decodes += 1
        if raw == b"broken":
            raise CodecError("broken")
        return raw.split()

    def encode(self, body: object, response: bool) -> bytes:
        assert isinstance(body, list)
        return b" ".join(body)


def puts(call: Call) -> object:
    call.put(Fact())
    return PASS


# --- messages -----------------------------------------------------------------------------------------------------


def test_untouched() -> None:
    assert Playbook([]) >> request(b"a") << b"a" >> response(b"b") << b"b" >> end << status(0)


def test_requests_pass_in_order_and_responses_in_reverse() -> None:
    links = [
        scripted(name, on_request=appends(text), on_response=appends(text))
        for name, text in (("one", b"1"), ("two", b"2"))
    ]
    assert Playbook(links) >> request(b"q") << b"q12" >> response(b"r") << b"r21" >> end


def test_hold_and_release() -> None:
    assert (
        Playbook(Hold())
        >> request(b"a")
        << nothing
        >> request(b"b")
        << nothing
        >> half_close
        << b"a"
        << b"b"
        >> response(b"c")
        << nothing
        >> trailers(0)
        << b"c"
    )


def test_what_is_released_passes_the_links_behind() -> None:
    mark = scripted("mark", on_request=appends(b"!"), on_response=appends(b"?"))
    assert Playbook([Hold(), mark]) >> request(b"a") << nothing >> half_close << b"a!" >> response(b"r") >> end << b"r?"
    assert Playbook([mark, Hold()]) >> request(b"a") << nothing >> half_close << b"a!" >> response(b"r") >> end << b"r?"


def test_drop_and_split_on_streams() -> None:
    def twice(call: Call, message: Message) -> object:
        return HOLD if message.raw == b"drop" else Forward((message, Message(message.raw + b"2")))

    links = [scripted("twice", on_request=twice), scripted("mark", on_request=appends(b"."))]
    assert Playbook(links) >> request(b"a") << b"a." << b"a2." >> request(b"drop") << nothing >> end


@pytest.mark.parametrize("response_side", [False, True])
@pytest.mark.parametrize(
    ("on_message", "on_flush"),
    [
        (gives(HOLD), gives(PASS)),  # dropped
        (gives(Forward((Message(b"1"), Message(b"2")))), gives(PASS)),  # split
        (gives(PASS), gives(Forward((Message(b"extra"),)))),  # added at the flush
        (gives(HOLD), gives(Forward((Message(b"1"), Message(b"2"))))),  # released as two
    ],
)
def test_a_unary_side_keeps_its_count(on_message: Any, on_flush: Any, response_side: bool) -> None:
    hook = "on_response" if response_side else "on_request"
    for shape in SHAPES:
        unary = shape.unary_response if response_side else shape.unary_request
        link = scripted(
            "link", **{hook: on_message}, on_flush=lambda call, side: on_flush() if side is response_side else PASS
        )
        told = run(Chain([link]), shape, [b"q"], [b"r"])
        if unary:
            assert told.denied == Deny(Code.INTERNAL, "chain.message_count"), shape
            assert len(told.client if response_side else told.upstream) <= 1
            assert told.reset is (response_side or told.upstream != [])
        else:
            assert told.denied is None


@pytest.mark.parametrize("shape", SHAPES)
def test_hold_then_release_is_legal_on_every_shape(shape: Method) -> None:
    told = run(Chain([Hold()]), shape, [b"q"], [b"r"])
    assert (told.upstream, told.client, told.status) == ([b"q"], [b"r"], 0)


def test_a_unary_side_without_messages_gets_none_added() -> None:
    link = scripted("link", on_flush=lambda call, side: Forward((Message(b"x"),)) if side else PASS)
    told = run(Chain([link]), UNARY, [b"q"], [], trailers=(5, "not found", ()))
    assert told.denied == Deny(Code.INTERNAL, "chain.message_count")
    assert told.client == []


def test_a_split_that_a_later_link_merges_keeps_the_count() -> None:
    def last(call: Call, message: Message) -> object:
        return PASS if message.raw == b"2" else HOLD

    links = [
        scripted("split", on_request=gives(Forward((Message(b"1"), Message(b"2"))))),
        scripted("m", on_request=last),
    ]
    assert Playbook(links, UNARY) >> request(b"q") << b"2" >> end


@pytest.mark.parametrize("second", [request, response])
def test_a_second_message_on_a_unary_side_is_refused(second: Any) -> None:
    book = Playbook(scripted(on_request=gives(PASS), on_response=gives(PASS)), UNARY) >> request(b"a") << b"a"
    if second is response:
        book = book >> half_close >> response(b"r") << b"r"
    assert book >> second(b"b") << denied(Code.UNIMPLEMENTED, f"chain.second_{second.__name__}")


def test_a_denial_drops_what_was_held() -> None:
    links = [Hold(), scripted("guard", on_flush=lambda call, side: NO)]
    told = run(Chain(links), METHOD, [b"a", b"b"])
    assert (told.upstream, told.half_closed, told.reset) == ([], False, True)
    assert (told.status, told.message) == (Code.PERMISSION_DENIED, "go away")


def test_denial_at_message_n() -> None:
    guard = scripted("guard", on_request=lambda call, message: NO if message.raw == b"3" else PASS)
    told = run(Chain([guard]), METHOD, [b"1", b"2", b"3", b"4"])
    assert (told.upstream, told.denied, told.reset, told.half_closed) == ([b"1", b"2"], NO, True, False)


def test_a_hook_of_an_instance_counts() -> None:
    link = scripted("link")
    vars(link)["on_start"] = gives(NO)
    assert run(Chain([link])).denied == NO


# --- verdicts -----------------------------------------------------------------------------------------------------


def _outcomes() -> list[Any]:
    error = ValueError("a secret")
    return [
        pytest.param(gives(NO), NO, id="deny"),
        pytest.param(asks(NO), NO, id="asked deny"),
        pytest.param(gives(None), Deny(Code.INTERNAL, "link.no_verdict"), id="None"),
        pytest.param(asks(None), Deny(Code.INTERNAL, "link.no_verdict"), id="asked None"),
        pytest.param(gives(True), Deny(Code.INTERNAL, "link.no_verdict"), id="True"),
        pytest.param(gives(error), Deny(Code.INTERNAL, "link.error:ValueError"), id="exception"),
        pytest.param(asks(error), Deny(Code.INTERNAL, "link.error:ValueError"), id="asked exception"),
        pytest.param(gives(SystemExit(0)), Deny(Code.INTERNAL, "link.error:SystemExit"), id="exit"),
        pytest.param(asks(SystemExit(0)), Deny(Code.INTERNAL, "link.error:SystemExit"), id="asked exit"),
        *[
            pytest.param(gives(Deny(*fields)), Deny(Code.INTERNAL, "link.denial"), id=f"unsound {fields[0]}")
            for fields in UNSOUND
        ],
        pytest.param(gives(NO_MESSAGES), Deny(Code.INTERNAL, "link.forward"), id="no message"),
        pytest.param(_yields_nonsense, Deny(Code.INTERNAL, "link.error:TypeError"), id="yields no question"),
    ]


def _yields_nonsense(*args: object) -> Any:
    yield "what?"
    return PASS


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.path.rpartition("/")[2])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("function", "expected"), _outcomes())
def test_every_hook_fails_closed(hook: str, function: Any, expected: Deny, shape: Method) -> None:
    told = run(Chain([scripted("link", **{hook: function})]), shape, [b"q"], [b"r"], answers={Question: True})
    assert told.denied == expected
    assert told.status == expected.code
    assert "secret" not in told.message
    assert told.trailers == ()
    reached = {
        "on_start": ([], []),
        "on_request": ([], []),
        "on_flush": ([] if shape.unary_request else [b"q"], []),
        "on_headers": ([b"q"], []),
        "on_response": ([b"q"], []),
        "on_trailers": ([b"q"], [b"r"]),
    }
    assert (told.upstream, told.client) == reached[hook]
    if hook == "on_start":
        assert told.upstream_headers is None


@pytest.mark.parametrize("hook", ["on_start", "on_headers", "on_trailers"])
@pytest.mark.parametrize("function", [gives(HOLD), gives(Forward((Message(b"x"),))), asks(HOLD)])
def test_forward_where_there_is_no_message_denies(hook: str, function: Any) -> None:
    told = run(Chain([scripted("link", **{hook: function})]), METHOD, [b"q"], [b"r"], answers={Question: True})
    assert told.denied == Deny(Code.INTERNAL, "link.forward")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    "function", [gives(ValueError("x")), asks(ValueError("x")), gives(SystemExit("x")), asks(SystemExit("x"))]
)
def test_only_an_observers_exception_lets_the_call_go_on(hook: str, function: Any) -> None:
    link = scripted("link", observer=True, **{hook: function})
    session = Session(Chain([scripted("mark", on_request=appends(b"!")), link]), UNARY, answers={Question: True})
    for step in (request(b"q"), half_close, response(b"r"), trailers(0)):
        step(session)
    told = session.told
    assert (told.upstream, told.client, told.denied, told.status) == ([b"q!"], [b"r"], None, 0)
    assert {(fault.link, fault.hook, str(fault.error)) for fault in session.call.faults} == {("link", hook, "x")}


@pytest.mark.parametrize("hook", HOOKS)
def test_an_observer_that_gives_no_verdict_denies_like_any_other(hook: str) -> None:
    told = run(Chain([scripted("link", observer=True, **{hook: gives(None)})]), METHOD, [b"q"], [b"r"])
    assert told.denied == Deny(Code.INTERNAL, "link.no_verdict")


def test_faults_of_a_stream_are_bounded() -> None:
    session = Session(Chain([scripted("link", observer=True, on_request=gives(ValueError("x")))]))
    for _ in range(100):
        session.request(b"q")
    assert len(session.told.upstream) == 100
    assert len(session.call.faults) == 16


# --- questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_answers_reach_every_hook(hook: str) -> None:
    link = scripted("link", **{hook: asks(PASS, NO)})
    assert run(Chain([link]), UNARY, [b"q"], [b"r"], answers={Question: True}).status == 0
    assert run(Chain([link]), UNARY, [b"q"], [b"r"], answers={Question: False}).denied == NO


def test_what_cannot_be_answered_is_unavailable() -> None:
    link = scripted("link", on_start=asks(PASS))
    for answers in ({}, {Question: AnswerError("helper is gone")}):
        assert run(Chain([link]), answers=answers).denied == Deny(Code.UNAVAILABLE, "link.error:AnswerError")


def test_a_hook_may_handle_an_answer_that_fails() -> None:
    def tolerant(call: Call) -> Any:
        try:
            yield Question()
        except AnswerError:
            return PASS
        return None

    assert run(Chain([scripted("link", on_start=tolerant)])).status == 0


def test_a_generator_that_asks_nothing_is_settled_at_once() -> None:
    def quiet(call: Call) -> Any:
        return NO
        yield

    chain = Chain([scripted("link", on_start=quiet)])
    assert chain.plan(METHOD).start(Call(METHOD, Headers(()), PEER, 0.0)) == NO


@pytest.mark.parametrize("observer", [False, True])
@pytest.mark.parametrize("cleanup", [None, ValueError("x"), "asks again"])
def test_closing_a_half_run_hook_ends_it_quietly(cleanup: object, observer: bool) -> None:
    closed: list[str] = []

    def hook(call: Call) -> Any:
        try:
            yield Question()
        finally:
            closed.append("closed")
            if isinstance(cleanup, Exception):
                raise cleanup
            if cleanup:
                yield Question()

    pages: list[tuple[str, Outcome]] = []
    links = [diary(pages, "first", False, on_start=gives(PASS)), scripted("link", observer=observer, on_start=hook)]
    later = diary(pages, "later", False, on_start=asks(PASS))
    chain = Chain([*links, later])
    call = Call(METHOD, Headers(()), PEER, 0.0)
    steps: Any = chain.plan(METHOD).start(call)
    assert isinstance(next(steps), Question)
    steps.close()
    assert closed == ["closed"]
    assert len(call.faults) == (cleanup is not None)
    chain.plan(METHOD).end(call, Outcome(Code.CANCELLED, None, 0.0, cancelled=True))
    assert [name for name, _ in pages] == ["first"]


def test_an_unstarted_generator_may_be_closed() -> None:
    steps: Any = Chain([scripted("link", on_start=asks(PASS))]).plan(METHOD).start(Call(METHOD, Headers(()), PEER, 0.0))
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


# --- the end ------------------------------------------------------------------------------------------------------


def test_on_end_runs_once_in_reverse_for_links_that_began_and_for_observers() -> None:
    pages: list[tuple[str, Outcome]] = []
    links = [
        diary(pages, "one", False),
        diary(pages, "two", False, on_start=gives(NO)),
        diary(pages, "three", False, on_start=gives(PASS)),
        diary(pages, "watch"),
    ]
    session = Session(Chain(links))
    session.start()
    session.plan.end(session.call, Outcome(0, None, 0.0))
    assert [name for name, _ in pages] == ["watch", "two", "one"]
    assert {outcome.denied for _, outcome in pages} == {NO}


def test_links_that_begin_after_a_question_end_too() -> None:
    pages: list[tuple[str, Outcome]] = []
    links = [
        diary(pages, "one", False, on_start=asks(PASS)),
        diary(pages, "two", False, on_start=gives(NO)),
        diary(pages, "three", False, on_start=gives(PASS)),
    ]
    session = Session(Chain(links), answers={Question: True})
    session.start()
    assert [name for name, _ in pages] == ["two", "one"]


def test_an_exception_in_on_end_stops_nobody() -> None:
    pages: list[tuple[str, Outcome]] = []
    broken = scripted("broken", on_end=gives(ValueError("x")))
    session = Session(Chain([diary(pages, "a"), broken, diary(pages, "b")]))
    session.trailers()
    assert [name for name, _ in pages] == ["b", "a"]
    assert [(fault.link, fault.hook) for fault in session.call.faults] == [("broken", "on_end")]


def test_a_call_that_never_started_is_seen_by_observers_only() -> None:
    pages: list[tuple[str, Outcome]] = []
    plan = Chain([diary(pages, "guard", False), diary(pages, "watch")]).plan(METHOD)
    plan.end(Call(METHOD, Headers(()), PEER, 0.0), Outcome(14, None, 0.0))
    assert [name for name, _ in pages] == ["watch"]


def test_a_cancelled_call_ends_too() -> None:
    pages: list[tuple[str, Outcome]] = []
    assert Playbook(diary(pages)) >> request(b"a") << b"a" >> cancel << status(Code.CANCELLED)
    assert pages[0][1].cancelled


# --- headers and trailers -----------------------------------------------------------------------------------------


def test_headers_and_trailers_can_be_edited() -> None:
    def on_start(call: Call) -> object:
        call.headers.set(b"x-from", b"sidecar")
        return PASS

    def on_headers(call: Call, headers: Headers) -> object:
        headers.drop(b"server")
        return PASS

    def on_trailers(call: Call, ending: Trailers) -> object:
        ending.end_with(Code.NOT_FOUND, "nothing here")
        ending.headers.set(b"x-why", b"because")
        return PASS

    link = scripted("edit", View.METADATA, on_start=on_start, on_headers=on_headers, on_trailers=on_trailers)
    book = Playbook(link, headers=[(b"x-from", b"caller"), (b"a", b"b")])
    assert book >> response_headers((b"server", b"x"), (b"k", b"v")) >> trailers(0) << status(5, "nothing here")
    told = book.session.told
    assert told.upstream_headers == ((b"a", b"b"), (b"x-from", b"sidecar"))
    assert told.client_headers == ((b"k", b"v"),)
    assert told.trailers == ((b"x-why", b"because"),)


@pytest.mark.parametrize("name", [b":path", b"grpc-status", b"content-type", b"host", b"X-Upper", b"", b"a b"])
def test_a_link_cannot_set_a_calls_own_headers(name: bytes) -> None:
    headers = Headers(((b"content-type", b"application/grpc"),))
    with pytest.raises(ValueError, match="may not be changed"):
        headers.set(name, b"x")
    with pytest.raises(ValueError, match="may not be changed"):
        headers.drop(name)
    assert not headers.changed


@pytest.mark.parametrize("value", [b"a\r\nb", b"\x00", b"\x7f", b" a", b"a ", "ü".encode()])
def test_a_link_cannot_set_a_value_that_may_not_travel(value: bytes) -> None:
    with pytest.raises(ValueError, match="octets"):
        Headers(()).set(b"x-a", value)


def test_edits_stand_beside_what_came() -> None:
    came = ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    headers = Headers(came)
    assert (headers.fields, headers.changed, headers.all(b"a")) == (came, False, (b"1", b"3"))
    headers.drop(b"c")
    assert not headers.changed
    headers.set(b"a", b"4")
    headers.set(b"c", b"5")
    assert (headers.fields, headers.get(b"a")) == (((b"b", b"2"), (b"a", b"4"), (b"c", b"5")), b"4")
    headers.set(b"a", b"6")
    headers.drop(b"c")
    assert (headers.fields, headers.get(b"c"), headers.given) == (((b"b", b"2"), (b"a", b"6")), None, came)


# --- facts and obligations ----------------------------------------------------------------------------------------


def test_a_promised_fact_that_was_not_put_denies() -> None:
    for verdict in (gives(PASS), asks(PASS)):
        link = scripted("link", gives=frozenset({Fact}), on_start=verdict)
        told = run(Chain([link]), answers={Question: True})
        assert told.denied == Deny(Code.INTERNAL, "link.missing:Fact")


def test_an_observers_fault_is_not_asked_for_its_fact() -> None:
    link = scripted("link", gives=frozenset({Fact}), observer=True, on_start=gives(ValueError("x")))
    needy = scripted("needy", needs=frozenset({Fact}), on_start=lambda call: call.get(Fact) and PASS)
    assert run(Chain([link])).status == 0
    assert run(Chain([link, needy])).denied == Deny(Code.INTERNAL, "needy.error:KeyError")


def test_a_wrong_order_is_found_at_once() -> None:
    giver = scripted("giver", gives=frozenset({Fact}), on_start=puts)
    needy = scripted("needy", needs=frozenset({Fact}))
    Chain([giver, needy])
    with pytest.raises(ChainError, match="'needy' needs the fact Fact; it is given by only giver, which must stand"):
        Chain([needy, giver])
    with pytest.raises(ChainError, match="it is given by no link of this chain"):
        Chain([needy])


async def _async(*args: object) -> object:
    return PASS


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (object(), "got object"),
        (Interceptor(), "has no name"),
        (scripted("a", View.METADATA, on_request=gives(PASS)), "overrides on_request, expected view BYTES"),
        (scripted("a", View.METADATA, on_flush=gives(PASS)), "overrides on_flush, expected view BYTES"),
        (scripted("a", needs={Fact}), "needs is a set, expected a frozenset"),
        (scripted("a", observer=None), "observer is a NoneType, expected a bool"),
        (scripted("a", on_start=_async), "on_start is async"),
        (scripted("a", on_end=asks(PASS)), "on_end is a generator"),
        (scripted("a", gives=frozenset({Fact})), "expected an on_start that puts it"),
    ],
)
def test_links_that_no_chain_can_run(link: Any, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        Chain([link])


def _obliging(name: str) -> Interceptor:
    def on_start(call: Call) -> object:
        call.oblige(name)
        return PASS

    return scripted("policy", on_start=on_start)


def test_an_obligation_chooses_the_deeper_plan() -> None:
    def depth(method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if "redact:pii" in obligations else None

    redact = scripted("redact", depth=depth, honours=frozenset({"redact:pii"}), on_request=appends(b"[-]"))
    assert Chain([redact]).plan(METHOD).request_view is View.METADATA
    assert Playbook([redact]) >> request(b"a") << b"a" >> end
    for links in ([_obliging("redact:pii"), redact], [redact, _obliging("redact:pii")]):
        assert Playbook(links) >> request(b"a") << b"a[-]" >> end


@pytest.mark.parametrize(
    "link",
    [
        scripted("deaf"),
        scripted("other", honours=frozenset({"redact:names"})),
        scripted("absent", honours=frozenset({"redact:pii"}), depth=gives(None)),
        scripted("blind", honours=frozenset({"redact:pii"}), depth=gives(View.METADATA), on_request=gives(PASS)),
    ],
    ids=lambda link: link.name,
)
def test_an_obligation_that_no_link_honours_denies(link: Interceptor) -> None:
    told = run(Chain([_obliging("redact:pii"), link]))
    assert told.denied == Deny(Code.PERMISSION_DENIED, "chain.unmet_obligation:redact:pii")
    assert told.upstream_headers is None


def test_an_obligation_after_the_start_denies() -> None:
    def late(call: Call, message: Message) -> object:
        call.oblige("redact:pii")
        return PASS

    link = scripted("late", honours=frozenset({"redact:pii"}), on_request=late)
    assert run(Chain([link]), METHOD, [b"a"]).denied == Deny(Code.INTERNAL, "late.error:RuntimeError")


def test_what_may_be_owed_is_honoured_where_it_can_be() -> None:
    def on_start(call: Call) -> object:
        call.may_oblige(frozenset({"redact:pii", "nobody can"}))
        return PASS

    owed = []

    def look(call: Call, message: Message) -> object:
        owed.append(call.obligations)
        return PASS

    def depth(method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if "redact:pii" in obligations else None

    link = scripted("policy", on_start=on_start, on_request=look)
    redact = scripted("redact", depth=depth, honours=frozenset({"redact:pii"}), on_request=appends(b"[-]"))
    assert Playbook([link, redact]) >> request(b"a") << b"a[-]" >> end
    assert Playbook([link]) >> request(b"a") << b"a" >> end
    assert owed == [frozenset({"redact:pii"}), frozenset()]


def test_what_may_be_owed_after_the_start_denies() -> None:
    def late(call: Call, message: Message) -> object:
        call.may_oblige(frozenset({"redact:pii"}))
        return PASS

    link = scripted("late", on_request=late)
    assert run(Chain([link]), METHOD, [b"a"]).denied == Deny(Code.INTERNAL, "late.error:RuntimeError")


def test_a_depth_that_raises_denies_at_the_start() -> None:
    told = run(Chain([scripted("link", depth=gives(ValueError("x")), on_request=gives(PASS))]))
    assert told.denied == Deny(Code.INTERNAL, "link.error:ValueError")


# --- plans --------------------------------------------------------------------------------------------------------


def test_plans_look_no_deeper_than_their_links() -> None:
    def views(*links: Interceptor) -> tuple[View, View]:
        plan = Chain(links).plan(METHOD)
        return plan.request_view, plan.response_view

    assert views() == (View.METADATA, View.METADATA)
    assert views(scripted("a", on_start=gives(PASS))) == (View.METADATA, View.METADATA)
    assert views(scripted("a", on_request=gives(PASS))) == (View.BYTES, View.METADATA)
    assert views(scripted("a", View.DECODED, on_response=gives(PASS)), Hold()) == (View.BYTES, View.DECODED)
    assert views(scripted("a", on_flush=gives(PASS))) == (View.BYTES, View.BYTES)


def test_a_plan_says_which_blocks_it_edits() -> None:
    plan = Chain([scripted("a", on_headers=gives(PASS))]).plan(METHOD)
    assert (plan.edits_headers, plan.edits_trailers) == (True, False)


def test_plans_are_remembered_within_bounds() -> None:
    chain = Chain([Hold()])
    assert chain.plan(METHOD) is chain.plan(Method(*METHOD))
    plans = {id(chain.plan(Method(f"/a.B/M{number}"))) for number in range(10_000)}
    assert plans == {id(chain.plan(METHOD))}
    assert len(chain._plans) <= 4096


def test_methods_of_unknown_shape_are_streams() -> None:
    assert Playbook([], Method("/a.B/C")) >> request(b"a") << b"a" >> request(b"b") << b"b" >> end


# --- decoded forms ------------------------------------------------------------------------------------------------


def test_decoded_links_get_a_body_that_agrees_with_the_bytes() -> None:
    seen: list[tuple[bytes, object]] = []

    def look(call: Call, message: Message) -> object:
        seen.append((message.raw, message.body))
        return PASS

    def reverse(call: Call, message: Message) -> object:
        assert isinstance(message.body, list)
        return Forward((Message.of(call, message.body[::-1], False),))

    links = [
        scripted("raw", on_request=look),
        scripted("first", View.DECODED, on_request=look),
        scripted("reverse", View.DECODED, on_request=reverse),
        scripted("bytes", on_request=appends(b" end")),
        scripted("last", View.DECODED, on_request=look),
    ]
    assert Playbook(links, codec=Words()) >> request(b"a b") << b"b a end" >> end
    assert seen == [(b"a b", None), (b"a b", [b"a", b"b"]), (b"b a end", [b"b", b"a", b"end"])]


def test_a_message_is_decoded_once_for_all_who_look() -> None:
    links = [scripted(name, View.DECODED, on_request=gives(PASS), on_flush=gives(PASS)) for name in ("one", "two")]
    codec = Words()
    assert Playbook([*links, Hold(), *links], codec=codec) >> request(b"a") << nothing >> half_close << b"a" >> end
    assert codec.decodes == 1


def test_what_cannot_be_decoded() -> None:
    link = scripted("deep", View.DECODED, on_request=gives(PASS), on_response=gives(PASS))
    assert Playbook(link, codec=Words()) >> request(b"broken") << denied(Code.INVALID_ARGUMENT, "deep.malformed")
    assert Playbook(link, codec=Words()) >> response(b"broken") << denied(Code.INTERNAL, "deep.malformed")
    assert Playbook(link) >> request(b"opaque") << denied(Code.INVALID_ARGUMENT, "deep.malformed")
    watcher = scripted("deep", View.DECODED, observer=True, on_request=gives(NO))
    assert Playbook(watcher, codec=Words()) >> request(b"broken") << b"broken" >> end


# --- observing ----------------------------------------------------------------------------------------------------


def test_observing_notes_what_would_be_denied() -> None:
    links = [
        scripted("a", gives=frozenset({Fact}), on_start=gives(NO)),
        scripted("b", on_request=gives(None), on_headers=gives(NO), on_trailers=gives(ValueError("x"))),
        scripted("c", View.DECODED, on_response=gives(PASS)),
        _obliging("nobody can"),
    ]
    chain = Chain(links, observe_only=True)
    session = Session(chain, UNARY)
    for step in (start, request(b"q"), half_close, response(b"r"), trailers(0)):
        step(session)
    assert (session.told.upstream, session.told.client, session.told.status) == ([b"q"], [b"r"], 0)
    assert [denial.reason for denial in session.call.would_deny] == [
        "test.no",
        "chain.unmet_obligation:nobody can",
        "b.no_verdict",
        "test.no",
        "c.malformed",
        "b.error:ValueError",
    ]


def test_observing_still_keeps_a_unary_sides_count() -> None:
    link = scripted("link", on_request=gives(Forward((Message(b"1"), Message(b"2")))))
    assert run(Chain([link], observe_only=True), UNARY, [b"q"]).denied == Deny(Code.INTERNAL, "chain.message_count")


def test_would_be_denials_of_a_stream_are_bounded() -> None:
    session = Session(Chain([scripted("link", on_request=gives(NO))], observe_only=True))
    for _ in range(100):
        session.request(b"q")
    assert len(session.told.upstream) == 100
    assert len(session.call.would_deny) == 16
