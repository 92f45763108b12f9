"""Processes that take from one ledger, as relay workers do, and can be made to stop in the middle of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

from interceptors.ledger import Bucket, Charge
from sidecar.limits.ledger_file import boot_clock
from sidecar.limits.ledger_mmap import MmapLedger
from sidecar.limits.waiting import Waiting
from tests.limits.ledgers import charge

PROCESSES = get_context("spawn")
ANSWER_S = 60.0
HELD = "held"


class Taker:
    """One process with the ledger open."""

    def __init__(self, path: Path) -> None:
        self._pipe, theirs = PROCESSES.Pipe()
        self._process: BaseProcess = PROCESSES.Process(target=serve, args=(path, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self.answer() == "ready"

    def ask(self, job: Callable[..., Any], *arguments: Any) -> None:
        self._pipe.send((job, arguments))

    def answer(self) -> Any:
        """Raises EOFError where it died."""
        assert self._pipe.poll(ANSWER_S), f"no answer within {ANSWER_S:g} s"
        return self._pipe.recv()

    def call(self, job: Callable[..., Any], *arguments: Any) -> Any:
        self.ask(job, *arguments)
        return self.answer()

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


@contextmanager
def takers(path: Path, count: int) -> Iterator[list[Taker]]:
    """So many, killed at the end."""
    started: list[Taker] = []
    try:
        started += [Taker(path) for _ in range(count)]
        yield started
    finally:
        for taker in started:
            taker.signal(signal.SIGCONT)
            taker.kill()


def serve(path: Path, pipe: Connection) -> None:
    ledger = MmapLedger(path, lambda reason: None)
    pipe.send("ready")
    while True:
        try:
            job, arguments = pipe.recv()
        except EOFError:
            ledger.close()
            return
        pipe.send(job(ledger, pipe, *arguments))


def take(ledger: MmapLedger, pipe: Connection, key: str, bucket: Bucket, times: int) -> Counter[str]:
    """What became of so many tries."""
    return asyncio.run(patiently(ledger, [charge(key, bucket)], times))


async def patiently(ledger: MmapLedger, charges: Sequence[Charge], times: int) -> Counter[str]:
    """As the `limit` link does: at once, or in turn where another holds a lock."""
    waiting, became = Waiting(ledger, monotonic), Counter[str]()
    for _ in range(times):
        taken = ledger.take_all(charges)
        if taken.refusal == "ledger_busy":
            taken = await waiting.take_all(charges)
        became[taken.refusal] += 1
    return became


def close(ledger: MmapLedger, pipe: Connection) -> None:
    ledger.close()


def stop_while_locked(ledger: MmapLedger, pipe: Connection, key: str, bucket: Bucket) -> Counter[str]:
    """Take once, and wait for a word with the lock held, before anything is written."""

    def clock() -> int:
        ledger._clock = boot_clock
        pipe.send(HELD)
        pipe.recv()
        return boot_clock()

    ledger._clock = clock
    return take(ledger, pipe, key, bucket, 1)


def stop_while_writing(ledger: MmapLedger, pipe: Connection, key: str, bucket: Bucket) -> Counter[str]:
    """The same between the two writes that make a new bucket."""
    ledger._mapped = Stopping(ledger._mapped, pipe)  # type: ignore[assignment]
    return take(ledger, pipe, key, bucket, 1)


class Stopping:
    """A mapped file that stops before a key is written."""

    def __init__(self, mapped: Any, pipe: Connection) -> None:
        self.find = mapped.find
        self._mapped = mapped
        self._pipe = pipe

    def __setitem__(self, place: slice, key: bytes) -> None:
        self._pipe.send(HELD)
        self._pipe.recv()
        self._mapped[place] = key
