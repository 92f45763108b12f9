"""What workers are told of roles, groups, grants and policies; in the services process, on threads of its own.

They are told everything once, then each change, and as of when that is all: the feed says that this process is there,
and not that it could read the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sidecar.policy import rows
from sidecar.policy.model import Item
from sidecar.policy.rows import ITEMS, SO, Key
from sidecar.policy.store_sql import PolicyReading
from sidecar.state.changes import Change, GapError
from sidecar.state.following import LOOK_S, Tell, changes_after, portions
from sidecar.state.ports import Head, Reading, Store
from sidecar.state.upkeep import Upkeep

CHORES_S: Final = 30.0
ALL_S: Final = 60.0  # for everything to be read
NOT_READ: Final = -1
MOST_ALTERED: Final = 1_000  # items that are told one by one, and not with everything


class PolicyKeeping:
    """tell: called on these threads.  clock: seconds of CLOCK_BOOTTIME.  chores: what else is due now and then."""

    def __init__(self, store: Store, tell: Tell, clock: Callable[[], float], chores: Callable[[], None]) -> None:
        self._store = store
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._known = NOT_READ  # up to which change workers have been told
        self._told: dict[str, int] = {}  # by key, hashes of the store's items as they were told
        self._configured: dict[str, bytes] = {}
        self._wanted: dict[str, bytes] = {}  # the config's own, as they are to be told
        self._looking = Upkeep("policies", self._look, LOOK_S)
        self._others = chores
        self._altered: dict[str, Key] = {}  # items that may be others than they were told
        self._chores = Upkeep("policies-chores", self._do_chores, CHORES_S)

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
        altered = self._altered
        try:
            if self._known == NOT_READ or len(altered) > MOST_ALTERED:
                self._tell_everything()
            elif altered:
                self._tell_altered(altered)
            for changes in changes_after(self._store, self._known):
                self._tell_changes([each for each in changes if each.domain == rows.DOMAIN])
                self._known = changes[-1].sequence
        except GapError:
            self._tell_everything()
        if self._altered is altered:  # told, and no others were found meanwhile
            self._altered = {}
        self._tell((SO, "so", (now, self._began)))

    def _do_chores(self) -> None:
        self._compare()
        self._others()

    def _compare(self) -> None:
        """Whoever spoils or mends what is stored does not write to the log of changes."""

        def hashes(reading: Reading) -> dict[Key, int]:
            return {key: hash(body) for key, body in PolicyReading(reading).bodies()}

        if self._known == NOT_READ:
            return  # all of it is to be told anyway
        told = dict(self._told)  # first: what is written meanwhile is told again, and no harm done
        found = {str(key): (key, value) for key, value in self._store.read(hashes, ALL_S).items()}
        altered = {text: key for text, (key, value) in found.items() if told.get(text) != value}
        altered |= {text: Key(*text.split("/", 2)) for text in told if text not in found}
        if altered:
            self._altered = altered
            self._looking.wake()

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
        gone = self._told.keys() - {key for key, _ in found}
        changes = [Change(head.sequence, rows.DOMAIN, "", key, b"", 0.0) for key in sorted(gone)]
        changes += [Change(head.sequence, rows.DOMAIN, "", key, body, 0.0) for key, body in found]
        self._tell_changes(changes)
        self._known = head.sequence

    def _tell_altered(self, altered: dict[str, Key]) -> None:
        def as_they_are(reading: Reading) -> list[Change]:
            items, sequence = PolicyReading(reading), reading.head().sequence
            return [Change(sequence, rows.DOMAIN, "", key, items.body(altered[key]), 0.0) for key in sorted(altered)]

        now = self._store.read(as_they_are, ALL_S)
        self._tell_changes([each for each in now if self._told.get(each.key) != _hash(each.body)])

    def _tell_changes(self, changes: list[Change]) -> None:
        for some in portions(changes):
            self._tell(*[(ITEMS, each.key, each.body or None) for each in some])
        for each in changes:
            if each.body:
                self._told[each.key] = hash(each.body)
            else:
                self._told.pop(each.key, None)


def _hash(body: bytes) -> int | None:
    """None for what is not there."""
    return hash(body) if body else None
