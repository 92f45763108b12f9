"""Several endpoints of one upstream: which of them a call goes to, and what happens when one is bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest
from h2.settings import SettingCodes

from interceptors.contract import Code
from sidecar.relay.settings import HealthSettings, RetrySettings, Target, UpstreamSettings
from tests.relay.ends import REFUSED_STREAM, Call, Tapped, framed
from tests.relay.world import World

A, B, C = "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"
THREE: Final = tuple(Target(address.partition(":")[0], 1) for address in (A, B, C))
INTERNAL_ERROR: Final = 2
HEALTH: Final = b"/grpc.health.v1.Health/Check"


def upstream(count: int = 3, **settings: Any) -> UpstreamSettings:
    return UpstreamSettings(THREE[:count], **settings)


def pong(call: Tapped) -> None:
    call.answer(b"pong")


def only(address: str, does: Callable[[Tapped], None], others: Callable[[Tapped], None] = pong) -> Any:
    """An answer by address."""
    return lambda call: (does if call.end.address == address else others)(call)


def nothing(call: Tapped) -> None:
    pass


def unavailable(call: Tapped) -> None:
    call.head((b"grpc-status", b"14"), (b"grpc-message", b"busy"), end=True)


def resets(call: Tapped) -> None:
    call.cancel(INTERNAL_ERROR)


def refuses(call: Tapped) -> None:
    call.cancel(REFUSED_STREAM)


def ping(world: World, shape: str = "unary") -> Call:
    call = world.call(shape)
    call.message(b"ping", end=True)
    world.settle()
    return call


def served(world: World) -> Counter[str]:
    """How many calls each address has had."""
    return Counter({address: count for address in (A, B, C) if (count := len(at(world, address)))})


def at(world: World, address: str) -> list[Tapped]:
    calls = [call for server in world.servers if server.address == address for call in server.calls]
    return [call for call in calls if (b":path", HEALTH) not in call.headers]


def conditions(world: World) -> list[str]:
    return [state.condition for state in world.pool.endpoints()]


# --- balance -------------------------------------------------------------------------------------------------------


def test_calls_go_round() -> None:
    with World(upstream=upstream()) as world:
        world.answer = pong
        for _ in range(9):
            assert ping(world).status == 0
        assert served(world) == {A: 3, B: 3, C: 3}


def test_a_slow_endpoint_gets_fewer() -> None:
    with World(upstream=upstream()) as world:
        world.answer = only(A, nothing)
        calls = [ping(world) for _ in range(31)]
        assert served(world)[A] == 1
        for call in calls:
            if call.alive:
                call.cancel()


def test_the_limit_on_calls_of_one_endpoint() -> None:
    with World(upstream=upstream(2, calls_most=2)) as world:
        calls = [ping(world) for _ in range(5)]
        assert served(world) == {A: 2, B: 2}
        at(world, B)[0].answer(b"pong")
        world.settle()
        assert served(world) == {A: 2, B: 3}
        for call in calls:
            if call.alive:
                call.cancel()


def test_further_connections_where_all_streams_are_taken() -> None:
    settings = upstream(1, connections_most=3)
    with World(upstream=settings, server={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as world:
        calls = [ping(world) for _ in range(7)]
        world.advance(1)
        assert [len(server.calls) for server in world.servers] == [2, 2, 2]
        for call in calls:
            call.cancel()
        world.advance(60)
        assert world.pool.endpoints()[0].connections == 1  # what was added goes when it is idle
        world.answer = pong
        assert ping(world).status == 0


# --- one of several is bad -----------------------------------------------------------------------------------------


def test_an_endpoint_that_cannot_be_reached_gets_no_calls() -> None:
    with World(upstream=upstream()) as world:
        world.answer = pong
        world.refusing.add(B)
        world.lose(world.at(B))
        world.advance(0.2)
        assert [ping(world).status for _ in range(6)] == [0] * 6
        assert served(world) == {A: 3, C: 3}
        assert conditions(world) == ["ready", "down", "ready"]
        assert world.pool.endpoints()[1].reason == "[Errno 111] Connection refused"
        world.refusing.clear()
        world.advance(5)
        assert conditions(world) == ["ready"] * 3


@pytest.mark.parametrize("how", [unavailable, resets])
def test_an_endpoint_that_fails_calls_is_ejected_and_comes_back(how: Any) -> None:
    with World(upstream=upstream()) as world:
        world.answer = only(B, how)
        for _ in range(30):
            ping(world)
        assert served(world)[B] == 5
        assert conditions(world) == ["ready", "ejected", "ready"]
        world.advance(11)
        assert conditions(world) == ["ready"] * 3
        for _ in range(30):
            ping(world)
        assert served(world)[B] == 6  # on trial one failure is enough
        world.answer = pong
        world.advance(21)
        assert [ping(world).status for _ in range(30)] == [0] * 30
        assert served(world)[B] == 16


def test_not_all_are_ejected() -> None:
    """Where all fail alike, the calls may be to blame: they reach the model server all the same."""
    with World(upstream=upstream()) as world:
        world.answer = unavailable
        assert [ping(world).status for _ in range(30)] == [Code.UNAVAILABLE] * 30
        assert conditions(world).count("ejected") == 1
        assert sum(served(world).values()) == 30


def test_the_last_one_that_is_left_serves_though_it_is_ejected() -> None:
    with World(upstream=upstream(2)) as world:
        world.answer = only(A, unavailable)
        for _ in range(20):
            ping(world)
        assert conditions(world) == ["ejected", "ready"]
        world.refusing.add(B)
        world.lose(world.at(B))
        world.answer = pong
        assert ping(world).status == 0


def test_what_callers_do_is_no_failure() -> None:
    with World(upstream=upstream(2)) as world:
        for _ in range(30):
            ping(world).cancel()
            call = world.call("unary", (b"grpc-timeout", b"10m"))
            call.message(b"ping", end=True)
            world.advance(0.1)
            assert call.status == Code.DEADLINE_EXCEEDED
        assert conditions(world) == ["ready", "ready"]


# --- tried again ---------------------------------------------------------------------------------------------------


def test_a_refused_call_goes_to_another_endpoint() -> None:
    with World(upstream=upstream(2)) as world:
        world.answer = only(A, refuses)
        assert [ping(world).status for _ in range(4)] == [0] * 4
        assert served(world)[B] == 4


def test_refused_calls_are_tried_again_within_the_budget() -> None:
    with World(upstream=upstream(1)) as world:
        world.answer = refuses
        calls = [ping(world) for _ in range(100)]
        assert {call.status for call in calls} == {Code.UNAVAILABLE}
        assert len(world.tap) == 110  # the reserve; a refusal earns nothing
        assert world.pool.state().retries == 10


RETRIES: Final = RetrySettings(attempts=1)


@pytest.mark.parametrize("attempts", [0, 1, 2])
def test_unavailable_is_tried_again_only_where_the_config_says_so(attempts: int) -> None:
    with World(upstream=upstream(retries=RetrySettings(attempts=attempts))) as world:
        world.answer = unavailable
        call = ping(world)
        world.advance(1)
        assert (call.status, call.message_text) == (Code.UNAVAILABLE, b"busy")
        assert len(world.tap) == 1 + attempts
        assert len(served(world)) == 1 + attempts  # each time at another endpoint


@pytest.mark.parametrize(
    ("shape", "break_off", "again"),
    [
        ("unary", "lost", True), ("server", "lost", True), ("client", "lost", False), ("bidi", "lost", False),
        ("unary", "head", False), ("unary", "silent", True),
    ],
)  # fmt: skip
def test_a_broken_call_is_tried_again_where_nothing_came_and_it_is_unary(
    shape: str, break_off: str, again: bool
) -> None:
    with World(upstream=upstream(retries=RETRIES, try_s=3)) as world:
        call = ping(world, shape)
        (tapped,) = world.tap
        server: Any = tapped.end
        world.answer = pong
        if break_off == "head":
            tapped.head()
            world.settle()
        if break_off == "silent":
            world.advance(4)
        else:
            world.lose(server)
        world.advance(1)
        assert (call.status == 0) is again
        assert len(world.tap) == 1 + again


@pytest.mark.parametrize(
    ("pushback", "after"), [(b"-1", None), (b"odd", None), (b"2000", 2.0), (b"0", 0.0), (b"60000", None)]
)
def test_the_model_servers_pushback_is_heeded(pushback: bytes, after: float | None) -> None:
    with World(upstream=upstream(1, retries=RETRIES)) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", pushback), end=True)
        call = ping(world)
        world.answer = pong
        if after is None:
            world.advance(10)
            assert (call.status, len(world.tap)) == (Code.UNAVAILABLE, 1)
            return
        world.advance(max(0, after - 0.1))
        assert len(world.tap) == (2 if not after else 1)
        world.advance(0.2)
        assert (call.status, len(world.tap)) == (0, 2)


def test_retries_stay_within_a_tenth_of_the_calls() -> None:
    with World(upstream=upstream(retries=RETRIES)) as world:
        world.answer = only(B, unavailable)
        for _ in range(300):
            ping(world)
            world.advance(0.2)
        assert len(world.tap) <= 300 * 1.1 + 10


def test_a_call_that_is_cancelled_before_it_is_tried_again() -> None:
    with World(upstream=upstream(1, retries=RETRIES)) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", b"2000"), end=True)
        call = ping(world)
        call.cancel()
        world.advance(5)
        assert len(world.tap) == 1
        assert world.pool.state().waiting == 0


# --- stalled, going away -------------------------------------------------------------------------------------------


def test_a_stalled_endpoint_is_given_up_and_no_call_waits_for_it() -> None:
    with World(upstream=upstream(1, keepalive_s=1, keepalive_answer_s=1)) as world:
        calls = [ping(world) for _ in range(3)]
        connect = world.loop.connector
        assert connect is not None

        def stalled(protocol: Any) -> Any:
            transport = connect(protocol)
            world.server.mute = True
            return transport

        world.loop.connector = stalled
        world.server.mute = True
        world.advance(2.5)
        assert {call.message_text for call in calls} == {b"model server: no answer to a PING within 1 s"}
        assert ping(world).status == Code.UNAVAILABLE
        world.loop.connector = connect
        world.advance(10)
        world.answer = pong
        assert ping(world).status == 0


def test_an_answer_that_does_not_begin_in_time() -> None:
    """The time runs from the end of the request: a caller may take as long as it likes to send it."""
    with World(upstream=upstream(1, try_s=2)) as world:
        slow = world.call("client")
        slow.message(b"one")
        world.advance(9)
        begun = ping(world, "server")
        world.tap[1].head()
        late = ping(world)
        world.advance(1.9)
        assert not late.ended
        world.advance(0.3)
        assert (late.status, late.message_text) == (Code.UNAVAILABLE, b"model server: no answer within 2 s")
        world.advance(5)
        assert (slow.ended, begun.ended) == (False, False)
        for call in (slow, begun):
            call.cancel()


def test_what_has_not_left_is_sent_elsewhere() -> None:
    """A connection that takes nothing more: what the model server cannot have seen is no loss."""
    with World(upstream=upstream(1)) as world:
        world.transport(world.server).pause()
        call = ping(world, "bidi")
        assert not world.tap
        first = world.server
        world.lose(first)
        world.answer = pong
        world.advance(1)
        assert call.status == 0
        assert not first.calls


@pytest.mark.parametrize("served", [True, False])
def test_connections_that_go_away_again_and_again_lose_no_call(served: bool) -> None:
    """served: whether each had a call before; one that had none is replaced ever less often."""
    with World(upstream=upstream(1)) as world:
        world.answer = pong
        for _ in range(50):
            if served:
                assert ping(world).status == 0
            world.server.goaway((1 << 31) - 1)
            call = ping(world)
            world.advance(0.01 if served else 4)
            assert call.status == 0


# --- health --------------------------------------------------------------------------------------------------------


def serving(code: int) -> Any:
    def answer(call: Tapped) -> None:
        if (b":path", HEALTH) in call.headers:
            call.answer(b"\x08" + bytes((code,)))
        else:
            pong(call)

    return answer


def checked(**settings: Any) -> UpstreamSettings:
    return upstream(2, health=HealthSettings(grpc=True, service="a.B", interval_s=1, timeout_s=0.5), **settings)


def test_calls_wait_for_the_first_check_and_go_where_it_is_well() -> None:
    with World(upstream=checked()) as world:
        call = ping(world)
        assert call.status is None
        asked = [call for call in world.tap if (b":path", HEALTH) in call.headers]
        assert {bytes(call.data) for call in asked} == {framed(b"\x0a\3a.B")}
        asked[0].answer(b"\x08\1")
        asked[1].answer(b"\x08\2")
        world.settle()
        assert conditions(world) == ["ready", "unhealthy"]
        assert [len(at(world, address)) for address in (A, B)] == [1, 0]
        world.answer = serving(1)
        world.advance(2)
        assert conditions(world) == ["ready", "ready"]
        call.cancel()


def test_an_endpoint_that_says_it_does_not_serve() -> None:
    with World(upstream=checked()) as world:
        world.answer = serving(1)
        world.advance(2)
        world.answer = only(A, serving(2), serving(1))
        world.advance(2)
        assert conditions(world) == ["unhealthy", "ready"]
        assert [ping(world).status for _ in range(4)] == [0] * 4
        assert served(world) == {B: 4}
        world.answer = serving(2)
        world.advance(2)
        assert ping(world).status == Code.UNAVAILABLE  # no panic: they say so themselves
        assert world.pool.failure == "health check: not serving"
        world.answer = serving(1)
        world.advance(2)
        assert ping(world).status == 0


def test_an_endpoint_that_does_not_answer_checks() -> None:
    with World(upstream=checked()) as world:
        world.answer = serving(1)
        world.advance(2)
        world.answer = only(A, nothing, serving(1))
        world.advance(4)
        assert [(state.condition, state.reason) for state in world.pool.endpoints()] == [
            ("unhealthy", "health check: no answer"), ("ready", ""),
        ]  # fmt: skip


def test_a_server_without_the_health_service_is_well() -> None:
    with World(upstream=checked()) as world:
        world.answer = lambda call: call.head((b"grpc-status", b"12"), end=True)
        world.advance(3)
        assert conditions(world) == ["ready", "ready"]


# --- names ---------------------------------------------------------------------------------------------------------


class Zone:
    """A resolver of one name.  hosts: what it answers; none, an error."""

    def __init__(self, *hosts: str) -> None:
        self.hosts: tuple[str, ...] = hosts
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Iterable[str]:
        self.asked.append((host, port))
        if not self.hosts:
            raise OSError(-2, "Name or service not known")
        return self.hosts


NAMED: Final = UpstreamSettings((Target("model.test", 1),))


def test_a_name_is_as_many_endpoints_as_it_has_addresses() -> None:
    zone = Zone("192.0.2.2", "192.0.2.1", "192.0.2.2")
    with World(upstream=NAMED, lookup=zone) as world:
        world.answer = pong
        assert [ping(world).status for _ in range(4)] == [0] * 4
        assert served(world) == {A: 2, B: 2}
        assert zone.asked == [("model.test", 1)]
        assert world.servers[0].calls[0].headers  # reached by address


def test_a_name_that_changes() -> None:
    zone = Zone("192.0.2.1", "192.0.2.2")
    with World(upstream=NAMED, lookup=zone) as world:
        stays = world.call("bidi")
        stays.message(b"one")
        world.settle()
        (tapped,) = world.tap
        zone.hosts = ("192.0.2.3",)
        world.advance(31)
        assert [state.address for state in world.pool.endpoints()] == [C]
        world.answer = pong
        assert ping(world).status == 0
        stays.message(b"two", end=True)
        world.settle()
        assert (stays.status, tapped.messages) == (0, [b"one", b"two"])  # open calls go on where they are
        world.advance(1)
        assert all(world.transport(server).closed for server in world.servers if server.address != C)


def test_a_failed_connection_has_the_name_looked_up_soon() -> None:
    zone = Zone("192.0.2.1")
    with World(upstream=NAMED, lookup=zone) as world:
        world.advance(5)
        world.answer = pong
        world.refusing.add(A)
        zone.hosts = ("192.0.2.2",)
        world.lose(world.server)
        world.advance(1.1)
        assert ping(world).status == 0
        assert served(world) == {B: 1}
        world.refusing.add(B)
        zone.hosts, zone.asked[:] = ("192.0.2.1",), []
        world.lose(world.at(B))
        world.advance(20)
        assert len(zone.asked) <= 21  # however often connections fail, not more than one a second


def test_a_failed_look_up_keeps_what_is_known() -> None:
    zone = Zone("192.0.2.1")
    with World(upstream=NAMED, lookup=zone) as world:
        zone.hosts = ()
        world.advance(100)
        world.answer = pong
        assert ping(world).status == 0
        assert len(zone.asked) > 3


def test_a_name_that_does_not_resolve_fails_calls_until_it_does() -> None:
    zone = Zone()
    with World(upstream=NAMED, lookup=zone) as world:
        assert ping(world).status == Code.UNAVAILABLE
        assert "'model.test' does not resolve" in (world.pool.failure or "")
        zone.hosts = ("192.0.2.1",)
        world.advance(1.1)
        world.answer = pong
        assert ping(world).status == 0


# --- none is ready -------------------------------------------------------------------------------------------------


def test_calls_wait_while_none_is_ready_where_the_config_says_so() -> None:
    with World(upstream=upstream(2, wait=True, queue_s=3)) as world:
        world.refusing = {A, B}
        for address in (A, B):
            world.lose(world.at(address))
        world.advance(5)
        early = ping(world)
        world.advance(3.2)
        assert (early.status, early.message_text) == (Code.UNAVAILABLE, b"model server is unavailable")
        call = ping(world)
        world.refusing.clear()
        world.answer = pong
        world.advance(2.5)
        assert call.status == 0


def test_a_peer_that_is_not_the_one_meant_is_told_nothing() -> None:
    with World(upstream=upstream(1), admit=lambda _: "process 7 is not the one that was started") as world:
        assert ping(world).status == Code.UNAVAILABLE
        assert world.pool.failure == "process 7 is not the one that was started"
        assert not world.transport(world.server).wrote
