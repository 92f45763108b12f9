"""Properties of chains whatever their links do, against a plain reading of the rules."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.chain import Chain
from interceptors.contract import (
    PASS,
    Call,
    Code,
    Deny,
    Forward,
    Headers,
    Interceptor,
    Message,
    Outcome,
    Pass,
    Trailers,
)
from tests.interceptors.links import scripted
from tests.interceptors.random_chains import ANSWERS, FORBIDDEN, Script, build, scripts
from tests.playbook import PEER, Session, Transcript, run


class Refused(Exception):
    """The plain reading came to a denial."""

    def __init__(self, denial: Deny) -> None:
        self.denial = denial


def plain(script: Script) -> Transcript:
    """The rules of a chain, read off the page: one loop a rule, nothing compiled and nothing skipped."""
    told = Transcript(trailers=())
    links = [build(behaviour) for behaviour in script.behaviours]
    call = Call(script.method, Headers(()), PEER, 0.0)
    try:
        for link in links:
            _block(link, link.on_start, call)
        if not script.method.unary_request:
            told.upstream_headers = ()
        _side(told, call, links, script.requests, False, script.method.unary_request)
        told.half_closed = True
        for link in reversed(links):
            _block(link, link.on_headers, call, Headers(()))
        told.client_headers = ()
        _side(told, call, links[::-1], script.responses, True, script.method.unary_response)
        for link in reversed(links):
            _block(link, link.on_trailers, call, Trailers(0, "", Headers(())))
        told.status = 0
    except Refused as refused:
        told.denied, told.status, told.message = refused.denial, int(refused.denial.code), refused.denial.public
        told.reset = told.upstream_headers is not None
    return told


def _side(
    told: Transcript, call: Call, links: list[Interceptor], raws: tuple[bytes, ...], response: bool, unary: bool
) -> None:
    sent: list[Message] = []
    arrived = told.client if response else told.upstream

    def send(messages: list[Message]) -> None:
        if unary and len(sent) + len(messages) > 1:
            raise Refused(Deny(Code.INTERNAL, "chain.message_count"))
        sent.extend(messages)
        if response or not unary:
            arrive(messages)

    def arrive(messages: list[Message]) -> None:
        arrived.extend(message.raw for message in messages)
        told.order.extend(("client" if response else "upstream", message.raw) for message in messages)

    for raw in raws:
        send(_pass(call, links, [Message(raw)], response, False))
    released = _pass(call, links, [], response, True)
    if unary and len(sent) + len(released) != len(raws):
        raise Refused(Deny(Code.INTERNAL, "chain.message_count"))
    send(released)
    if not response:
        told.upstream_headers = ()
        if unary:  # goes upstream as a whole
            arrive(sent)


def _pass(call: Call, links: list[Interceptor], messages: list[Message], response: bool, flush: bool) -> list[Message]:
    for link in links:
        hook: Callable[..., object] = link.on_response if response else link.on_request
        out: list[Message] = []
        for message in messages:
            verdict = _verdict(link, hook, call, message)
            out += verdict.messages if isinstance(verdict, Forward) else (message,)
        if flush:
            verdict = _verdict(link, link.on_flush, call, response)
            out += verdict.messages if isinstance(verdict, Forward) else ()
        messages = out
    return messages


def _block(link: Interceptor, hook: Callable[..., object], *args: object) -> None:
    if isinstance(_verdict(link, hook, *args), Forward):
        raise Refused(Deny(Code.INTERNAL, f"{link.name}.forward"))


def _verdict(link: Interceptor, hook: Callable[..., object], *args: object) -> Pass | Forward:
    try:
        got = hook(*args)
        if isinstance(got, Generator):
            try:
                next(got)
                got.send(True)
            except StopIteration as done:
                got = done.value
    except Exception as error:
        if link.observer:
            return PASS
        raise Refused(Deny(Code.INTERNAL, f"{link.name}.error:{type(error).__name__}")) from None
    if isinstance(got, Deny):
        raise Refused(got)
    if not isinstance(got, (Pass, Forward)):
        raise Refused(Deny(Code.INTERNAL, f"{link.name}.no_verdict"))
    return got


def compiled(script: Script, extra: Interceptor | None = None, at: int = 0, **options: Any) -> Transcript:
    links = [build(behaviour) for behaviour in script.behaviours]
    if extra:
        links.insert(at, extra)
    return run(Chain(links, **options), script.method, script.requests, script.responses, answers=ANSWERS)


@settings(max_examples=300, deadline=None)
@given(scripts())
def test_compiled_plans_do_what_the_rules_say(script: Script) -> None:
    assert compiled(script) == plain(script)


@settings(max_examples=100, deadline=None)
@given(scripts())
def test_a_unary_side_never_has_another_count(script: Script) -> None:
    told = compiled(script)
    if script.method.unary_request:
        assert len(told.upstream) <= 1
        assert told.denied or len(told.upstream) == len(script.requests)
    if script.method.unary_response:
        assert len(told.client) <= 1
        assert told.denied or len(told.client) == len(script.responses)


@settings(max_examples=100, deadline=None)
@given(scripts(), st.integers(0, 4), st.sampled_from(["on_start", "on_request", "on_response", "on_flush"]), st.data())
def test_a_link_that_forbids_never_allows_more(script: Script, at: int, hook: str, data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    calls: list[object] = []

    def forbid(*args: object) -> object:
        calls.append(args)
        return PASS if answers[len(calls) % len(answers)] else FORBIDDEN

    without = compiled(script)
    told = compiled(script, scripted("forbid", **{hook: forbid}), at)
    assert told.upstream == without.upstream[: len(told.upstream)]
    assert told.client == without.client[: len(told.client)]
    if without.denied:
        assert told.denied
    elif told.denied:
        assert told.denied == FORBIDDEN


@settings(max_examples=100, deadline=None)
@given(scripts(), st.booleans())
def test_on_end_runs_once_for_what_began_in_reverse(script: Script, cancelled: bool) -> None:
    pages: list[str] = []
    links = [build(behaviour, pages) for behaviour in script.behaviours]
    session = Session(Chain(links), script.method, answers=ANSWERS)
    session.start()
    for raw in script.requests:
        session.request(raw)
    if cancelled:
        session.cancel()
    else:
        session.half_close()
        session.trailers()
    assert session.over
    began = len(links)
    if session.told.upstream_headers is None and session.told.denied and not script.method.unary_request:
        reason = session.told.denied.reason  # denied at the start, by the link that it names
        began = next(at for at, link in enumerate(links) if reason.startswith(f"{link.name}.")) + 1
    if not script.method.unary_request:
        assert pages == [x.name for at, x in reversed(list(enumerate(links))) if at < began or x.observer]
    assert len(pages) == len(set(pages))
    assert pages == sorted(pages, reverse=True)
    assert {link.name for link in links if link.observer} <= set(pages)


@settings(max_examples=100, deadline=None)
@given(scripts())
def test_observing_lets_pass_whatever_is_only_denied(script: Script) -> None:
    told = compiled(script, observe_only=True)
    if told.denied:
        assert told.denied.reason == "chain.message_count"
    edits = {
        kind for x in script.behaviours for kind, _ in (*x.requests, *x.responses, *([x.flush] if x.flush else []))
    }
    if not edits & {"mark", "hold", "drop", "split", "add"}:
        assert (told.upstream, told.client) == (list(script.requests), list(script.responses))


@settings(max_examples=100, deadline=None)
@given(scripts(), st.integers(0, 12))
def test_a_call_may_be_given_up_at_any_question(script: Script, patience: int) -> None:
    """Closing the generator raises nothing, and the links that began still end, once."""
    pages: list[str] = []
    links = [build(behaviour, pages) for behaviour in script.behaviours]
    chain = Chain(links)
    plan = chain.plan(script.method)
    call = Call(script.method, Headers(()), PEER, 0.0)
    asked = 0

    def settled(result: Any) -> Any:
        nonlocal asked
        if not isinstance(result, Generator):
            return result
        try:
            next(result)
            while True:
                asked += 1
                if asked > patience:
                    result.close()
                    return FORBIDDEN
                result.send(True)
        except StopIteration as done:
            return done.value

    if settled(plan.start(call)) is None:
        for raw in script.requests:
            if isinstance(settled(plan.request(call, Message(raw))), Deny):
                break
        else:
            settled(plan.flush(call, False))
    plan.end(call, Outcome(Code.CANCELLED, None, 0.0, cancelled=True))
    assert len(pages) == len(set(pages))
    assert {link.name for link in links if link.observer} <= set(pages)
