"""Reads the tables of sockets, and who holds them, from /proc. What may not be read is left out."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from sidecar.check.sockets import Process, Sockets, tcp_listeners, unix_listeners

HELD = re.compile(r"socket:\[([0-9]+)\]")


def read(proc: Path = Path("/proc")) -> Sockets:
    """A snapshot of this network namespace. Takes milliseconds on a busy host: not for an event loop's thread."""
    listeners = [each for table in ("tcp", "tcp6") for each in tcp_listeners(_text(proc / "net" / table))]
    unix = unix_listeners(_text(proc / "net" / "unix"))
    wanted = {each.inode for each in listeners} | set(unix.values())
    owners: dict[int, tuple[Process, ...]] = {}
    for pid, inodes in _holdings(proc):
        for inode in inodes & wanted:
            process = Process(pid, _text(proc / str(pid) / "comm").strip())
            owners[inode] = (*owners.get(inode, ()), process)
    return Sockets(listeners, unix, owners)


def is_own(host: str) -> bool:
    """Whether an IP address is one of this host's: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _holdings(proc: Path) -> Iterator[tuple[int, set[int]]]:
    for entry in sorted(proc.iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        held = set()
        try:
            for descriptor in os.scandir(entry / "fd"):
                try:
                    found = HELD.fullmatch(os.readlink(descriptor.path))
                except OSError:
                    continue  # closed meanwhile
                if found:
                    held.add(int(found.group(1)))
        except OSError:
            continue  # another user's process, or one that has ended
        yield int(entry.name), held


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""  # no IPv6 here, or a process that has ended
