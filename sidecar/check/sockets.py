"""The kernel's tables of sockets, as text → who listens where. Reading them is `sockets_proc`.

Source: proc_pid_net(5), Documentation/networking/proc_net_tcp.rst of the Linux kernel.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

TCP_LISTEN: Final = "0A"  # include/net/tcp_states.h
ACCEPTING: Final = 0x10000  # __SO_ACCEPTCON, the flag of a listening Unix socket
WORD: Final = 4  # bytes; addresses are printed as words in the host's byte order


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP socket that accepts connections at host:port. host: not an IPv4 address within IPv6.  uid: its owner."""

    host: IpAddress
    port: int
    inode: int
    uid: int

    @property
    def loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.host.is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Process:
    """Who holds a socket. name: as the kernel gives it, at most 15 characters of its choosing."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Sockets:
    """listeners: of this network namespace.  unix: path of a listening Unix socket → inode.

    owners: inode → the processes that hold it, as far as they may be seen.
    """

    listeners: Sequence[Listener] = ()
    unix: Mapping[str, int] = field(default_factory=dict)
    owners: Mapping[int, tuple[Process, ...]] = field(default_factory=dict)


def tcp_listeners(table: str) -> list[Listener]:
    """The listening sockets of /proc/net/tcp or tcp6; a line that says something else is passed over."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != TCP_LISTEN:
            continue
        host, _, port = fields[1].partition(":")
        found.append(Listener(_address(host), int(port, 16), int(fields[9]), int(fields[7])))
    return found


def unix_listeners(table: str) -> dict[str, int]:
    """Path → inode of the listening sockets of /proc/net/unix that have a path."""
    found = {}
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & ACCEPTING and fields[7].startswith("/"):
            found[fields[7]] = int(fields[6])
    return found


def _address(digits: str) -> IpAddress:
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + WORD][::-1] for at in range(0, len(raw), WORD))
    return unmapped(ipaddress.ip_address(raw))


def unmapped(address: IpAddress) -> IpAddress:
    """An IPv4 address for its form within IPv6, ::ffff:a.b.c.d (RFC 4291 §2.5.5.2): they are one place."""
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
