"""What workers are told of API keys, and what is due with keys; in the services process, on threads of its own.

Workers have a file of all keys, and are told what has changed since it was made. When that is much, the file is made
anew. They are also told as of when they know all of it: the feed says that this process is there, and not that it could
read the database. Whatever takes long is done on a second thread, so that nobody waits for a revocation meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sidecar.identity.keys_desk import PREPARE_MOST, KeyDesk
from sidecar.identity.keys_model import DOMAIN, FILE, KEYS, KIND, SO
from sidecar.identity.keys_ports import HashKeys
from sidecar.identity.keys_publish import publish, usable
from sidecar.state.changes import GapError
from sidecar.state.following import LOOK_S, Tell, changes_after, portions
from sidecar.state.ports import Head, Store
from sidecar.state.upkeep import Upkeep

MOST_CHANGED: Final = 10_000  # keys that are told of beside the file
CHORES_S: Final = 30.0  # between looks at what is due


class KeyKeeping:
    """tell: called on these threads.  path: of the file of keys.

    clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(
        self, store: Store, desk: KeyDesk, path: Path, hash_keys: HashKeys, tell: Tell, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._desk = desk
        self._path = path
        self._hash_keys = hash_keys
        self._tell = tell
        self._clock = clock
        self._known = -1  # up to which change workers have been told; below 0 before there is a file
        self._told: dict[str, int] = {}  # beside the file: number of the last change, by key
        self._making = threading.Lock()  # held by whoever makes the file
        self._began = clock()
        self._made: Head | None = None  # of what another is that was made beside
        self._looking = Upkeep("api-keys", self._look, LOOK_S)
        self._chores = Upkeep("api-keys-chores", self._do_chores, CHORES_S)

    def start(self) -> None:
        self._looking.start()
        self._chores.start()

    def committed(self, sequence: int) -> None:
        """Something was written: from any thread."""
        self._looking.wake()

    def close(self) -> None:
        self._looking.close()
        self._chores.close()

    # --- on the first thread ------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._clock()  # before anything is read: what is written meanwhile is not known yet
        if self._known < 0:
            self._begin()
        made, self._made = self._made, None
        if made is not None:
            self._swapped(made)
        self._follow()
        self._tell((SO, SO, (now, self._began)))
        if len(self._told) > MOST_CHANGED:
            self._chores.wake()

    def _begin(self) -> None:
        """With the file that is there, where changes lead on from it."""
        head = usable(self._store, self._path, self._hash_keys.current)
        self._swapped(self._make() if head is None else head)

    def _follow(self) -> None:
        try:
            for changes in changes_after(self._store, self._known):
                ours = [each for each in changes if (each.domain, each.kind) == (DOMAIN, KIND)]
                for some in portions(ours):
                    self._tell(*[(KEYS, each.key, (each.sequence, each.body)) for each in some])
                self._told.update({each.key: each.sequence for each in ours})
                self._known = changes[-1].sequence
        except GapError:
            self._swapped(self._make())

    def _swapped(self, head: Head) -> None:
        """There is another file, of the database as it was at `head`."""
        sequence = head.sequence
        within = [key for key, number in self._told.items() if number <= sequence]
        changes: list[tuple[str, str, Any]] = [(FILE, FILE, (str(self._path), sequence, head.identity))]
        self._tell(*changes, *[(KEYS, key, None) for key in within])
        for key in within:
            del self._told[key]
        self._known = max(self._known, sequence)

    # --- on the second ------------------------------------------------------------------------------------------

    def _do_chores(self) -> None:
        if len(self._told) > MOST_CHANGED and self._made is None:
            self._made = self._make()
            self._looking.wake()
        while len(self._desk.prepare_due()) == PREPARE_MOST and not self._chores.closed:
            pass

    # --- on either ----------------------------------------------------------------------------------------------

    def _make(self) -> Head:
        """A file of all keys as they are now; of what."""
        with self._making:
            return publish(self._store, self._path, self._hash_keys.current)
