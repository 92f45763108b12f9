"""The ends that load tools put on both sides of the relay, against each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator

import pytest

from bench.harness.ends import LOST, Called, Client, framed
from tests.processes import Process

THREE = framed((3).to_bytes(4, "big") + b"abc")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Process([sys.executable, "-m", "bench.harness.ends"]) as server:
        yield int(server.wait_line(str.isdigit))


def call(port: int, method: bytes, payloads: tuple[bytes, ...], then: Callable[[Called], None] | None = None) -> Called:
    async def calling() -> Called:
        client = Client(port, None)
        await client.connect(1)
        over: asyncio.Future[Called] = asyncio.get_running_loop().create_future()
        called = Called(client.wires[0], over.set_result)
        client.open(called, method)
        for number, payload in enumerate(payloads, 1):
            called.send(payload, number == len(payloads))
        if then is not None:
            then(called)
        ended = await asyncio.wait_for(over, 10)
        await client.close()
        return ended

    return asyncio.run(calling())


@pytest.mark.parametrize(
    ("method", "payloads", "answer"),
    [
        (b"Same", (framed(b"x"),), framed(b"x")),
        (b"Same", (framed(bytes(3_000_000)),), framed(bytes(3_000_000))),  # beyond every window
        (b"Many", (THREE,), THREE * 3),
        (b"Last", (framed(b"a"), framed(b""), framed(b"last")), framed(b"last")),
        (b"Last", (framed(b"a") + framed(b"b"), framed(b"c")), framed(b"c")),
        (b"Echo", (framed(b"a"), framed(b"b")), framed(b"a") + framed(b"b")),
    ],
)
def test_an_answer(port: int, method: bytes, payloads: tuple[bytes, ...], answer: bytes) -> None:
    called = call(port, method, payloads)
    assert called.status == 0
    assert b"".join(called.body) == answer


def test_a_cancelled_call_is_lost(port: int) -> None:
    assert call(port, b"Never", (framed(b""),), Called.cancel).status == LOST


def test_a_call_whose_connection_goes_is_lost(port: int) -> None:
    def leave(called: Called) -> None:
        called.wire.close()

    assert call(port, b"Never", (framed(b""),), leave).status == LOST
