"""Calls that are open when what they rest on changes: asked about again, and ended where they may not go on."""

from __future__ import annotations

import itertools

from interceptors.contract import Call, Code, Deny, Peer
from tests.relay.world import World

NO = Deny(Code.PERMISSION_DENIED, "test.no", "permission denied")


def test_open_calls_are_denied_where_they_are_not_allowed_any_more() -> None:
    with World() as world:
        stream, unary, other = world.call("bidi"), world.call("unary"), world.call("bidi")
        world.settle()
        asked: list[str] = []

        def allow(call: Call, peer: Peer) -> Deny | None:
            asked.append(call.method.path)
            return NO

        world.front.ask_again(lambda call: call.method.path.endswith("Bidi"), allow)
        world.settle()
        assert asked == ["/t.S/Bidi"] * 2
        for each in (stream, other):
            assert (each.status, each.message_text) == (Code.PERMISSION_DENIED, b"permission denied")
        assert unary.status is None
        unary.cancel()


def test_while_many_are_asked_about_others_have_their_turns() -> None:
    with World() as world:
        clients = [world.client, *(world.connect() for _ in range(9))]
        calls = [client.call(b"/t.S/Bidi") for client in clients]
        world.settle()
        world.relay.timer = itertools.count().__next__  # each look at it is a second later
        order: list[str] = []

        def allow(call: Call, peer: Peer) -> Deny | None:
            order.append("asked")
            return NO

        def turn() -> None:
            order.append("others")
            if order.count("asked") < len(calls):
                world.loop.call_soon(turn)

        world.loop.call_soon(turn)
        world.front.ask_again(lambda call: True, allow)
        world.settle()
        assert order == ["asked", "others"] * len(calls)
        assert {call.status for call in calls} == {Code.PERMISSION_DENIED}
