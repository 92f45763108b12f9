"""How calls end: deadlines, cancellation, records that must be durable first; and what is left of them, nothing."""

from __future__ import annotations

from typing import Any, Final

import pytest
from h2.settings import SettingCodes

from interceptors.contract import PASS, Code, Deny, Interceptor, Message, Outcome, Verdict
from interceptors.contract import Call as ContractCall
from interceptors.events import Durability, Event, SpanFact
from sidecar.relay.grpc_wire import parse_timeout
from tests.interceptors.links import diary, gives, scripted
from tests.relay.ends import CANCEL, Call, pick
from tests.relay.world import SHAPES, World, peer_wire

NO: Final = Deny(Code.PERMISSION_DENIED, "test.no", "no")
LOOKS: Final[dict[str, Any]] = {
    "passing": (),
    "inspecting": (scripted("look", on_request=gives(PASS), on_response=gives(PASS)),),
}


@pytest.fixture(params=LOOKS)
def links(request: pytest.FixtureRequest) -> Any:
    return LOOKS[request.param]


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ping(world: World, shape: str = "unary", *metadata: tuple[bytes, bytes]) -> Call:
    call = world.call(shape, *metadata)
    call.message(b"ping", end=True)
    world.settle()
    return call


# --- deadlines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(b"250m", 0.25), (b"3S", 3), (b"2M", 120), (b"1H", 3600), (b"500000u", 0.5), (b"99999999n", 0.1)],
)
def test_a_deadline_passes(links: Any, shape: str, timeout: bytes, seconds: float) -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        call = ping(world, shape, (b"grpc-timeout", timeout))
        (tapped,) = world.tap
        world.advance(seconds - 0.01)
        assert not call.ended
        world.advance(0.03)
        assert call.status == Code.DEADLINE_EXCEEDED
        assert tapped.reset == CANCEL
        assert [outcome.status for _, outcome in pages] == [Code.DEADLINE_EXCEEDED]


def test_a_deadline_shrinks_on_the_way() -> None:
    """By the time that the call has spent here: in a queue, before a link."""
    with World() as world:
        first = world.call("unary", (b"grpc-timeout", b"10S"))
        world.advance(4)
        first.message(b"ping", end=True)
        world.settle()
        value = pick(world.tap[0].headers, b"grpc-timeout")
        assert value is not None
        left = parse_timeout(value)
        assert left is not None
        assert 5.9 < left <= 6
        first.cancel()


@pytest.mark.parametrize("timeout", [b"99999999H", b"99999999n", b"0n", b"00000001S"])
def test_timeouts_at_the_edge(timeout: bytes) -> None:
    with World() as world:
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world, "unary", (b"grpc-timeout", timeout))
        world.advance(0.02)
        assert call.status in (0, Code.DEADLINE_EXCEEDED)


def test_a_deadline_after_the_answer_changes_nothing(links: Any) -> None:
    with World(links) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world, "unary", (b"grpc-timeout", b"1S"))
        world.advance(2)
        assert (call.status, call.reset) == (0, None)


# --- what lets a call in ends ---------------------------------------------------------------------------------------


class LetIn(Interceptor):
    """Lets calls in for so many seconds."""

    name = "let_in"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_start(self, call: ContractCall) -> Verdict:
        call.expires = min(call.expires, call.now + self.seconds)
        return PASS


@pytest.mark.parametrize("timeout", [None, b"1H"])
def test_a_call_ends_with_what_let_it_in(links: Any, shape: str, timeout: bytes | None) -> None:
    pages: list[tuple[str, Outcome]] = []
    fields = () if timeout is None else ((b"grpc-timeout", timeout),)
    with World([diary(pages), LetIn(60), *links]) as world:
        call = ping(world, shape, *fields)
        (tapped,) = world.tap
        world.advance(59.99)
        assert not call.ended
        world.advance(0.03)
        assert call.status == Code.UNAUTHENTICATED
        assert tapped.reset == CANCEL
        assert [outcome.denied and outcome.denied.reason for _, outcome in pages] == ["identify.expired"]


def test_a_deadline_before_that_is_a_deadline(links: Any, shape: str) -> None:
    with World([LetIn(60), *links]) as world:
        call = ping(world, shape, (b"grpc-timeout", b"10S"))
        world.advance(10.02)
        assert call.status == Code.DEADLINE_EXCEEDED


def test_a_call_that_ends_before_leaves_nothing_behind(links: Any, shape: str) -> None:
    with World([LetIn(60), *links]) as world:
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world, shape)
        assert call.status == 0
        world.advance(120)
        assert (call.status, call.reset) == (0, None)


