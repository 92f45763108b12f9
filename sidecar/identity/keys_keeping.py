"""What workers are told of API keys, and what is due with keys; in the services process, on a thread of its own.

Workers have a file of all keys, and are told what has changed since it was made. When that is much, the file is made
anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sidecar.errors import SidecarError
from sidecar.identity.keys_desk import KeyDesk
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.identity.keys_model import DOMAIN, FILE, KEYS, KIND
from sidecar.identity.keys_publish import publish, usable
from sidecar.logs import Log
from sidecar.state.changes import MOST, GapError, changes_since, compact
from sidecar.state.ports import Store

log = Log("identity")

MOST_CHANGED: Final = 10_000  # keys that are told of beside the file
LOOK_S: Final = 30.0  # between looks at what is due, and at changes of other sidecars with the same database
RETRY_S: Final = 1.0
CLOSE_S: Final = 5.0
KEEP: Final = 100_000  # changes of all domains

Tell = Callable[..., None]  # changes, as of `changes.said.Change`


class KeyKeeping:
    """tell: puts changes into the feed; called on this thread.  path: of the file of keys."""

    def __init__(self, store: Store, desk: KeyDesk, path: Path, hash_keys: FileHashKeys, tell: Tell) -> None:
        self._store = store
        self._desk = desk
        self._path = path
        self._hash_keys = hash_keys
        self._tell = tell
        self._known = -1  # up to which change workers have been told; below 0 before there is a file
        self._told: dict[str, int] = {}  # beside the file: number of the last change, by key
        self._wake = threading.Event()
        self._closed = False
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="api-keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def committed(self, sequence: int) -> None:
        """Something was written: from any thread."""
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                if self._known < 0:
                    self._begin()
                self._follow()
                self._desk.prepare_due()
                self._troubled = False
                wait = LOOK_S
            except SidecarError as error:
                if not self._troubled:
                    log.warning("api_keys_troubled", detail=str(error))
                self._troubled, wait = True, RETRY_S
            except Exception as error:
                log.error("api_keys_defect", error)
                wait = RETRY_S
            self._wake.wait(wait)

    def _begin(self) -> None:
        """With the file that is there, where changes lead on from it."""
        current = self._hash_keys.current
        head = usable(self._store, self._path, current) or publish(self._store, self._path, current)
        self._swapped(head.sequence)

    def _follow(self) -> None:
        try:
            while changes := self._store.read(lambda reading: changes_since(reading, self._known)):
                ours = [each for each in changes if (each.domain, each.kind) == (DOMAIN, KIND)]
                if ours:
                    self._tell(*[(KEYS, each.key, (each.sequence, each.body)) for each in ours])
                    self._told.update({each.key: each.sequence for each in ours})
                self._known = changes[-1].sequence
                if len(changes) < MOST:
                    break
        except GapError:
            self._swapped(publish(self._store, self._path, self._hash_keys.current).sequence)
        if len(self._told) > MOST_CHANGED:
            self._swapped(publish(self._store, self._path, self._hash_keys.current).sequence)
            self._store.write(lambda transaction: compact(transaction, KEEP))

    def _swapped(self, sequence: int) -> None:
        """There is another file, up to a change."""
        within = [key for key, number in self._told.items() if number <= sequence]
        changes: list[tuple[str, str, Any]] = [(FILE, FILE, (str(self._path), sequence))]
        self._tell(*changes, *[(KEYS, key, None) for key in within])
        for key in within:
            del self._told[key]
        self._known = max(self._known, sequence)
