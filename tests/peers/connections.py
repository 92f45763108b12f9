"""Which TCP connections to a port the kernel knows of, closed ones that linger included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LISTENING, TIME_WAIT = "0A", "06"


def clients_of(port: int) -> set[int]:
    """The client's port of each connection to `port` on this host.

    A connection that was closed lingers in TIME_WAIT at one end, so that a reconnection shows as one more.
    Source: proc(5), /proc/net/tcp and tcp6 (grpc calls IPv4 by mapped addresses).
    """
    found = set()
    for line in _lines():
        _, local, remote, state, *_ = line.split()
        if state != LISTENING and _port(remote) == port:
            found.add(_port(local))
        if state == TIME_WAIT and _port(local) == port:
            found.add(_port(remote))
    return found


def _lines() -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        yield from Path("/proc/net", table).read_text().splitlines()[1:]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