def test_a_wall_clock_that_is_set_back_lets_nobody_stay_for_ever(links: Any) -> None:
    with World([LetIn(60), *links]) as world:
        call = ping(world, "bidi")
        wall = world.relay.wall
        world.relay.wall = lambda: wall() - 30
        world.advance(60.02)
        assert not call.ended  # by that clock it has another half a minute
        world.advance(30.02)
        assert call.status == Code.UNAUTHENTICATED


# --- cancellation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [CANCEL, 0, 1, 0xFF])
@pytest.mark.parametrize("stage", ["open", "request", "half-closed", "head", "response"])
def test_a_client_that_cancels(links: Any, shape: str, stage: str, code: int) -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        call = world.call(shape)
        if stage != "open":
            call.message(b"ping", end=stage != "request")
        world.settle()
        reached = bool(world.tap)
        assert reached is (stage not in ("open", "request") or not SHAPES[shape].unary_request)
        if reached and stage in ("head", "response"):
            world.tap[0].head()
        if reached and stage == "response":
            world.tap[0].message(b"one")
        world.settle()
        call.cancel(code)
        world.settle()
        assert [tapped.reset for tapped in world.tap] == ([CANCEL] if reached else [])
        assert [(outcome.status, outcome.cancelled) for _, outcome in pages] == [(Code.CANCELLED, True)]


def test_a_connection_that_breaks_cancels_all_its_calls(links: Any) -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        for name in SHAPES:
            ping(world, name)
        world.lose(world.client)
        assert [tapped.reset for tapped in world.tap] == [CANCEL] * 4
        assert [outcome.cancelled for _, outcome in pages] == [True] * 4


# --- records -------------------------------------------------------------------------------------------------------


def commits(durability: Durability = Durability.COMMIT, times: int = 1) -> Any:
    def on_end(call: Any, outcome: Outcome) -> None:
        for _ in range(times):
            call.emit(Event("test.ended", call.now, durability, status=outcome.status))
        call.emit(SpanFact("", "", "", "", 0, 0, 0, "", "", ""))

    return scripted("commit", observer=True, on_end=on_end)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("denied", ["", "on_start", "on_request", "on_trailers"])
def test_the_answer_waits_for_the_record(links: Any, denied: str, held: bool, times: int) -> None:
    deny = [scripted("deny", **{denied: gives(NO)})] if denied else []
    with World([commits(times=times), *links, *deny]) as world:
        world.recorder.holds = held
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world)
        assert call.ended is not held
        assert len(world.recorder.events) == times
        world.recorder.settle()
        world.settle()
        assert call.status == (Code.PERMISSION_DENIED if denied else 0)


@pytest.mark.parametrize("denied", ["", "on_start", "on_trailers"])
def test_a_record_that_fails_is_no_answer(links: Any, denied: str) -> None:
    deny = [scripted("deny", **{denied: gives(NO)})] if denied else []
    with World([commits(times=2), *links, *deny]) as world:
        world.recorder.holds = True
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world)
        world.recorder.waiting.pop(0)(OSError("disk"))
        assert not call.ended
        world.recorder.settle()
        world.settle()
        assert call.status == Code.UNAVAILABLE
        assert b"disk" not in call.message_text


def test_an_answer_without_status_is_unavailable_when_its_record_fails() -> None:
    with World([commits()]) as world:
        world.recorder.holds = True
        call = ping(world, "bidi")
        world.tap[0].head()
        world.tap[0].message(b"pong", end=True)
        world.settle()
        world.recorder.settle(OSError("disk"))
        world.settle()
        assert call.status == Code.UNAVAILABLE


@pytest.mark.parametrize("error", [None, OSError("disk")])
def test_a_reset_waits_for_the_record_as_an_answer_does(links: Any, error: Exception | None) -> None:
    with World([commits(), *links]) as world:
        world.recorder.holds = True
        call = ping(world)
        world.tap[0].cancel(11)
        world.settle()
        assert not call.ended
        world.recorder.settle(error)
        world.settle()
        assert (call.reset, call.status) == ((11, None) if error is None else (None, Code.UNAVAILABLE))


def emits(durability: Durability) -> Any:
    """Emits an event with every message."""

    def on_request(call: ContractCall, message: Message) -> object:
        call.emit(Event("test.message", call.now, durability))
        return PASS

    return scripted("emits", on_request=on_request)


@pytest.mark.parametrize("durability", list(Durability))
def test_what_links_emit_on_a_long_stream_is_not_kept_until_its_end(durability: Durability) -> None:
    with World([emits(durability)]) as world:
        call = world.call("bidi")
        for turn in range(1, 11):
            call.message(*[b""] * 100)
            world.settle()
            assert 100 * turn - len(world.recorder.events) < 64
        call.half_close()
        world.settle()
        world.tap[0].answer(b"pong")
        world.settle()
        assert call.status == 0
        assert len(world.recorder.events) == 1000


