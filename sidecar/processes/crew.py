"""The children of a supervisor: each is moved through `lifecycle`'s table by what it says, and by what time does.

INVARIANT: a post has one child that serves or will, and at most one more, which is on its way out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sidecar.logs import Log
from sidecar.processes.channel import Channel
from sidecar.processes.lifecycle import LIVE, Backoff, Effect, Input, State, step
from sidecar.processes.messages import (
    Attach,
    ChannelError,
    Drain,
    End,
    Go,
    Leave,
    Level,
    Message,
    Neighbour,
    Ready,
    Report,
    Start,
    Tend,
)
from sidecar.processes.post import Post, Settings
from sidecar.processes.spawn import Nursery, Spawned

log = Log("supervisor")

START_S: Final = 60.0  # for a child to be ready
SILENT_S: Final = 10.0  # without a report a child hangs
OVERDUE_S: Final = 5.0  # beyond the grace that a child was given
STANDS: Final = frozenset((State.SERVING, State.OUTGOING))  # states in which a child does its post's work
LOOK_S: Final = 1.0  # between looks for orphans that have ended
# Ends that an attack on memory may have caused: one that failed must not have told how memory lies in the next child.
FAULTS: Final = frozenset(
    -number
    for number in (
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    )
)


class Child:
    """A post's child, past, present or to come."""

    def __init__(self, post: Post, due: float) -> None:
        self.post = post
        self.name = ""  # of its process
        self.state = State.WAITING
        self.since = due  # when it entered its state; when it is due, while that is WAITING
        self.born = self.heard = due
        self.report = Report()
        self.replaces: Child | None = None
        self.ends = 0  # processes that have ended at this place
        self.process: Spawned | None = None
        self.channel: Channel | None = None
        self._held: list[int] = []  # copies of what its post hands down, until it has been given them

    def hold(self) -> None:
        """Whoever owns what the post hands down may close it before the child is there. Raises OSError."""
        for number in self.post.descriptors.values():
            self._held.append(os.dup(number))

    def begin(self, start: Start) -> None:
        """Send the first message, and what is held with it."""
        self.send(start, self._held)
        self.release()

    def release(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self.channel is None:
            return
        try:
            self.channel.send(message, descriptors)
        except ChannelError as error:
            log.error("child_does_not_read", error, process=self.name)
            self.kill()
        except OSError as error:
            log.error("child_not_told", process=self.name, detail=error.strerror or str(error))
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()


class Crew:
    """nursery: makes the children.  key: the per-boot key.  jitter: numbers in [0, 1).

    hear: what children say that is not about their lives.  ended: a child's process has ended, with which status; its
    state is already the next one.  orphaned: the same of the nursery; another will be started.
    linked: role → given a connection to each new process of it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        posts: Iterable[Post],
        settings: Settings,
        *,
        nursery: Nursery,
        key: bytes,
        run_directory: Path,
        log_level: str,
        jitter: Callable[[], float],
        hear: Callable[[Child, Message], None],
        ended: Callable[[Child, int], None],
        orphaned: Callable[[int], None],
        linked: Mapping[str, Callable[[socket.socket], None]],
    ) -> None:
        self.settings = settings
        self.generation = 1
        self.children: list[Child] = []
        self._loop = loop
        self._key = key
        self._run_directory = run_directory
        self._log_level = log_level
        self._jitter = jitter
        self._hear = hear
        self._ended = ended
        self._orphaned = orphaned
        self._linked = linked
        self._births = 0
        self._grace_s: float | None = None  # while the whole sidecar stops
        self._carers: dict[Post, Child] = {}  # of places where nobody stands
        self._lost: set[Post] = set()  # places where a child has ended
        self._backoffs: dict[Post, Backoff] = {}
        for post in posts:
            self._backoffs[post] = Backoff()
            self.children.append(Child(post, loop.time()))
        self._nursery = nursery
        self._nursery_began = self._nursery_due = self._look_due = loop.time()
        self._nursery_backoff = Backoff()
        self._nursery_culled = False  # ended for no fault of its own
        nursery.attach(loop, self._nursery_ended)

    @property
    def live(self) -> list[Child]:
        return [child for child in self.children if child.state in LIVE]

    @property
    def _drain_s(self) -> float:
        return self.settings.grace_s if self._grace_s is None else self._grace_s

    @property
    def serving(self) -> bool:
        """Whether every post that is needed has a child that serves."""
        return all(self._manned(post) for post in self._backoffs if post.needed)

    def _manned(self, post: Post) -> bool:
        return any(child.post is post and child.state in STANDS for child in self.children)

    def tick(self, now: float) -> None:
        if not self._nursery.there and now >= self._nursery_due and self._nursery_needed:
            self._start_nursery(now)
        if now >= self._look_due:
            self._look_due = now + LOOK_S
            self._nursery.reap_strangers({child.process.pid for child in self.children if child.process is not None})
        for child in list(self.children):
            what = self._by_time(child, now)
            if what is not None:
                self.feed(child, what)

    def stop(self, rank: int, grace_s: float) -> None:
        """Have all children of `rank` drain."""
        self._grace_s = grace_s
        for child in [child for child in self.children if child.post.rank == rank]:
            self.feed(child, Input.STOP)

    def hurry(self) -> None:
        """Have all children that drain end now."""
        self._grace_s = 0.0
        for child in self.live:
            if child.state is State.DRAINING:
                child.since = self._loop.time()
                child.send(End())

    def kill(self) -> None:
        for child in self.live:
            child.kill()

    def feed(self, child: Child, what: Input) -> None:
        before = child.state
        child.state, effect = step(before, what)
        if child.state is not before:
            child.since = self._loop.time()
        EFFECTS[effect](self, child)
        self._tend()

    def _by_time(self, child: Child, now: float) -> Input | None:
        """What the time that has passed means to a child."""
        age, quiet = now - child.since, now - child.heard
        if child.state is State.WAITING:
            return Input.DUE if age >= 0 and self._nursery.up else None
        if child.state is State.STARTING:
            return Input.SILENT if age > START_S else None
        if child.state is State.DRAINING and age > self._drain_s + OVERDUE_S:
            return Input.OVERDUE
        # One that was told to stop while it still imports has not spoken yet; it may be overdue, but does not hang.
        if quiet > SILENT_S and child.heard > child.born:
            return Input.SILENT
        if child.post.memory and child.report.resident > child.post.memory:
            return Input.OUTGROWN
        return None

    def _tend(self) -> None:
        """Have what comes to a place whose child has ended taken by another one of the role, until it has a successor.

        Whoever drains lets go of it by himself: told to leave, he would let go of what waits there.
        """
        for post in [post for post in self._backoffs if post.shared]:
            manned, carer = self._manned(post), self._carers.get(post)
            if carer is not None and (manned or carer.state not in STANDS):
                del self._carers[post]
                if manned:
                    carer.send(Leave(post.slot))
                    log.info("place_left", place=f"{post.role}-{post.slot}", process=carer.name)
            if post in self._lost and not manned and post not in self._carers and self._grace_s is None:
                self._find_carer(post)

    def _find_carer(self, post: Post) -> None:
        able = [child for child in self.children if child.post.role == post.role and child.state in STANDS]
        if able:
            carer = self._carers[post] = min(able, key=lambda child: child.report.connections)
            carer.send(Tend(post.slot), [post.descriptors[name] for name in post.shared])
            log.info("place_tended", place=f"{post.role}-{post.slot}", process=carer.name)

    # --- the nursery --------------------------------------------------------------------------------------------

    @property
    def _nursery_needed(self) -> bool:
        """While the sidecar stops, those whose turn to end has not come are still succeeded."""
        return self._grace_s is None or any(
            child.post.needed and child.state is State.WAITING for child in self.children
        )

    def _start_nursery(self, now: float) -> None:
        self._nursery_began, self._nursery_culled = now, False
        try:
            self._nursery.start()
        except OSError as error:
            log.error("nursery_not_started", detail=error.strerror or str(error))
            self._nursery_pause(now)

    def _nursery_ended(self, status: int) -> None:
        log.warning("nursery_ended", status=status)
        if not self._nursery_culled:
            self._nursery_pause(self._loop.time())
        self._orphaned(status)

    def _nursery_pause(self, now: float) -> None:
        self._nursery_due = now + self._nursery_backoff.pause(now - self._nursery_began, self._jitter())

    def _cull_nursery(self) -> None:
        if self._nursery.up:
            self._nursery_culled = True
            self._nursery.kill()

    # --- what is done to children -------------------------------------------------------------------------------

    def _spawn(self, child: Child) -> None:
        self._births += 1
        child.name = f"{child.post.role}-{child.post.slot}.{self._births}"
        child.report = Report()
        child.born = child.heard = self._loop.time()
        try:
            child.hold()
            self._nursery.bear(child.name, partial(self._born, child))
        except OSError as error:
            self._born(child, error.strerror or str(error))

    def _born(self, child: Child, made: Spawned | str) -> None:
        if isinstance(made, str):
            child.release()
            if self._nursery_culled:
                self.feed(child, Input.UNBORN)
                return
            log.error("child_not_started", process=child.name, detail=made)
            self.feed(child, Input.EXITED)
            return
        child.process = made
        child.born = child.heard = self._loop.time()
        child.channel = Channel(made.control)
        child.channel.attach(self._loop, lambda message, fds: self._receive(child, message, fds), lambda: None)
        self._loop.add_reader(made.pidfd, self._exited, child)
        try:
            self._hand_down(child)
        except OSError as error:
            log.error("child_not_told", process=child.name, detail=error.strerror or str(error))
            child.kill()
        if child.state is State.DRAINING:
            self._drain(child)  # it was told to stop before it was there
        elif child.state is not State.STARTING:
            child.kill()
        log.info("child_started", process=child.name, child=made.pid)

    def _hand_down(self, child: Child) -> None:
        """The first message, and the connections between the new child and those that are there."""
        post = child.post
        start = Start(
            post.role, post.slot, child.name, self._key.hex(), self._log_level, str(self._run_directory),
            self.generation, self.settings.roles[post.role], list(post.descriptors),
        )  # fmt: skip
        child.begin(start)
        for other in self.live:
            if other is not child and other.post.role in post.links:
                link(child, other)
            elif other is not child and post.role in other.post.links:
                link(other, child)
            if other is not child and other.post.role in post.knows and other.process is not None:
                child.send(Neighbour(other.post.role, other.process.pid))
        assert child.process is not None
        self._tell_neighbours(child, child.process.pid)
        if post.role in self._linked:
            ours, theirs = socket.socketpair()
            with theirs:
                child.send(Attach("supervisor", "supervisor"), [theirs.fileno()])
            self._linked[post.role](ours)

    def _tell_neighbours(self, child: Child, pid: int) -> None:
        role = child.post.role
        for other in self.live:
            if other is not child and role in other.post.knows:
                other.send(Neighbour(role, pid))

    def set_level(self, level: str) -> None:
        """For every child, and those to come."""
        self._log_level = level
        for child in self.live:
            child.send(Level(level))

    def _receive(self, child: Child, message: Message, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)  # nobody hands anything up
        child.heard = self._loop.time()
        if isinstance(message, Report):
            child.report = message
        elif isinstance(message, Ready):
            self.feed(child, Input.READY)
        else:
            self._hear(child, message)

    def _serve(self, child: Child) -> None:
        child.send(Go())
        if child.replaces is not None:
            self.feed(child.replaces, Input.SUCCEEDED)
            child.replaces = None
        self._hear(child, Ready())  # once it serves

    def _replace(self, child: Child) -> None:
        log.warning("child_outgrown", process=child.name, resident=child.report.resident, limit=child.post.memory)
        successor = Child(child.post, self._loop.time())
        successor.replaces = child
        successor.ends = child.ends
        self.children.append(successor)

    def _drain(self, child: Child) -> None:
        child.send(Drain(self._drain_s, self._grace_s is not None))

    def _kill(self, child: Child) -> None:
        log.error("child_killed", process=child.name, quiet_s=round(self._loop.time() - child.heard, 1))
        if child.process is None:
            self._nursery.kill()  # which owes it
        child.kill()

    def _exited(self, child: Child) -> None:
        assert child.process is not None
        assert child.channel is not None
        self._loop.remove_reader(child.process.pidfd)
        status, pid = child.process.reap(), child.process.pid
        child.channel.close()
        child.process = child.channel = None
        self._tell_neighbours(child, 0)
        child.ends += 1
        self._lost.add(child.post)
        level = log.info if status == 0 else log.warning
        level("child_ended", process=child.name, child=pid, status=status)
        if status in FAULTS and self._grace_s is None:  # a stop waits for no new nursery
            self._cull_nursery()
        self.feed(child, Input.EXITED)
        self._ended(child, status)

    def _retry(self, child: Child) -> None:
        now = self._loop.time()
        pause = self._backoffs[child.post].pause(now - child.born, self._jitter())
        child.since = now + pause
        if pause:
            log.warning("child_backs_off", process=child.name, pause_s=round(pause, 2))

    def _forget(self, child: Child) -> None:
        self.children.remove(child)

    def _nothing(self, child: Child) -> None:
        pass


EFFECTS: Final[dict[Effect, Callable[[Crew, Child], None]]] = {
    Effect.NOTHING: Crew._nothing,
    Effect.SPAWN: Crew._spawn,
    Effect.SERVE: Crew._serve,
    Effect.REPLACE: Crew._replace,
    Effect.DRAIN: Crew._drain,
    Effect.KILL: Crew._kill,
    Effect.RETRY: Crew._retry,
    Effect.FORGET: Crew._forget,
}


def link(child: Child, other: Child) -> None:
    """Give both ends of a new connection away."""
    one, two = socket.socketpair()
    with one, two:
        child.send(Attach(other.post.role, other.name), [one.fileno()])
        other.send(Attach(child.post.role, child.name), [two.fileno()])
