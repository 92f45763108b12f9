"""The nursery: a process that has imported what children run, and makes one by fork whenever the supervisor asks.

It holds code and nothing else: no secret, no thread, no event loop, and no descriptor but its control channel. What
a fork could hand down unasked is thus not there. It is exec'd by the supervisor, and ends when that does.

    supervisor ──exec──► nursery ──fork──► (between) ──fork──► child
         ▲                                    │ ends at once      │
         └──────────── parent of the orphan ──┴───────────────────┘
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
from typing import Final, NoReturn

from sidecar import logs
from sidecar.processes import child, privacy
from sidecar.processes.channel import Channel
from sidecar.processes.messages import Bear, Born, ChannelError
from sidecar.processes.roles import NURSED, ROLES
from sidecar.processes.spawn import HEEDLESS

NAME: Final = "nursery"
PROGRAM: Final = "langtrain-sidecar"
STANDARD: Final = 3  # descriptors: input, output and error

log = logs.Log("nursery")


def main(number: int) -> None:
    """number: of the control channel's descriptor. Returns when the supervisor closes the channel."""
    # Children have this from their first moment; and who could write into this process, could into all to come.
    privacy.hide_memory()
    for each in HEEDLESS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    privacy.set_name(NAME)
    logs.configure(common={"process": NAME, "pid": os.getpid()})
    end = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    for role in NURSED:
        importlib.import_module(ROLES[role])
    gc.collect()
    gc.freeze()  # a collection in a child writes to no object of before: their pages stay shared
    channel = Channel(end)
    while True:
        try:
            message, descriptors = channel.first()
        except (ChannelError, OSError):
            return
        if not isinstance(message, Bear) or len(descriptors) != 1:
            raise ChannelError("expected the message Bear with one descriptor, came another")
        _bear(channel, message.name, descriptors[0])


def _bear(channel: Channel, name: str, number: int) -> None:
    """Make one child, and say so. number: of its end of its control channel."""
    try:
        pid = _fork(channel, name, number)
    except OSError as error:
        channel.send(Born(name, 0, error.strerror or str(error)))
        return
    finally:
        os.close(number)
    # Nobody can have waited for it: until this is said, the supervisor does not know it.
    pidfd = os.pidfd_open(pid)
    channel.send(Born(name, pid, ""), [pidfd])
    os.close(pidfd)


def _fork(channel: Channel, name: str, number: int) -> int:
    """The id of a new child of the supervisor's. Raises OSError where there is none.

    By way of a process that ends at once: the orphan is given to the supervisor (PR_SET_CHILD_SUBREAPER), before
    whoever waits for the process between is told of its end.
    """
    read, write = os.pipe()
    with os.fdopen(read, "rb") as told:
        try:
            between = os.fork()
            if between == 0:
                _between(channel, name, number, write)
        finally:
            os.close(write)
        said = told.read()
    os.waitpid(between, 0)
    if not said:
        raise OSError("no process can be had")
    return int(said)


def _between(channel: Channel, name: str, number: int, write: int) -> NoReturn:
    status = 2
    try:
        pid = os.fork()
        if pid == 0:
            _live(channel, name, number)
        os.write(write, b"%d" % pid)
        status = 0
    except BaseException as error:
        log.error("internal_error", error)
    finally:
        os._exit(status)  # whatever is raised: what called this is the nursery's


def _live(channel: Channel, name: str, number: int) -> NoReturn:
    """Be the child. Of what the nursery has, it keeps the modules, and one descriptor."""
    channel.close()
    for other in map(int, os.listdir("/proc/self/fd")):
        if other >= STANDARD and other != number:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(other)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    privacy.set_name(name)
    privacy.set_command_line((PROGRAM, name))
    child.main(socket.socket(fileno=number))
