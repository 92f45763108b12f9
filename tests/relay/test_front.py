"""What is left of clients' connections that have ended."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from sidecar.relay.front import FrontWire
from tests.relay.world import World


def connections() -> int:
    """Not by weak references: a compiled class does not clear them."""
    return sum(type(each) is FrontWire for each in gc.get_objects())


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_connection_that_has_ended_is_freed_without_the_cycle_collector() -> None:
    before = connections()
    with World() as world:
        world.call()
        world.settle()
        assert world.relay.admission.open == 1
        assert connections() == before + 1
        world.lose(world.client)
        world._ends = [(end, transport) for end, transport in world._ends if end is not world.client]
        assert connections() == before
