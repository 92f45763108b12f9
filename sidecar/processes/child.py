"""How a child begins, and its end of the control channel.

A child never outlives its supervisor: when the channel ends it drains as if told to, and a thread of its own ends it
where that takes too long or the event loop hangs.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, TypeVar, cast

from sidecar import logs
from sidecar.errors import SettingError, SidecarError
from sidecar.processes.channel import Channel
from sidecar.processes.messages import (
    Attach,
    ChannelError,
    Drain,
    End,
    Failed,
    Go,
    Level,
    Message,
    Report,
    Start,
    Tend,
)
from sidecar.processes.roles import ROLES

REPORT_S: Final = 0.5
ORPHAN_GRACE_S: Final = 30.0  # for what is open when the supervisor is gone
ORPHAN_LIMIT_S: Final = 40.0  # after which an orphan ends whatever it does
PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes

log = logs.Log("child")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Birth:
    """What a role's `main` is given. descriptors: by the names in start.descriptors; they are the role's own."""

    start: Start
    channel: Channel
    descriptors: Mapping[str, int]


class Role(Protocol):
    def main(self, birth: Birth) -> int:
        """Run until told to end; the exit status. Raises SidecarError for what only shows when starting."""


def main(end: socket.socket) -> NoReturn:
    """end: of the control channel."""
    channel = Channel(end)
    try:
        start, descriptors = channel.first()
    except ChannelError:
        os._exit(0)  # the supervisor has gone, or has no use for it any more
    if not isinstance(start, Start) or len(start.descriptors) != len(descriptors):
        raise ChannelError("expected the message Start first, came another")
    logs.configure(start.log_level, common={"process": start.name, "pid": os.getpid()})
    threading.Thread(target=_end_orphan, args=(end.fileno(),), name="orphan", daemon=True).start()
    birth = Birth(start, channel, dict(zip(start.descriptors, descriptors, strict=True)))
    status = 2
    try:
        status = cast(Role, importlib.import_module(ROLES[start.role])).main(birth)
    except SidecarError as error:
        channel.detach()
        channel.send(Failed(as_pairs(error)))
        status = 1
    except BaseException as error:  # SystemExit too, which a role has no use for
        log.error("internal_error", error)
    finally:
        # Nothing is left to do that needs order, and threads of libraries must not keep the process.
        sys.stderr.flush()
        os._exit(status)


def as_pairs(error: SidecarError) -> list[list[str]]:
    """An error's faults as Failed and Prepared carry them."""
    if isinstance(error, SettingError):
        return [[path, problem] for path, problem in error.faults]
    return [["", str(error)]]


def _end_orphan(number: int) -> None:
    poll = select.poll()
    poll.register(number, 0)  # POLLHUP comes unasked, and only once the supervisor's end is closed
    poll.poll()
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(70)  # EX_SOFTWARE of sysexits.h


class Control:
    """A child's end of the control channel, on its event loop.

    handlers: what the role does about messages of its own; `Go`, `Drain` and `End` are kept here.
    attached: given the connections that are handed down.  tend: another place's slot and sockets, as of `Doors`.
    measure: connections and calls that are open, and the role's own numbers, for reports.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        birth: Birth,
        handlers: Mapping[type[Message], Callable[[Message], None]],
        attached: Callable[[Attach, socket.socket], None] | None = None,
        tend: Callable[[int, list[socket.socket]], None] | None = None,
        measure: Callable[[], tuple[int, int, dict[str, object]]] = lambda: (0, 0, {}),
    ) -> None:
        self.go = asyncio.Event()
        self.draining = asyncio.Event()  # `grace` says for how long
        self.ended = asyncio.Event()  # what is open is to be cut
        self.grace = ORPHAN_GRACE_S
        self.last = False  # nobody comes after: what waits at the listening sockets is still taken
        self._loop = loop
        self._channel = birth.channel
        self._handlers = handlers
        self._attached = attached
        self._tend = tend
        self._measure = measure
        self._due = loop.time() + REPORT_S
        self._ticker = loop.call_at(self._due, self._report)
        # Told by hand, without its supervisor: the same drain, and the supervisor starts another.
        loop.add_signal_handler(signal.SIGTERM, self.draining.set)
        birth.channel.attach(loop, self._receive, self._orphaned)

    def send(self, message: Message) -> None:
        self._channel.send(message)

    async def started(self) -> bool:
        """Whether the role is to serve, rather than to end before it has begun.

        One that is to drain already serves those who wait for it, where nobody else will.
        """
        waits = [self._loop.create_task(event.wait()) for event in (self.go, self.draining, self.ended)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        return (self.go.is_set() or self.last) and not self.ended.is_set()

    def close(self) -> None:
        self._ticker.cancel()
        self._channel.close()

    def _receive(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, Attach) and len(descriptors) == 1 and self._attached is not None:
            self._attached(message, socket.socket(fileno=descriptors.pop()))
        if isinstance(message, Tend) and self._tend is not None:
            self._tend(message.slot, [socket.socket(fileno=number) for number in descriptors])
            descriptors = []
        for number in descriptors:
            os.close(number)
        if isinstance(message, Go):
            self.go.set()
        elif isinstance(message, Drain):
            self.grace, self.last = message.grace, message.last
            self.draining.set()
        elif isinstance(message, End):
            self.ended.set()
            self.draining.set()
        elif isinstance(message, Level):
            logs.set_level(message.level)
        elif handler := self._handlers.get(type(message)):
            handler(message)

    def _orphaned(self) -> None:
        log.error("supervisor_gone", detail="the control channel has ended: draining")
        self.grace, self.last = ORPHAN_GRACE_S, True
        self.draining.set()

    def _report(self) -> None:
        now = self._loop.time()
        lag, self._due = max(0.0, now - self._due), now + REPORT_S
        self._ticker = self._loop.call_at(self._due, self._report)
        connections, calls, detail = self._measure()
        self.send(Report(connections, calls, resident(), lag, detail))


def resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE
