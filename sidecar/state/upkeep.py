"""A thread that does its work again and again: what is to be kept up beside whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sidecar.errors import SidecarError
from sidecar.logs import Log

log = Log("state")

RETRY_S: Final = 1.0
CLOSE_S: Final = 5.0


class Upkeep:
    """name: of the thread, and in the log.  work: done every `every_s`, at once where it is woken, and soon again
    where it failed."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float) -> None:
        self.closed = False
        self._name = name
        self._work = work
        self._every_s = every_s
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
                    log.warning("upkeep_troubled", upkeep=self._name, detail=str(error))
                self._troubled = True
            except Exception as error:
                log.error("upkeep_defect", error, upkeep=self._name)
            self._woken.wait(wait_s)
