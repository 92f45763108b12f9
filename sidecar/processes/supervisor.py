"""Runs a crew from its first start to its ordered end: signals, reloads, and what the service manager is told.

Nothing of a config is known here: `Settings` are made, and judged, by whoever composes the program.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from sidecar.errors import SidecarError
from sidecar.logs import Log
from sidecar.processes.crew import Child, Crew
from sidecar.processes.lifecycle import State
from sidecar.processes.messages import Abandon, Answer, Commit, Failed, Message, Prepare, Prepared, Question, Ready
from sidecar.processes.notify import Notify
from sidecar.processes.post import Post, Settings, StartError
from sidecar.processes.spawn import Nursery
from sidecar.processes.switch import Switch, Verdict
from sidecar.processes.watch import Watch

log = Log("supervisor")

TICK_S: Final = 0.1  # and between looks at watched files: whoever is revoked has a second at most
PREPARE_S: Final = 15.0  # for all children to prepare a reload
LAST_S: Final = 5.0  # for those of the lowest rank to end
CUT: Final = 1  # exit status of a child, and of the whole, that had to cut calls
TAKES: Final = frozenset((State.SERVING, State.OUTGOING, State.DRAINING))  # states in which a reload is prepared


class Supervisor:
    """posts: all places.  settings: the first generation.  reload: makes the next one from the generation that is
    in force, or raises a SidecarError; it may run for long.  faults_of: an error's key paths and problems.

    serving: called once, when every post has served.  reloaded: called after each switch.
    refused: called when a reload was asked for and the generation in force goes on.
    closing: called before those of the highest rank are told to stop: who comes after them is to be refused at once.
    answer: to what a child asks: what it wants and the arguments → a result of JSON types; raises SidecarError.
    stopping: awaited when all children but those of rank 0 have ended; whether none had to cut calls.
    The others as in `Crew`.
    """

    def __init__(
        self,
        posts: Sequence[Post],
        settings: Settings,
        reload: Callable[[Settings], Awaitable[Settings]],
        *,
        nursery: Nursery,
        faults_of: Callable[[SidecarError], Sequence[Sequence[str]]],
        key: bytes,
        run_directory: Path,
        log_level: str,
        notify: Notify,
        jitter: Callable[[], float],
        linked: Mapping[str, Callable[[socket.socket], None]],
        serving: Callable[[], None],
        reloaded: Callable[[Settings], None],
        refused: Callable[[], None],
        closing: Callable[[], None],
        stopping: Callable[[bool], Coroutine[Any, Any, None]],
        answer: Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reload = reload
        self._faults_of = faults_of
        self._notify = notify
        self._serving = serving
        self._reloaded = reloaded
        self._refused = refused
        self._closing = closing
        self._stopping = stopping
        self._answer = answer
        self._answering: set[asyncio.Task[None]] = set()
        self._grace_s: float | None = None  # in place of the config's, where somebody asked for another
        self._ranks = sorted({post.rank for post in posts}, reverse=True)
        self._crew = Crew(
            self._loop, posts, settings, nursery=nursery, key=key, run_directory=run_directory, log_level=log_level,
            jitter=jitter, hear=self._hear, ended=self._child_ended, orphaned=self._nursery_ended,
            linked=linked,
        )  # fmt: skip
        self._watch = Watch(settings.files)
        self._switch: Switch | None = None
        self._next: Settings | None = None
        self._making: asyncio.Task[None] | None = None  # the next generation is being made
        self._asked = False  # to reload
        self._barked = 0.0
        self._up = False
        self._failure: StartError | None = None
        self._clean = True  # no child had to be killed, or cut calls
        self._stop = asyncio.Event()
        self._hurried = False

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit status: 0 when every open call had ended in time.

        Raises StartError where a child cannot start before everything has served once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._ask)
        try:
            while not self._stop.is_set():
                self._tick()
                await self._pause()
            self._notify.stopping()
            await self._wind_down()
        finally:
            self._crew.kill()
            if self._making is not None:
                self._making.cancel()
        if self._failure is not None:
            raise self._failure
        return 0 if self._clean else CUT

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            log.warning("stopping_now")
            self._hurried, self._clean = True, False
            self._crew.hurry()
        else:
            log.info("stopping", grace_s=self._grace())
            self._stop.set()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), TICK_S)
        except TimeoutError:
            return

    def _tick(self) -> None:
        now = self._loop.time()
        self._crew.tick(now)
        if self._switch is not None:
            self._switch.tick(now)
            self._decide()
        if self._up and self._watch.changed():
            log.info("files_changed")
            self._ask()
        if self._asked and self._up and self._making is None and self._switch is None:
            self._asked = False
            self._notify.reloading(time.monotonic())
            self._making = self._loop.create_task(self._make_next())
        self._bark(now)

    def _bark(self, now: float) -> None:
        """Tell the service manager that we live, and what it could not be told before."""
        self._notify.go_on()
        if self._notify.watchdog_s and now - self._barked >= self._notify.watchdog_s:
            self._barked = now
            self._notify.alive()

    # --- children -----------------------------------------------------------------------------------------------

    def _hear(self, child: Child, message: Message) -> None:
        if isinstance(message, Ready):
            self._count_up()
        elif isinstance(message, Failed):
            self._child_failed(child, message.faults)
        elif isinstance(message, Question):
            task = self._loop.create_task(self._reply(child, message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif isinstance(message, Prepared) and self._switch is not None:
            self._switch.prepared(child.name, message.generation, message.faults)
            self._decide()

    async def _reply(self, child: Child, question: Question) -> None:
        try:
            answer = Answer(question.number, await self._answer(question.what, question.arguments), "")
        except SidecarError as error:
            answer = Answer(question.number, {}, str(error))
        except Exception as error:
            log.error("question_failed", error, what=question.what)
            answer = Answer(question.number, {}, "internal error")
        child.send(answer)

    @property
    def children(self) -> Sequence[Child]:
        return self._crew.children

    def set_level(self, level: str) -> None:
        """Of the children's logs."""
        self._crew.set_level(level)

    def drain(self, grace_s: float | None) -> float:
        """Stop as if told to, within the config's grace or another; the grace that stands. Only the first counts."""
        if not self._stop.is_set():
            self._grace_s = grace_s
            self._told_to_stop()
        return self._grace()

    def _grace(self) -> float:
        return self._crew.settings.grace_s if self._grace_s is None else self._grace_s

    def _count_up(self) -> None:
        if not self._up and self._crew.serving:
            self._up = True
            self._serving()
            self._notify.ready("serving")

    def _child_failed(self, child: Child, faults: Sequence[Sequence[str]]) -> None:
        if self._up:
            for path, problem in faults:
                log.error("child_cannot_start", process=child.name, path=path, detail=problem)
        elif self._failure is None:
            self._failure = StartError(faults)

    def _child_ended(self, child: Child, status: int) -> None:
        if self._switch is not None:
            self._switch.gone(child.name)
            self._decide()
        if self._stop.is_set():
            self._clean = self._clean and status == 0
        elif not self._up:
            # Nothing was served yet: better no sidecar, which is seen, than one that tries for ever.
            problem = f"{child.name} ended with status {status} before it was ready"
            self._give_up(problem)

    def _nursery_ended(self, status: int) -> None:
        if not self._up and not self._stop.is_set():
            self._give_up(f"the nursery ended with status {status} before everything was ready")

    def _give_up(self, problem: str) -> None:
        self._failure = self._failure or StartError([["", problem]])
        self._stop.set()

    # --- reload -------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        self._asked = True

    async def _make_next(self) -> None:
        self._watch.settle()
        try:
            settings = await self._reload(self._crew.settings)
        except SidecarError as error:
            self._refuse(self._faults_of(error))
        except Exception as error:
            log.error("reload_failed", error)
            self._refuse([["", "the config could not be tried"]])
        else:
            self._begin(settings)
        finally:
            self._making = None

    def _begin(self, settings: Settings) -> None:
        # Who is not needed is only told what was decided: one that hangs must keep nobody from being revoked.
        asked = [child for child in self._crew.live if child.post.reloads and child.post.needed]
        able = [child for child in asked if child.state in TAKES]
        generation = self._crew.generation + 1
        until = self._loop.time() + PREPARE_S
        self._next, self._switch = settings, Switch(generation, [child.name for child in able], until)
        for child in able:
            child.send(Prepare(generation, settings.roles[child.post.role]))
        self._decide()

    def _decide(self) -> None:
        """Let all children switch, or none, once that is known."""
        switch, settings = self._switch, self._next
        if switch is None or settings is None or switch.verdict is Verdict.PREPARING:
            return
        self._switch = self._next = None
        if switch.verdict is Verdict.ABANDONED:
            for child in self._crew.live:
                if child.post.reloads:
                    child.send(Abandon(switch.generation))
            self._refuse(switch.faults)
            return
        self._crew.settings, self._crew.generation = settings, switch.generation
        for child in self._crew.live:
            if child.post.reloads:
                if child.name not in switch.children:  # it was starting, or not asked: what it was given is old
                    child.send(Prepare(switch.generation, settings.roles[child.post.role]))
                child.send(Commit(switch.generation))
        self._watch.follow(settings.files)
        log.info("reloaded", generation=switch.generation, config=settings.digest)
        self._notify.ready("serving")
        self._reloaded(settings)

    def _refuse(self, faults: Sequence[Sequence[str]]) -> None:
        for path, problem in faults:
            log.error("reload_refused", path=path, detail=problem)
        log.warning("reload_kept", generation=self._crew.generation, config=self._crew.settings.digest)
        self._notify.ready("serving; the last reload was refused")
        self._refused()

    # --- the end ------------------------------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        """End the children, rank by rank."""
        grace_s = self._grace() if self._failure is None else 0.0
        for rank in self._ranks:
            if rank == self._ranks[-1]:
                stopping = self._loop.create_task(self._stopping(self._clean))
                await self._keep_until(stopping.done)
                await stopping
            if rank == self._ranks[0]:
                self._closing()
            self._crew.stop(rank, LAST_S if rank == self._ranks[-1] else grace_s)
            await self._keep_until(partial(self._ended, rank))

    def _ended(self, rank: int) -> bool:
        return all(child.post.rank != rank for child in self._crew.children)

    async def _keep_until(self, over: Callable[[], bool]) -> None:
        """Keep the children that are left: whoever crashes before its turn to end is succeeded."""
        while not over():
            self._crew.tick(self._loop.time())
            self._bark(self._loop.time())
            await asyncio.sleep(TICK_S / 4)
