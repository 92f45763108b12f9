"""What is left of clients' connections that have ended."""

from __future__ import annotations

import weakref

from tests.relay.world import World, peer_wire


def test_a_connection_that_has_ended_is_freed_without_the_cycle_collector() -> None:
    with World() as world:
        world.call()
        world.settle()
        assert world.relay.admission.open == 1
        ended = weakref.ref(peer_wire(world))
        world.lose(world.client)
        world._ends = [(end, transport) for end, transport in world._ends if end is not world.client]
        assert ended() is None
