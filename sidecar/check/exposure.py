"""Nothing goes around: whether the model server on this host can be reached without passing the sidecar.

What it may do on this host is open its own port and the ports that the config declares, all on loopback. Children
of the model server are processes of their own and are not looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sidecar.check import sockets_proc
from sidecar.check.report import Finding, Report
from sidecar.check.sockets import Listener, Process, Sockets, unmapped
from sidecar.config.addresses import Address, UnixAddress
from sidecar.config.faults import visible
from sidecar.config.upstream import Upstream

AROUND = "can be reached around the sidecar"


def examine(upstream: Upstream, found: Sequence[Address] = (), proc: Path = Path("/proc")) -> Report:
    """What is open beside the sidecar now; nothing where the model server is not up or is on another host.

    Call it at start and whenever an endpoint comes up; it reads /proc, so not on an event loop's thread.
    found: addresses of endpoints beside those of the config, to which its names have resolved.
    Faults are warnings with `unsafe_open_upstream`.
    """
    return judge(upstream, sockets_proc.read(proc), sockets_proc.is_own, found)


def judge(upstream: Upstream, sockets: Sockets, is_own: Callable[[str], bool], found: Sequence[Address] = ()) -> Report:
    """As `examine`, of a snapshot. is_own: whether an IP address belongs to this host."""
    addresses = (*upstream.address, *found)
    doors = [each for each in sockets.listeners if any(_answers(each, address, is_own) for address in addresses)]
    inodes = {door.inode for door in doors}
    paths = [address.path for address in addresses if isinstance(address, UnixAddress)]
    inodes.update(sockets.unix[path] for path in paths if path in sockets.unix)
    processes = {process for inode in inodes for process in sockets.owners.get(inode, ())}
    others = [
        each
        for each in sockets.listeners
        if each.inode not in inodes and processes.intersection(sockets.owners.get(each.inode, ()))
    ]
    report = Report(tuple(_faults(upstream, doors, others, sockets)), tuple(_unseen(upstream, inodes, sockets)))
    return report.excused() if upstream.unsafe_open_upstream else report


def _answers(listener: Listener, address: Address, is_own: Callable[[str], bool]) -> bool:
    """Whether a connection to `address` may arrive at `listener`."""
    if isinstance(address, UnixAddress) or listener.port != address.port:
        return False
    try:
        host = unmapped(ipaddress.ip_address(address.host))
    except ValueError:
        # localhost may mean either family; any other name is taken to be another host.
        return address.loopback and (listener.loopback or listener.host.is_unspecified)
    if host == listener.host:
        return True
    # A socket at :: takes IPv4 as well, unless it was told not to.
    takes = listener.host.version == 6 or host.version == 4
    return listener.host.is_unspecified and takes and (host.is_loopback or is_own(address.host))


def _faults(
    upstream: Upstream, doors: Iterable[Listener], others: Iterable[Listener], sockets: Sockets
) -> Iterable[Finding]:
    for door in doors:
        if not door.loopback:
            yield Finding(
                "upstream.address",
                f"expected the model server on loopback only, came {_who(door, sockets)} listening on {door}, "
                f"which {AROUND}",
            )
    for other in others:
        who = _who(other, sockets)
        if not other.loopback:
            yield Finding(
                "upstream.address",
                f"expected further ports of the model server on loopback only, came {who} listening on {other}, "
                f"which {AROUND}",
            )
        if other.port not in upstream.ports:
            yield Finding(
                "upstream.ports",
                f"expected every further port of the model server to be listed, came {who} listening on {other}; "
                f"close it, or add {other.port}",
            )


def _unseen(upstream: Upstream, inodes: Iterable[int], sockets: Sockets) -> Iterable[Finding]:
    """Where the model server's process may not be seen, its further ports are unknown: say so, and what is likely."""
    hidden = {inode for inode in inodes if inode not in sockets.owners}
    users = {each.uid for each in sockets.listeners if each.inode in hidden}
    if hidden:
        likely = [
            str(each)
            for each in sockets.listeners
            if each.uid in users and each.inode not in hidden and each.inode not in sockets.owners
        ]
        seen = f"; other processes that cannot be seen listen on {', '.join(likely)}" if likely else ""
        yield Finding(
            "upstream.ports", f"the model server's process cannot be seen from here, so neither can its ports{seen}"
        )


def _who(listener: Listener, sockets: Sockets) -> str:
    owners: tuple[Process, ...] = sockets.owners.get(listener.inode, ())
    return " and ".join(f"{visible(each.name)} (pid {each.pid})" for each in owners[:3]) or "a process"
