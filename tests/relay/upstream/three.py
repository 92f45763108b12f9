"""What tests of several endpoints share: three addresses, answers by address, and what each was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sidecar.relay.settings import Target, UpstreamSettings
from tests.relay.ends import REFUSED_STREAM, Call, Tapped
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
