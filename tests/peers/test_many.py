"""Many streams at once, and many calls one after another, on one connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.peers import connections
from tests.peers.conftest import FRONTS, H2C, LOOKED, MTLS, Front
from tests.peers.targets import DEADLINE, Target, Upstream, plain_unary

STREAMS, CALLS, AT_ONCE = 1000, 10_000, 50


def clients(target: Target) -> set[int]:
    return connections.clients_of(target.port)


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_a_thousand_streams_at_once_on_one_connection(
    front: Front, through: Any, upstream: Upstream, runner: asyncio.Runner
) -> None:
    async def stream(channel: Any, number: int, everyone: asyncio.Barrier) -> None:
        call = channel.stream_stream("/peers.Echo/Bidi")(timeout=DEADLINE)
        for word in (b"first %d" % number, b"second %d" % number):
            await call.write(word)
            assert await call.read() == word
            await everyone.wait()  # nobody goes on before all streams are open, nor ends before all have answered
        await call.done_writing()
        assert (await call.code()).value[0] == 0

    async def run(target: Target) -> set[int]:
        everyone = asyncio.Barrier(STREAMS)
        async with target.aio() as channel, asyncio.timeout(DEADLINE):
            await asyncio.gather(*(stream(channel, number, everyone) for number in range(STREAMS)))
            return clients(target)

    with through(front, concurrent_streams=STREAMS) as target:
        before = clients(target)
        assert len(runner.run(run(target)) - before) == 1
    upstream.wait_quiet()


@pytest.mark.parametrize(
    "front", [MTLS, *(pytest.param(front, marks=pytest.mark.slow) for front in (H2C, LOOKED))], ids=str
)
def test_ten_thousand_calls_on_one_connection(
    front: Front, through: Any, upstream: Upstream, runner: asyncio.Runner
) -> None:
    async def some(channel: Any, first: int) -> None:
        echo = channel.unary_unary("/peers.Echo/Unary")
        for number in range(first, CALLS, AT_ONCE):
            assert await echo(b"call %d" % number, timeout=DEADLINE) == b"call %d" % number

    async def run(target: Target) -> set[int]:
        async with target.aio() as channel:
            await asyncio.gather(*(some(channel, first) for first in range(AT_ONCE)))
            return clients(target)

    with through(front) as target:
        before = clients(target)
        assert len(runner.run(run(target)) - before) == 1
    upstream.wait_quiet()


def test_deadlines_shrink_and_cancel_at_the_server(target: Target, upstream: Upstream) -> None:
    """The server sees less time than the client gave, and a call past its deadline ends there too."""
    with target.channel() as channel:
        left = float(plain_unary(channel, "/peers.Echo/Remaining")(b"", timeout=20))
        assert 0 < left < 21  # grpc rounds deadlines up on the wire, by up to a hundredth
        assert plain_unary(channel, "/peers.Echo/Remaining")(b"") == b""
        with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
            plain_unary(channel, "/peers.Echo/Wait")(b"", timeout=0.5)
    upstream.wait_quiet()
