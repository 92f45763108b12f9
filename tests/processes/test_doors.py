"""Places at which connections are taken, on real event loops and sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from sidecar.processes.doors import Doors, queued
from sidecar.processes.listeners import TcpListeners

DEADLINE_S = 10.0
Run = Callable[[Awaitable[None]], None]


class Greeter(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    made: Run = request.param
    return made


@pytest.fixture
def places() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listening sockets of two places, each at an address of its own; the supervisor keeps them."""
    listeners = [TcpListeners("127.0.0.1", 0, 1) for _ in range(2)]
    [[one]], [[other]] = (each.sockets for each in listeners)
    yield one, other
    for each in listeners:
        each.close()


def connect(listening: socket.socket) -> socket.socket:
    """A connection that waits there: the event loop does not turn meanwhile."""
    return socket.create_connection(listening.getsockname(), DEADLINE_S)


async def greeted(connection: socket.socket) -> bool:
    with connection:
        connection.setblocking(False)
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 100), DEADLINE_S)
    return said == b"hello"


def waits(connection: socket.socket, listening: socket.socket) -> bool:
    """Whether a connection still waits there; it is taken."""
    accepted = queued(listening)
    names = [each.getpeername() for each in accepted]
    for each in accepted:
        each.close()
    with connection:
        return connection.getsockname() in names


def test_another_place_is_tended_until_it_is_left(run: Run, places: tuple[socket.socket, socket.socket]) -> None:
    one, other = places

    async def tends() -> None:
        doors = Doors(asyncio.get_running_loop(), Greeter)
        await doors.open(0, [one.dup()])
        early = connect(other)
        assert await greeted(connect(one))
        doors.tend(1, [other.dup()])
        assert await greeted(early)
        assert await greeted(connect(other))
        doors.leave(1)
        late = connect(other)
        assert await greeted(connect(one))
        assert waits(late, other)
        assert doors.close(last=False) == []

    run(tends())


def test_a_place_left_before_it_was_opened_is_not_opened(run: Run, places: tuple[socket.socket, socket.socket]) -> None:
    one, other = places

    async def leaves() -> None:
        doors = Doors(asyncio.get_running_loop(), Greeter)
        await doors.open(0, [one.dup()])
        doors.tend(1, [other.dup()])
        doors.leave(1)
        assert await greeted(connect(one))
        late = connect(other)
        assert await greeted(connect(one))
        assert waits(late, other)
        assert doors.close(last=False) == []

    run(leaves())


def test_the_last_to_close_takes_who_waits_and_any_other_leaves_them(
    run: Run, places: tuple[socket.socket, socket.socket]
) -> None:
    async def closes() -> None:
        doors = [Doors(asyncio.get_running_loop(), Greeter) for _ in places]
        for each, kept in zip(doors, places, strict=True):
            await each.open(0, [kept.dup()])
        waiting = [connect(kept) for kept in places]
        assert doors[0].close(last=False) == []
        assert waits(waiting[0], places[0])
        [accepted] = doors[1].close(last=True)
        assert accepted.getpeername() == waiting[1].getsockname()
        assert not waits(waiting[1], places[1])
        accepted.close()
        late = places[0].dup()
        doors[0].tend(1, [late])
        assert late.fileno() == -1

    run(closes())
