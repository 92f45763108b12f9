"""Who is at the other end of a Unix socket, as the kernel says: whom a path leads to can be changed, this cannot."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple, Protocol

from sidecar.internal.mac import SealError

_UCRED: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Connected(Protocol):
    """A connected Unix stream socket: `socket.socket`, or what an event loop's transport shows of its own."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


class Peer(NamedTuple):
    """Of a listening socket: who called listen(2) on it. Of a connecting one: who called connect(2)."""

    pid: int
    uid: int
    gid: int


def peer(connected: Connected) -> Peer:
    """unix(7), SO_PEERCRED: the credentials are those at connect or listen."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


def expect(connected: Connected, pid: int) -> None:
    """That process `pid` listens at the other end: without a word said to whoever else does. Raises SealError."""
    found = peer(connected)
    if found.pid != pid:
        raise SealError("internal.peer", f"process {found.pid} listens at the socket, expected {pid}")
