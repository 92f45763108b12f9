"""Where a process takes connections: at its own place, and at others' where nobody stands."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from sidecar.processes.listeners import BACKLOG


class Doors:
    """The listening sockets of places, by slot, from when they are opened until they are left or all are closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """protocol: makes one for each connection."""
        self._loop = loop
        self._protocol = protocol
        self._opened: dict[int, list[tuple[socket.socket, asyncio.AbstractServer]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self, slot: int, sockets: Sequence[socket.socket]) -> None:
        """Take what comes to a place. sockets: listening; they are this object's from here on."""
        self._opened.setdefault(slot, [])
        await self._open(slot, sockets)

    async def _open(self, slot: int, sockets: Sequence[socket.socket]) -> None:
        opened = self._opened.get(slot)
        for each in sockets:
            server = await self._loop.create_server(self._protocol, sock=each, backlog=BACKLOG)
            if opened is not None and self._opened.get(slot) is opened:
                opened.append((each, server))
            else:
                server.close()  # the place has been left meanwhile

    def tend(self, slot: int, sockets: Sequence[socket.socket]) -> None:
        """The same, soon; nothing once all are closed."""
        if self._closed:
            for each in sockets:
                each.close()
            return
        self._opened.setdefault(slot, [])
        task = self._loop.create_task(self._open(slot, sockets))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def leave(self, slot: int) -> None:
        """Somebody else takes what comes to a place from here on, and what waits there."""
        for _, server in self._opened.pop(slot, ()):
            server.close()

    def close(self, last: bool) -> list[socket.socket]:
        """Take nothing more. last: nobody else will; the connections that wait, accepted, else none."""
        self._closed = True
        waiting: list[socket.socket] = []
        for opened in self._opened.values():
            for each, server in opened:
                if last:
                    waiting += queued(each)  # right before it is closed, which resets who waits
                server.close()
        self._opened.clear()
        return waiting


def queued(listening: socket.socket) -> list[socket.socket]:
    """The connections that wait at a listening socket, which does not block, accepted."""
    found: list[socket.socket] = []
    while True:
        try:
            found.append(listening.accept()[0])
        except ConnectionAbortedError:
            continue  # whoever waited has left
        except OSError:
            return found  # nobody else waits, or no descriptor is left
