"""A way to an address that lets connections be made at once, and what clients say on them only once it is opened."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

DEADLINE_S: Final = 20.0


class Gate:
    """address: what clients connect to.  made: connections that have been made beyond it."""

    def __init__(self, beyond: str, listening: socket.socket) -> None:
        self.address = f"127.0.0.1:{listening.getsockname()[1]}"
        self.made = 0
        self._beyond = beyond
        self._listening = listening
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def run(self) -> None:
        with ExitStack() as carried, suppress(OSError):  # it is closed at the end
            while True:
                client = carried.enter_context(self._listening.accept()[0])
                host, _, port = self._beyond.rpartition(":")
                server = carried.enter_context(socket.create_connection((host, int(port)), DEADLINE_S))
                for each in (
                    threading.Thread(target=_carry, args=(client, server, self._opened), daemon=True),
                    threading.Thread(target=_carry, args=(server, client, None), daemon=True),
                ):
                    each.start()
                    carried.callback(each.join, DEADLINE_S)
                self.made += 1


def _carry(one: socket.socket, other: socket.socket, opened: threading.Event | None) -> None:
    with suppress(OSError):
        if opened is not None:
            opened.wait(DEADLINE_S)
        while data := one.recv(65_536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@contextmanager
def gate(beyond: str) -> Iterator[Gate]:
    """beyond: "127.0.0.1:port". Its clients' connections end with the block, or before."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Gate(beyond, listening)
        thread = threading.Thread(target=made.run, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.open()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)
