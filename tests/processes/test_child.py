"""How a child begins, or does not."""

from __future__ import annotations

import socket
import subprocess
import sys

from sidecar.processes.channel import Channel
from sidecar.processes.messages import Go

MAIN = "import socket, sys; from sidecar.processes.child import main; main(socket.socket(fileno=int(sys.argv[1])))"


def begin(theirs: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", f"import sys; sys.path[:] = {sys.path!r}; {MAIN}", str(theirs.fileno())]
    with theirs:
        return subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)


def test_one_that_nobody_has_use_for_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    child = begin(theirs)
    ours.close()
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (0, b"")


def test_one_that_is_told_something_else_first_ends() -> None:
    ours, theirs = socket.socketpair()
    child = begin(theirs)
    channel = Channel(ours)
    channel.send(Go())
    _, said = child.communicate(timeout=60)
    channel.close()
    assert child.returncode == 1
    assert b"expected the message Start first" in said