def test_a_stream_ends_when_what_it_emitted_cannot_be_recorded() -> None:
    with World([emits(Durability.COMMIT)]) as world:
        world.recorder.holds = True
        call = world.call("bidi")
        call.message(*[b""] * 100)
        world.settle()
        assert not call.ended
        world.recorder.settle(OSError("disk"))
        world.settle()
        assert world.tap[0].reset == CANCEL
        world.recorder.settle(OSError("disk"))  # what it had emitted since
        world.settle()
        assert call.status == Code.UNAVAILABLE


def test_what_is_recorded_in_batches_delays_nothing() -> None:
    with World([commits(Durability.BATCH)]) as world:
        world.recorder.holds = True
        world.answer = lambda call: call.answer(b"pong")
        assert ping(world).status == 0
        assert not world.recorder.waiting


@pytest.mark.parametrize("ends", ["cancel", "lost"])
def test_a_client_that_does_not_wait_for_the_record(links: Any, ends: str) -> None:
    with World([commits(), *links]) as world:
        world.recorder.holds = True
        world.answer = lambda call: call.answer(b"pong")
        call = ping(world)
        if ends == "cancel":
            call.cancel()
        else:
            world.lose(world.client)
        world.settle()
        assert len(world.recorder.events) == 1
        world.recorder.settle(OSError("disk"))
        world.settle()
        assert not call.ended


def test_a_slot_is_held_until_the_record_is_durable() -> None:
    """A peer that resets its calls as fast as it makes them holds them until all that they cost is over."""
    with World([commits()]) as world:
        world.recorder.holds = True
        call = ping(world)
        call.cancel()
        world.settle()
        assert world.wire(world.client).connection.slots == 1
        world.recorder.settle()
        world.settle()
        assert world.wire(world.client).connection.slots == 0


def test_nobody_is_served_while_nothing_can_be_recorded(links: Any) -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links, scripted("start", on_start=gives(NO))]) as world:
        world.recorder.failed = "disk is full"
        call = ping(world)
        assert call.status == Code.UNAVAILABLE
        assert b"disk" not in call.message_text
        assert not world.tap
        assert len(pages) == 1
        world.recorder.failed = None
        assert ping(world).status == Code.PERMISSION_DENIED


def test_messages_and_time_are_counted(links: Any) -> None:
    pages: list[tuple[str, Outcome]] = []
    with World([diary(pages), *links]) as world:
        call = world.call("bidi")
        call.message(b"one", b"two")
        world.advance(3)
        call.message(b"three", end=True)
        world.settle()
        world.tap[0].answer(b"a", b"b")
        world.settle()
        assert call.status == 0
    outcome = pages[0][1]
    assert (outcome.status, outcome.requests, outcome.responses, outcome.denied) == (0, 3, 2, None)
    assert outcome.seconds == pytest.approx(3)


# --- what a caller's own faults cost it ------------------------------------------------------------------------------


def test_a_deadline_that_has_passed_opens_nothing(links: Any, shape: str) -> None:
    with World(links) as world:
        call = ping(world, shape, (b"grpc-timeout", b"0n"))
        assert call.status == Code.DEADLINE_EXCEEDED
        assert world.tap == []


@pytest.mark.parametrize("body", [b"\7" + bytes(4), bytes(5) + bytes(5), b"\0\xff\xff\xff\xff"])
def test_resets_that_a_caller_leads_to_count_as_its_own(links: Any, body: bytes) -> None:
    """CVE-2025-8671, a layer up: what is answered and then reset for its messages, while the caller has not ended."""
    with World(links) as world:
        for _ in range(300):
            if world.client.gone:
                break
            world.call("unary").send(body)
            world.settle()
        assert world.client.gone
        assert [event.reason for event in world.recorder.events if event.kind == "connection.refused"] == [
            "http2.enhance_your_calm"
        ]


def test_denied_callers_are_not_blamed_for_their_resets() -> None:
    with World([scripted("deny", on_start=gives(NO))]) as world:
        for _ in range(300):
            call = world.call("bidi")
            world.settle()
            assert call.status == Code.PERMISSION_DENIED
        assert not world.client.gone


def test_small_payloads_cost_no_object_each(links: Any) -> None:
    """Where they wait for a stream of the model server's, and where they are kept to be sent again."""
    with World(links, server={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as world:
        first = world.call("bidi")
        waits = world.call("bidi")
        for call in (first, waits):
            for _ in range(2000):
                call.message(b"")
        world.settle()
        sides: list[Any] = [stream.owner for stream in peer_wire(world).connection.streams.values()]  # type: ignore[union-attr]
        assert [len(side.replay or side.unsent) <= 4 for side in sides] == [True, True]
        del sides
        first.cancel()
        waits.message(b"last", end=True)
        world.settle()
        assert world.tap[-1].messages == [b""] * 2000 + [b"last"]
        world.tap[-1].answer(b"pong")
        world.settle()
        assert waits.status == 0
