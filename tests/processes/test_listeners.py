"""Listening sockets that outlive whoever accepts on them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from sidecar.processes.listeners import TcpListeners, UnixListener


def port_of(listeners: TcpListeners) -> int:
    return int(listeners.address.rpartition(":")[2])


def test_places_share_one_free_port() -> None:
    listeners = TcpListeners("127.0.0.1", 0, 3)
    names = {each.getsockname() for place in listeners.sockets for each in place}
    assert names == {("127.0.0.1", port_of(listeners))}
    assert len(listeners.sockets) == 3
    listeners.close()


def test_a_second_sidecar_does_not_share_the_port() -> None:
    listeners = TcpListeners("127.0.0.1", 0, 2)
    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        TcpListeners("127.0.0.1", port_of(listeners), 2)
    listeners.close()


def test_nobody_inherits_a_socket_unasked() -> None:
    listeners = TcpListeners("127.0.0.1", 0, 1)
    assert not listeners.sockets[0][0].get_inheritable()
    listeners.close()


def test_what_waits_survives_whoever_would_have_accepted_it() -> None:
    listeners = TcpListeners("127.0.0.1", 0, 1)
    [[kept]] = listeners.sockets
    worker = kept.dup()
    with socket.create_connection(kept.getsockname(), 10) as client:
        worker.close()
        successor = kept.dup()
        successor.setblocking(True)
        accepted, _ = successor.accept()
        accepted.sendall(b"served")
        assert client.recv(10) == b"served"
        accepted.close()
        successor.close()
    listeners.close()


def test_a_unix_socket_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = UnixListener(path, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert listener.sockets[0] == listener.sockets[1]
    listener.close()
    assert not path.exists()


def test_what_another_put_at_the_path_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = UnixListener(path, 1)
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.read_text() == "another's"
