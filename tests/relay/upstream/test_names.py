"""Endpoints that are found by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from interceptors.contract import Code
from sidecar.relay.settings import Target, UpstreamSettings
from tests.relay.upstream.three import (
    A,
    B,
    C,
    ping,
    pong,
    served,
)
from tests.relay.world import World


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
