"""What workers are told of revocations: all of them before any worker listens, then each change, and as of when.

In the services process, on threads of its own. Those that other sidecars have written to the same database are found by
looking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.identity.revocations_desk import RevocationDesk
from sidecar.identity.revocations_model import DOMAIN, KIND, SO, TOPIC, encode
from sidecar.identity.revocations_store_sql import SqlRevocationsReading
from sidecar.state.changes import Change, GapError
from sidecar.state.following import LOOK_S, Tell, changes_after, portions
from sidecar.state.ports import Reading, Store
from sidecar.state.upkeep import Upkeep

CHORES_S: Final = 60.0  # between looks at what has ended by itself


class RevocationKeeping:
    """tell: called on these threads.  clock: seconds of CLOCK_BOOTTIME."""

    def __init__(self, store: Store, desk: RevocationDesk, tell: Tell, clock: Callable[[], float]) -> None:
        self._store = store
        self._tell = tell
        self._clock = clock
        self._known = 0  # up to which change workers have been told
        self._told: set[str] = set()  # ids
        self._looking = Upkeep("revocations", self._look, LOOK_S)
        self._chores = Upkeep("revocations-chores", desk.drop, CHORES_S)

    def begin(self, tell: Tell) -> None:
        """Tell all there are by `tell`, before anybody listens: else what another process has told would be taken
        back until then. Raises StateError."""
        self._tell_all(tell)

    def start(self) -> None:
        self._looking.start()
        self._chores.start()

    def committed(self, sequence: int) -> None:
        """Something was written: from any thread."""
        self._looking.wake()

    def close(self) -> None:
        self._looking.close()
        self._chores.close()

    def _look(self) -> None:
        now = self._clock()  # before anything is read: what is written meanwhile is not known yet
        try:
            for changes in changes_after(self._store, self._known):
                ours = [each for each in changes if (each.domain, each.kind) == (DOMAIN, KIND)]
                _tell_some(self._tell, ours)
                self._told.update(each.key for each in ours)
                self._known = changes[-1].sequence
        except GapError:
            self._tell_all(self._tell)
        self._tell((SO, SO, now))

    def _tell_all(self, tell: Tell) -> None:
        def work(reading: Reading) -> tuple[int, dict[str, bytes]]:
            found = SqlRevocationsReading(reading).all()
            return reading.head().sequence, {each.id: encode(each) for each in found}

        sequence, entries = self._store.read(work)
        changes = [Change(sequence, DOMAIN, KIND, key, body, 0.0) for key, body in entries.items()]
        changes += [Change(sequence, DOMAIN, KIND, key, b"", 0.0) for key in self._told - entries.keys()]
        _tell_some(tell, changes)
        self._known, self._told = sequence, set(entries)


def _tell_some(tell: Tell, changes: Sequence[Change]) -> None:
    for some in portions(changes):
        tell(*[(TOPIC, each.key, each.body or None) for each in some])
