"""What verdicts do to a call, by a tap at the model server: on all four shapes, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from interceptors.contract import HOLD, PASS, Call, Code, Deny, Forward, Interceptor, Message, Outcome, View
from tests.interceptors.links import Hold, appends, diary, gives, scripted
from tests.relay.ends import Tapped
from tests.relay.world import SHAPES, WHOLE, World, pieces

NO: Final = Deny(Code.ABORTED, "test.no", "no")
ONE, THREE = (b"one",), (b"one", b"two", b"three")
REQUESTS: Final = {"unary": ONE, "client": THREE, "server": ONE, "bidi": THREE}
RESPONSES: Final = {"unary": ONE, "client": ONE, "server": THREE, "bidi": THREE}
# How the bytes of both ends are cut: TCP segments, and payloads of DATA frames.
CUTS: Final[dict[str, dict[str, Any]]] = {
    "whole": {"cut": WHOLE, "cut_back": WHOLE},
    "bytes": {"cut": pieces(1), "cut_back": pieces(1)},
    "sevens": {"cut": pieces(7), "cut_back": pieces(7)},
    "frames of a byte": {"frame": 1},
    "frames of seven": {"frame": 7, "cut": pieces(11), "cut_back": pieces(11)},
}
HOOKS: Final = ("on_start", "on_request", "flush request", "on_headers", "on_response", "flush response", "on_trailers")


def at(number: int, verdict: object) -> Callable[[], Callable[..., Any]]:
    """A hook that gives `verdict` at its call of this number, counted from 1, and passes the others."""

    def make() -> Callable[..., Any]:
        count = 0

        def hook(*args: object) -> object:
            nonlocal count
            count += 1
            return gives(verdict)(*args) if count == number else PASS

        return hook

    return make


def link(hook: str, make: Callable[[], Callable[..., Any]], view: View = View.BYTES) -> Interceptor:
    """A link with one hook; "flush request" and "flush response" are on_flush of one side."""
    run = make()
    if hook.startswith("flush"):
        response = hook.endswith("response")
        return scripted("link", view, on_flush=lambda call, side: run(call) if side is response else PASS)
    return scripted("link", view, **{hook: run})


@dataclass
class Told:
    """What became of a call. tap: as the model server saw it, None where it saw nothing."""

    status: int | None
    text: bytes
    client: list[bytes]
    tap: Tapped | None
    outcomes: list[Outcome]

    @property
    def upstream(self) -> list[bytes]:
        return self.tap.messages if self.tap is not None else []

    @property
    def kinds(self) -> list[str]:
        return self.tap.kinds if self.tap is not None else []


def run(shape: str, cut: str, *links: Interceptor) -> Told:
    """A whole call through the relay; the model server answers once the request has ended."""
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links], **CUTS[cut]) as world:
        world.answer = lambda call: call.answer(*RESPONSES[shape])
        call = world.call(shape)
        call.message(*REQUESTS[shape], end=True)
        world.settle()
        told = Told(call.status, call.message_text, call.messages, None, [outcome for _, outcome in pages])
        if world.tap:
            (told.tap,) = world.tap
        assert call.ended
        assert call.reset in (None, 0)  # NO_ERROR: the answer is complete, the request is not wanted any more
    assert len(told.outcomes) == 1
    assert told.outcomes[0].status == told.status
    return told


@pytest.fixture(params=CUTS)
def cut(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


LOOKS: Final = {
    "no links": (),
    "metadata": (scripted("link", View.METADATA, on_start=gives(PASS), on_headers=gives(PASS)),),
    "requests": (scripted("link", on_request=gives(PASS)),),
    "responses": (scripted("link", on_response=gives(PASS)),),
    "both": (scripted("link", on_request=gives(PASS), on_response=gives(PASS), on_flush=gives(PASS)),),
    "holds": (Hold(),),
    "forwards": (scripted("link", on_request=lambda call, message: Forward((message,))),),
}  # fmt: skip


@pytest.mark.parametrize("links", LOOKS.values(), ids=LOOKS)
def test_what_passes_or_is_released_arrives_as_it_was(shape: str, cut: str, links: tuple[Interceptor, ...]) -> None:
    told = run(shape, cut, *links)
    assert (told.status, tuple(told.upstream), tuple(told.client)) == (0, REQUESTS[shape], RESPONSES[shape])
    assert told.kinds == ["HEADERS", "DATA", "END"]
    assert told.outcomes[0].denied is None


def test_what_is_rewritten_arrives_so(shape: str, cut: str) -> None:
    told = run(shape, cut, scripted("link", on_request=appends(b"!"), on_response=appends(b"?")))
    assert told.upstream == [raw + b"!" for raw in REQUESTS[shape]]
    assert told.client == [raw + b"?" for raw in RESPONSES[shape]]
    assert told.status == 0


COUNTS: Final = {
    "drop": (lambda: lambda call, message: HOLD, 0),
    "drop one": (at(1, HOLD), -1),
    "split": (lambda: lambda call, message: Forward((message, Message(message.raw * 2))), 2),
}


@pytest.mark.parametrize("made", COUNTS, ids=COUNTS)
def test_requests_dropped_or_split(shape: str, cut: str, made: str) -> None:
    make, _ = COUNTS[made]
    told = run(shape, cut, link("on_request", make))
    if SHAPES[shape].unary_request:
        assert (told.status, told.kinds) == (Code.INTERNAL, [])
        return
    wanted = {"drop": [], "drop one": [*THREE[1:]], "split": [raw for one in THREE for raw in (one, one * 2)]}
    assert told.upstream == wanted[made]
    assert told.kinds == ["HEADERS", "DATA", "END"] if wanted[made] else ["HEADERS", "END"]
    assert (told.status, tuple(told.client)) == (0, RESPONSES[shape])


@pytest.mark.parametrize("made", COUNTS, ids=COUNTS)
def test_responses_dropped_or_split(shape: str, cut: str, made: str) -> None:
    make, _ = COUNTS[made]
    told = run(shape, cut, link("on_response", make))
    assert (tuple(told.upstream), told.kinds[:3]) == (REQUESTS[shape], ["HEADERS", "DATA", "END"])
    if SHAPES[shape].unary_response:
        assert (told.status, told.client) == (Code.INTERNAL, [])
        return
    wanted = {"drop": [], "drop one": [*THREE[1:]], "split": [raw for one in THREE for raw in (one, one * 2)]}
    assert (told.status, told.client) == (0, wanted[made])


def fails(*args: object) -> object:
    raise ValueError("secret")


BAD: Final = {
    "deny": (gives(NO), Code.ABORTED, b"no"),
    "raise": (fails, Code.INTERNAL, b"request refused"),
    "none": (gives(None), Code.INTERNAL, b"request refused"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_denies_raises_or_says_nothing(shape: str, cut: str, hook: str, bad: str) -> None:
    run_hook, code, text = BAD[bad]
    told = run(shape, cut, link(hook, lambda: run_hook))
    assert (told.status, told.text) == (code, text)
    denied = told.outcomes[0].denied
    assert denied is not None
    assert denied.code is code
    if hook == "on_start":
        assert told.kinds == []
    elif hook in ("on_request", "flush request"):
        # A unary request is opened upstream when it is whole and has passed; a stream ends there in RST_STREAM alone.
        sent = ["DATA"] if hook == "flush request" else []
        assert told.kinds == ([] if SHAPES[shape].unary_request else ["HEADERS", *sent, "RST"])
        assert told.client == []
    else:
        assert told.kinds[:3] == ["HEADERS", "DATA", "END"]
        assert told.kinds[3:] in ([], ["RST"])
        assert told.client == ([] if hook in ("on_headers", "on_response") else [*RESPONSES[shape]])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_denial_at_message_n_of_a_request(cut: str, number: int) -> None:
    told = run("bidi", cut, link("on_request", at(number, NO)))
    assert told.status == Code.ABORTED
    assert told.upstream == [*THREE[: number - 1]]
    assert told.kinds == ["HEADERS", *(["DATA"] if number > 1 else []), "RST"]
    assert told.outcomes[0].requests >= number


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_denial_at_message_n_of_a_response(cut: str, number: int) -> None:
    told = run("bidi", cut, link("on_response", at(number, NO)))
    assert told.status == Code.ABORTED
    assert told.client == [*THREE[: number - 1]]
    assert told.tap is not None
    assert told.tap.reset in (None, 8)


def test_what_a_link_holds_is_dropped_when_a_later_one_denies(shape: str, cut: str) -> None:
    told = run(shape, cut, Hold(), scripted("deny", on_request=gives(NO)))
    assert told.status == Code.ABORTED
    assert "DATA" not in told.kinds
    assert "END" not in told.kinds


def test_pairs_are_released_as_they_are_complete(cut: str) -> None:
    """A link that joins two messages into one."""
    held: list[bytes] = []

    def pair(call: Call, message: Message) -> Forward:
        held.append(message.raw)
        if len(held) < 2:
            return HOLD
        joined = b"+".join(held)
        held.clear()
        return Forward((Message(joined),))

    def rest(call: Call, response: bool) -> Forward:
        return Forward(tuple(Message(raw) for raw in held)) if not response else HOLD

    told = run("bidi", cut, scripted("pair", on_request=pair, on_flush=rest))
    assert (told.status, told.upstream) == (0, [b"one+two", b"three"])
