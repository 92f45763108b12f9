"""Tells systemd how we are doing: sd_notify(3), the datagrams of it. Without NOTIFY_SOCKET, nobody is told."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping


class Notify:
    """environ: may name NOTIFY_SOCKET, a path or "@" and an abstract name, and WATCHDOG_USEC with WATCHDOG_PID."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._unsaid: deque[bytes] = deque(maxlen=100)
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
        """Say so, unless the manager is so far behind that it has this to read already."""
        self.go_on()
        if not self._unsaid:
            self._send(b"WATCHDOG=1")

    def go_on(self) -> None:
        """Say what found the manager's queue full; to be called now and then."""
        while self._unsaid and self._send(self._unsaid[0]):
            self._unsaid.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self.go_on()
            self._socket.close()

    def _say(self, *assignments: str) -> None:
        self._unsaid.append("\n".join(assignments).encode())
        self.go_on()

    def _send(self, datagram: bytes) -> bool:
        """False where the manager's queue is full. A manager that is not there must not end what it manages."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(datagram, socket.MSG_DONTWAIT, self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


def from_environment() -> Notify:
    """Of this process's environment, out of which it is taken: its children are not to speak to the manager."""
    made = Notify(os.environ, os.getpid())
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    return made
