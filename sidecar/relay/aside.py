"""Work that would keep the event loop: done in a few threads, for connections in turn.

It has to release the interpreter while it runs. What waits is memory of its callers, who bound it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

THREADS: Final = 2  # a message that is inflated may take `listen.limits.decompressed` in each


class _Job(NamedTuple):
    work: Callable[[], Any]
    wanted: Callable[[], bool]
    done: Callable[[asyncio.Future[Any]], None]


class Aside:
    """holder: whoever work is done for; each has one piece of it done before any has another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = ThreadPoolExecutor(THREADS, "aside")
        self._running = 0
        self._waiting: OrderedDict[object, deque[_Job]] = OrderedDict()

    def run(
        self,
        holder: object,
        work: Callable[[], Any],
        wanted: Callable[[], bool],
        done: Callable[[asyncio.Future[Any]], None],
    ) -> None:
        """Run `work` in a thread, then `done` on the loop; neither once it is not wanted when its turn has come."""
        self._waiting.setdefault(holder, deque()).append(_Job(work, wanted, done))
        self._begin()

    def _begin(self) -> None:
        waiting = self._waiting
        while waiting and self._running < THREADS:
            holder, jobs = waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                waiting[holder] = jobs
            if job.wanted():
                self._running += 1
                self._loop.run_in_executor(self._threads, job.work).add_done_callback(partial(self._over, job))

    def _over(self, job: _Job, future: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._begin()
        job.done(future)
