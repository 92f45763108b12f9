"""Work that would keep the event loop: done in a few threads that yield to it, for connections in turn.

It has to release the interpreter while it runs. What waits is memory of its callers, who bound it and drop what nobody
wants any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

THREADS: Final = 2  # a message that is inflated may take `listen.limits.decompressed` in each
NICE: Final = 5  # a third of the weight of the event loop: who sends what takes long must not halve what others get


def _yield_to_the_loop() -> None:
    """Linux: a thread has a priority of its own (setpriority(2), "C library/kernel differences")."""
    own = threading.get_native_id()
    # A filter of system calls may refuse it; what is raised here would end all threads for good.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + NICE)


class Job:
    """One piece of work, or nothing any more.  holder: whoever it is done for."""

    __slots__ = ("done", "holder", "work")

    def __init__(self, holder: object, work: Callable[[], Any], done: Callable[[asyncio.Future[Any]], None]) -> None:
        self.holder = holder
        self.work: Callable[[], Any] | None = work
        self.done: Callable[[asyncio.Future[Any]], None] | None = done


class Aside:
    """holder: each has one piece of work done before any has another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = ThreadPoolExecutor(THREADS, "aside", _yield_to_the_loop)
        self._running = 0
        self._waiting: OrderedDict[object, OrderedDict[Job, None]] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether a thread is at work, perhaps on what was dropped meanwhile."""
        return self._running > 0

    def run(self, holder: object, work: Callable[[], Any], done: Callable[[asyncio.Future[Any]], None]) -> Job:
        """Run `work` in a thread when its turn has come, then `done` on the loop; neither once it is dropped."""
        job = Job(holder, work, done)
        self._waiting.setdefault(holder, OrderedDict())[job] = None
        self._begin()
        return job

    def drop(self, job: Job) -> None:
        """Nobody wants it: it holds nothing from here on, except what a thread is at work on."""
        job.work = job.done = None
        jobs = self._waiting.get(job.holder)
        if jobs is not None:
            jobs.pop(job, None)
            if not jobs:
                del self._waiting[job.holder]

    def _begin(self) -> None:
        waiting = self._waiting
        while waiting and self._running < THREADS:
            holder, jobs = waiting.popitem(last=False)
            job, _ = jobs.popitem(last=False)
            if jobs:
                waiting[holder] = jobs
            work, job.work = job.work, None
            assert work is not None
            future = self._loop.run_in_executor(self._threads, work)
            self._running += 1
            future.add_done_callback(partial(self._over, job))

    def _over(self, job: Job, future: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._begin()
        if job.done is not None:
            job.done(future)
        else:
            future.exception()  # asyncio logs one that nobody has asked for
