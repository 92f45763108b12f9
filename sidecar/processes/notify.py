"""Tells systemd how we are doing: sd_notify(3), the datagrams of it. Without NOTIFY_SOCKET, nobody is told."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notify:
    """environ: may name NOTIFY_SOCKET, a path or "@" and an abstract name, and WATCHDOG_USEC with WATCHDOG_PID."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        microseconds = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        # Half the time allowed, as sd_watchdog_enabled(3) advises; 0.0 where nobody watches.
        self.watchdog_s = int(microseconds) / 2e6 if ours and microseconds.isdigit() else 0.0

    def ready(self, status: str) -> None:
        self._say("READY=1", f"STATUS={status}")

    def reloading(self, monotonic_s: float) -> None:
        """monotonic_s: CLOCK_MONOTONIC. `ready` says when the reload is done or refused."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self) -> None:
        self._say("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _say(self, *assignments: str) -> None:
        if self._socket is not None:
            # A manager that is not there, or is slow, must not end what it manages.
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, self._address)


def from_environment() -> Notify:
    """Of this process's environment, out of which it is taken: its children are not to speak to the manager."""
    made = Notify(os.environ, os.getpid())
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    return made
