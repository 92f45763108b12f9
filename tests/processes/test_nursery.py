"""What a nursery makes, and how that ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A supervisor of one child, of the role of a module that is made here. argument: what its main does.
ONE = """
import importlib, os, signal, socket, sys, types
sys.path[:] = sys.argv[2:]
from sidecar.processes import nursery, privacy, roles
from sidecar.processes.channel import Channel
from sidecar.processes.messages import Bear, Start

role = types.ModuleType("role")
exec("def main(birth):\\n    " + sys.argv[1], role.__dict__)
sys.modules["role"] = role
roles.ROLES["toy"] = "role"
nursery.NURSED = ()
privacy.adopt_orphans()
ours, theirs = socket.socketpair()
made = os.fork()
if made == 0:
    ours.close()
    nursery.main(theirs.detach())
    print("the nursery ends", flush=True)
    os._exit(0)
theirs.close()
channel = Channel(ours)
one, two = socket.socketpair()
channel.send(Bear("toy-0.1"), [two.fileno()])
two.close()
born, descriptors = channel.first()
control = Channel(one)
control.send(Start("toy", 0, "toy-0.1", "00", "info", "/", 1, {}, []))
print("the child ends with", os.waitstatus_to_exitcode(os.waitpid(born.pid, 0)[1]), flush=True)
channel.close()
os.waitpid(made, 0)
"""


@pytest.mark.parametrize(
    ("does", "status"),
    [
        ("return 3", 3),
        ("raise ValueError", 2),
        ("raise SystemExit(0)", 2),
        ("raise KeyboardInterrupt", 2),
        ("raise BaseException", 2),
        ("import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); raise SystemExit", 2),
    ],
)
def test_whatever_a_role_raises_only_its_child_ends(does: str, status: int) -> None:
    command = [sys.executable, "-P", "-c", ONE, does, *sys.path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == (f"the child ends with {status}\nthe nursery ends\n", 0), ended.stderr
