"""The listening sockets, which the supervisor keeps: what waits in one is accepted by the next worker of its place."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

BACKLOG: Final = 1024


class TcpListeners:
    """For each of `places`, sockets at every address of host:port; the kernel spreads connections over the places.

    port: 0 takes a free one.  Raises OSError.
    """

    apart: Final = True  # what waits in the sockets of one place, no other takes

    def __init__(self, host: str, port: int, places: int) -> None:
        self.sockets: list[list[socket.socket]] = [[] for _ in range(places)]
        flags = socket.AI_PASSIVE
        found = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
        try:
            for family, kind, protocol, _, where in found:
                # With SO_REUSEPORT alone, two sidecars would share a port that was meant for one.
                where = (where[0], self._port(family, (where[0], port or self._chosen(), *where[2:])), *where[2:])
                for place in self.sockets:
                    place.append(_bound(family, kind, protocol, where, shared=True))
        except OSError:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Where it listens, with the real port where 0 was asked for."""
        name = self.sockets[0][0].getsockname()
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def close(self) -> None:
        for place in self.sockets:
            for each in place:
                each.close()

    def _chosen(self) -> int:
        return int(self.sockets[0][0].getsockname()[1]) if self.sockets[0] else 0

    def _port(self, family: int, where: tuple[object, ...]) -> int:
        with _bound(family, socket.SOCK_STREAM, 0, where, shared=False) as probe:
            return int(probe.getsockname()[1])


def _bound(family: int, kind: int, protocol: int, where: tuple[object, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


class UnixListener:
    """One socket at `path` that all places share; nobody else may connect. Raises OSError."""

    apart: Final = False

    def __init__(self, path: Path, places: int) -> None:
        self._path = path
        remove_stale_socket(path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)  # from the moment the socket is there
        try:
            made.setblocking(False)
            made.bind(str(path))
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
        finally:
            os.umask(mask)
        self._identity = _identity(path)
        self.sockets = [[made] for _ in range(places)]

    @property
    def address(self) -> str:
        return f"unix://{self._path}"

    def close(self) -> None:
        """Fine when it is closed already."""
        self.sockets[0][0].close()
        # What stands at the path may be somebody else's by now.
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                self._path.unlink()


Listeners = TcpListeners | UnixListener


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that a killed process left; anything else stays, and binding fails.

    Raises OSError where somebody listens there, or where it cannot be told.
    """
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there already")
