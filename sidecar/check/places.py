"""What must be free or writable on this host: the state directory, the events file, the listening address."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from sidecar.check.report import Report, fault
from sidecar.config.addresses import Address, UnixAddress
from sidecar.config.model import Config


def inspect(config: Config) -> Report:
    """Nothing is made or changed, but for a socket that is bound and closed."""
    report = _directory("state.directory", config.state.directory)
    events = config.events_file
    if events.exists():
        if not events.is_file() or not os.access(events, os.W_OK):
            report += fault("audit.file", f"expected a file that can be written, came {events}")
    elif config.audit.file:
        report += _directory("audit.file", events.parent)
    if config.limits and config.limits_file.exists():
        if not config.limits_file.is_file() or not os.access(config.limits_file, os.R_OK | os.W_OK):
            report += fault("state.directory", f"expected a file that can be written, came {config.limits_file}")
    return report + _address(config.listen.address)


def _directory(path: str, directory: Path) -> Report:
    """A directory that is absent is made at start, in the nearest one that is there."""
    nearest = directory
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return fault(path, f"expected a directory, came {nearest}, which is none")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return fault(path, f"expected a directory that can be written, came {nearest}, which cannot")
    return Report()


def _address(address: Address) -> Report:
    if isinstance(address, UnixAddress):
        return _unix(Path(address.path))
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)  # two sockets with SO_REUSEADDR may share a port until one of them listens
    except OSError as error:
        return fault("listen.address", f"cannot listen on {address}: {error.strerror}")
    return Report()


def _unix(path: Path) -> Report:
    if not path.parent.is_dir():
        return fault("listen.address", f"expected a socket in a directory that exists, came {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return fault("listen.address", f"expected a socket in a directory that can be written, came {path.parent}")
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return fault("listen.address", f"expected no file but a socket at {path}, came another")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) == 0:
                return fault("listen.address", f"cannot listen on {path}: another process does")
    return Report()
