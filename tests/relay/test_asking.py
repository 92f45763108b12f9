"""Hooks that ask: answered at once, later, with an error, or never, on all shapes and in every hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from interceptors.contract import PASS, AnswerError, Code, Interceptor, Outcome, ask
from tests.interceptors.links import Question, diary, scripted
from tests.relay.ends import CANCEL, Call
from tests.relay.world import SHAPES, World

HOOKS: Final = ("on_start", "on_request", "flush request", "on_headers", "on_response", "flush response", "on_trailers")
ASKED_BEFORE: Final = ("on_start", "on_request", "flush request")  # the answer


class Asks:
    """A link that asks in one hook, and a diary of what happened: "asked", "answered", "closed", "end"."""

    def __init__(self, hook: str) -> None:
        self.pages: list[str] = []
        self.outcomes: list[tuple[str, Outcome]] = []
        name, _, side = hook.partition(" ") if hook.startswith("flush") else (hook, "", "")
        run = self._run if not side else self._flush(side == "response")
        end: Callable[..., None] = lambda call, outcome: self.pages.append("end")  # noqa: E731
        hooks: dict[str, Any] = {"on_flush" if name == "flush" else name: run, "on_end": end}
        self.links: tuple[Interceptor, ...] = (diary(self.outcomes), scripted("ask", **hooks))

    def _run(self, *args: object) -> Any:
        self.pages.append("asked")
        try:
            yield from ask(Question())
            self.pages.append("answered")
        finally:
            self.pages.append("closed")
        return PASS

    def _flush(self, response: bool) -> Callable[..., Any]:
        return lambda call, side: self._run() if side is response else PASS


@pytest.fixture(params=HOOKS)
def hook(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def call_of(world: World, shape: str, *metadata: tuple[bytes, bytes]) -> Call:
    world.answer = lambda call: call.answer(b"pong")
    call = world.call(shape, *metadata)
    call.message(b"ping", end=True)
    world.settle()
    return call


def test_answered_at_once(hook: str, shape: str) -> None:
    asks = Asks(hook)
    with World(asks.links) as world:
        call = call_of(world, shape)
        assert (call.status, call.messages, world.tap[0].messages) == (0, [b"pong"], [b"ping"])
    assert asks.pages == ["asked", "answered", "closed", "end"]


def test_answered_later(hook: str, shape: str) -> None:
    asks = Asks(hook)
    with World(asks.links) as world:
        world.answers.holds = True
        call = call_of(world, shape)
        assert not call.ended
        assert asks.pages == ["asked"]
        if hook == "on_start":
            assert not world.tap
        elif hook in ASKED_BEFORE:
            assert not any(tapped.ended for tapped in world.tap)
        world.answers.settle()
        world.settle()
        assert (call.status, call.messages, world.tap[0].messages) == (0, [b"pong"], [b"ping"])
    assert asks.pages == ["asked", "answered", "closed", "end"]


def test_the_outside_fails(hook: str, shape: str) -> None:
    asks = Asks(hook)
    with World(asks.links) as world:
        world.answers.holds = True
        world.answers.value = AnswerError("helper is gone")
        call = call_of(world, shape)
        world.answers.settle()
        world.settle()
        assert call.status == Code.UNAVAILABLE
        assert b"helper" not in call.message_text
        if hook in ASKED_BEFORE:
            assert not any(tapped.ended for tapped in world.tap)
            assert all(tapped.reset == CANCEL for tapped in world.tap)
        world.answers.value = True
    assert asks.pages == ["asked", "closed", "end"]


@pytest.mark.parametrize("ends", ["cancelled", "disconnected", "deadline", "upstream lost"])
def test_never_answered(hook: str, shape: str, ends: str) -> None:
    """What ends the call ends the hook first, runs on_end once, and leaves nothing for a late answer."""
    asks = Asks(hook)
    with World(asks.links) as world:
        world.answers.holds = True
        call = call_of(world, shape, *([(b"grpc-timeout", b"2S")] if ends == "deadline" else []))
        if ends == "cancelled":
            call.cancel()
        elif ends == "disconnected":
            world.lose(world.client)
        elif ends == "deadline":
            world.advance(1.9)
            assert not call.ended
            world.advance(0.2)
            assert call.status == Code.DEADLINE_EXCEEDED
        else:
            world.lose(world.server)
            if hook not in ASKED_BEFORE or not world.tap:
                # A complete answer outlives the connection that it came by; what has not left yet needs another.
                world.answers.settle()
                world.advance(5)
                assert call.status == 0
                return
            assert call.status == Code.UNAVAILABLE
        world.settle()
        assert asks.pages == ["asked", "closed", "end"]
        if hook in ASKED_BEFORE:
            assert not any(tapped.ended for tapped in world.tap)
            if ends != "upstream lost":
                assert all(tapped.reset == CANCEL for tapped in world.tap)
        assert not world.open, "an unanswered question keeps its call"
        world.answers.settle()  # too late
        world.settle()
    assert [outcome.status for _, outcome in asks.outcomes] == [
        {"deadline": 4, "upstream lost": 14}.get(ends, Code.CANCELLED)
    ]
    assert asks.outcomes[0][1].cancelled is (ends in ("cancelled", "disconnected"))


def test_the_first_of_two_answers_counts() -> None:
    asks = Asks("on_start")
    with World(asks.links) as world:
        world.answers.holds = True
        call = call_of(world, "unary")
        (reply,) = world.answers.waiting
        world.answers.settle()
        reply(True, None)
        reply(None, ValueError())
        world.settle()
        assert call.status == 0
    assert asks.pages == ["asked", "answered", "closed", "end"]


def test_both_sides_ask_at_once() -> None:
    def asked(*args: object) -> Any:
        yield from ask(Question())
        return PASS

    with World([scripted("ask", on_request=asked, on_response=asked)]) as world:
        call = world.call("bidi")
        world.settle()
        (tapped,) = world.tap
        world.answers.holds = True
        call.message(b"one")
        tapped.head()
        tapped.message(b"two")
        world.settle()
        assert len(world.answers.waiting) == 2
        assert (tapped.messages, call.messages) == ([], [])
        world.answers.waiting.reverse()
        world.answers.settle()
        world.settle()
        assert (tapped.messages, call.messages) == ([b"one"], [b"two"])
        call.cancel()


def test_a_clean_up_that_raises_harms_nobody() -> None:
    def asked(*args: object) -> Any:
        try:
            yield from ask(Question())
        finally:
            raise ValueError("in the clean-up")

    with World([scripted("ask", on_start=asked)]) as world:
        world.answers.holds = True
        call = call_of(world, "unary")
        call.cancel()
        world.settle()
        assert not world.open
