"""For those who follow the log of changes and tell others: what is new, and a thread that looks again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from sidecar.errors import SidecarError
from sidecar.state.changes import MOST, Change, changes_since
from sidecar.state.ports import Store

RETRY_S: Final = 1.0
CLOSE_S: Final = 5.0


def changes_after(store: Store, sequence: int) -> Iterator[list[Change]]:
    """All that was written after `sequence` by now, some at a time. Raises GapError and StateError."""
    while changes := store.read(partial(changes_since, sequence=sequence)):
        sequence = changes[-1].sequence
        yield changes
        if len(changes) < MOST:
            break


def portions(changes: Sequence[Change], most: int) -> Iterator[list[Change]]:
    """In order, so many at once as are no burden on whoever is told. most: bytes of their keys and bodies."""
    some: list[Change] = []
    size = 0
    for each in changes:
        length = len(each.key) + len(each.body)
        if some and size + length > most:
            yield some
            some, size = [], 0
        some.append(each)
        size += length
    if some:
        yield some


class Repeated:
    """A thread that does its work again and again, and at once where it is woken.

    troubled: told of an error, and not again before the work has been done.  defect: told of what is not understood.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        every_s: float,
        troubled: Callable[[SidecarError], None],
        defect: Callable[[Exception], None],
    ) -> None:
        self.closed = False
        self._work = work
        self._every_s = every_s
        self._tell_trouble = troubled
        self._tell_defect = defect
        self._woken = threading.Event()
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self.closed = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self.closed:
            self._woken.clear()
            wait_s = RETRY_S
            try:
                self._work()
                self._troubled, wait_s = False, self._every_s
            except SidecarError as error:
                if not self._troubled:
                    self._tell_trouble(error)
                self._troubled = True
            except Exception as error:
                self._tell_defect(error)
            self._woken.wait(wait_s)
