"""What workers are told of roles, groups, grants and policies; in the services process, on threads of its own.

They are told everything once, then each change, and as of when that is all: the feed says that this process is there,
and not that it could read the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sidecar.policy import rows
from sidecar.policy.model import Item
from sidecar.policy.rows import ITEMS, SO
from sidecar.policy.store_sql import PolicyReading
from sidecar.state.changes import Change, GapError
from sidecar.state.following import LOOK_S, Tell, changes_after, portions
from sidecar.state.ports import Head, Reading, Store
from sidecar.state.upkeep import Upkeep

CHORES_S: Final = 30.0
ALL_S: Final = 60.0  # for everything to be read
NOT_READ: Final = -1


class PolicyKeeping:
    """tell: called on these threads.  clock: seconds of CLOCK_BOOTTIME.  chores: what else is due now and then."""

    def __init__(self, store: Store, tell: Tell, clock: Callable[[], float], chores: Callable[[], None]) -> None:
        self._store = store
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._known = NOT_READ  # up to which change workers have been told
        self._told: set[str] = set()  # keys of the store's items that there are
        self._configured: dict[str, bytes] = {}
        self._wanted: dict[str, bytes] = {}  # the config's own, as they are to be told
        self._looking = Upkeep("policies", self._look, LOOK_S)
        self._chores = Upkeep("policies-chores", chores, CHORES_S)

    def start(self) -> None:
        self._looking.start()
        self._chores.start()

    def committed(self, sequence: int) -> None:
        """Something was written: from any thread."""
        self._looking.wake()

    def configure(self, items: Iterable[Item]) -> None:
        """The config's own, in place of those before: from any thread."""
        self._wanted = {str(rows.key(item)): rows.encode(item) for item in items}
        self._looking.wake()

    def close(self) -> None:
        self._looking.close()
        self._chores.close()

    def _look(self) -> None:
        now = self._clock()  # before anything is read: what is written meanwhile is not known yet
        self._tell_configured()
        try:
            if self._known == NOT_READ:
                self._tell_everything()
            for changes in changes_after(self._store, self._known):
                self._tell_changes([each for each in changes if each.domain == rows.DOMAIN])
                self._known = changes[-1].sequence
        except GapError:
            self._tell_everything()
        self._tell((SO, "so", (now, self._began)))

    def _tell_configured(self) -> None:
        wanted, told = self._wanted, self._configured
        changed: list[tuple[str, str, Any]] = [(ITEMS, key, row) for key, row in wanted.items() if told.get(key) != row]
        changed += [(ITEMS, key, None) for key in told if key not in wanted]
        if changed:
            self._tell(*changed)
        self._configured = wanted

    def _tell_everything(self) -> None:
        def all_there_is(reading: Reading) -> tuple[Head, list[tuple[str, bytes]]]:
            return reading.head(), [(str(key), body) for key, body in PolicyReading(reading).bodies()]

        head, found = self._store.read(all_there_is, ALL_S)
        gone = self._told.difference(key for key, _ in found)
        changes = [Change(head.sequence, rows.DOMAIN, "", key, b"", 0.0) for key in sorted(gone)]
        changes += [Change(head.sequence, rows.DOMAIN, "", key, body, 0.0) for key, body in found]
        self._tell_changes(changes)
        self._known = head.sequence

    def _tell_changes(self, changes: list[Change]) -> None:
        for some in portions(changes):
            self._tell(*[(ITEMS, each.key, each.body or None) for each in some])
        for each in changes:
            if each.body:
                self._told.add(each.key)
            else:
                self._told.discard(each.key)
