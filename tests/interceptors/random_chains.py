"""Random chains for property tests: what each link does is data, so that two drivers can be given the same chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from interceptors.contract import HOLD, PASS, Call, Code, Deny, Forward, Interceptor, Message, Method
from tests.interceptors.links import Question, asks, scripted

Action: TypeAlias = tuple[str, bool]  # what a hook does, and whether it asks first

FORBIDDEN: Final = Deny(Code.PERMISSION_DENIED, "forbid", "no")
ON_MESSAGE: Final = ("pass", "pass", "pass", "mark", "hold", "drop", "split", "deny", "raise", "none")
ON_FLUSH: Final = ("release", "release", "release", "pass", "add", "deny", "raise", "none")
ON_BLOCK: Final = ("pass", "pass", "pass", "pass", "deny", "raise", "none", "forward")


@dataclass(frozen=True)
class Behaviour:
    """What one link does. requests, responses: by message, again from the first when they run out; () overrides not."""

    name: str
    observer: bool
    start: Action | None
    requests: tuple[Action, ...]
    headers: Action | None
    responses: tuple[Action, ...]
    trailers: Action | None
    flush: Action | None


@dataclass(frozen=True)
class Script:
    method: Method
    requests: tuple[bytes, ...]
    responses: tuple[bytes, ...]
    behaviours: tuple[Behaviour, ...]


def _actions(kinds: tuple[str, ...]) -> st.SearchStrategy[Action]:
    return st.tuples(st.sampled_from(kinds), st.booleans())


@st.composite
def behaviours(draw: st.DrawFn, name: str) -> Behaviour:
    def maybe(kinds: tuple[str, ...]) -> Action | None:
        return draw(st.none() | _actions(kinds))

    return Behaviour(
        name,
        draw(st.booleans()),
        maybe(ON_BLOCK),
        tuple(draw(st.lists(_actions(ON_MESSAGE), max_size=3))),
        maybe(ON_BLOCK),
        tuple(draw(st.lists(_actions(ON_MESSAGE), max_size=3))),
        maybe(ON_BLOCK),
        maybe(ON_FLUSH),
    )


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    method = Method("/test.Service/Random", draw(st.booleans()), draw(st.booleans()))
    texts = st.sampled_from([b"", b"a", b"bc", b"def"])
    requests = draw(st.lists(texts, min_size=1, max_size=1 if method.unary_request else 4))
    responses = draw(st.lists(texts, max_size=1 if method.unary_response else 4))
    chain = [draw(behaviours(f"link{at}")) for at in range(draw(st.integers(0, 4)))]
    return Script(method, tuple(requests), tuple(responses), tuple(chain))


def build(behaviour: Behaviour, pages: list[str] | None = None) -> Interceptor:
    """A link that behaves so, for one call: its held messages are its own. pages: where its end is noted."""
    held: dict[bool, list[Message]] = {False: [], True: []}
    counts = {False: 0, True: 0}

    def block(action: Action) -> Callable[..., Any]:
        return _spoken(action, lambda kind: _verdict(kind, behaviour.name))

    def message(actions: tuple[Action, ...], response: bool) -> Callable[..., Any]:
        def hook(call: Call, got: Message) -> Any:
            action = actions[counts[response] % len(actions)]
            counts[response] += 1

            def verdict(kind: str) -> object:
                if kind == "mark":
                    return Forward((Message(got.raw + behaviour.name[-1:].encode()),))
                if kind == "split":
                    return Forward((got, Message(got.raw + b"+")))
                if kind == "hold":
                    held[response].append(got)
                return HOLD if kind in ("hold", "drop") else _verdict(kind, behaviour.name)

            return _spoken(action, verdict)()

        return hook

    def flush(call: Call, response: bool) -> Any:
        assert behaviour.flush is not None

        def verdict(kind: str) -> object:
            if kind == "release":
                return Forward(tuple(held[response]))
            return Forward((Message(b"extra"),)) if kind == "add" else _verdict(kind, behaviour.name)

        return _spoken(behaviour.flush, verdict)()

    hooks: dict[str, Any] = {}
    if behaviour.start:
        hooks["on_start"] = block(behaviour.start)
    if behaviour.headers:
        hooks["on_headers"] = block(behaviour.headers)
    if behaviour.trailers:
        hooks["on_trailers"] = block(behaviour.trailers)
    if behaviour.requests:
        hooks["on_request"] = message(behaviour.requests, False)
    if behaviour.responses:
        hooks["on_response"] = message(behaviour.responses, True)
    if behaviour.flush:
        hooks["on_flush"] = flush
    if pages is not None:
        hooks["on_end"] = lambda call, outcome: pages.append(behaviour.name)
    return scripted(behaviour.name, observer=behaviour.observer, **hooks)


def _spoken(action: Action, verdict: Callable[[str], object]) -> Callable[..., Any]:
    kind, asking = action

    def hook(*args: object) -> Any:
        got = verdict(kind)
        if asking:
            return asks(got)()
        if isinstance(got, Exception):
            raise got
        return got

    return hook


def _verdict(kind: str, name: str) -> object:
    return {
        "pass": PASS,
        "deny": Deny(Code.ABORTED, f"{name}.says_no", "no"),
        "raise": ValueError(name),
        "none": None,
        "forward": HOLD,
    }[kind]


ANSWERS: Final = {Question: True}
