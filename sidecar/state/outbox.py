"""Events of changes, written in the changes' own transactions: whatever is committed is recorded, once at least.

An event lies here from its change's commit until it is durable in the audit trail, also when all processes are killed
in between: whoever opens the database then records it. What was recorded and not yet taken out is recorded again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Final, TypeVar

from interceptors.contract import Code
from interceptors.events import Durability, Event
from sidecar.errors import SidecarError
from sidecar.logs import Log
from sidecar.state.ports import DEADLINE_S, StateError, Store, Transaction
from sidecar.state.upkeep import Upkeep

log = Log("state")

T = TypeVar("T")
MOST: Final = 256  # events that are recorded at once
WAIT_S: Final = 5.0  # for others that record
LOOK_S: Final = 30.0  # what another process has left for so long is taken over
NAMES: Final = frozenset(field.name for field in fields(Event))


class UnrecordedError(SidecarError):
    """A change is committed, and its event will be recorded later."""

    code = Code.UNAVAILABLE
    public = "it is done, and could not be recorded yet"
    wire_reason = "STATE_UNRECORDED"


class Outbox:
    """Safe for many threads. owner: this process's name among all that ever use the database.

    record: makes events durable, in their order, and returns then. Raises SidecarError where it could not.
    """

    def __init__(self, store: Store, record: Callable[[Sequence[Event]], None], owner: str) -> None:
        self._store = store
        self._record = record
        self._owner = owner
        self._recording = threading.Lock()
        self._recorded: set[int] = set()  # and still lying here
        self._left: set[int] | None = None  # of others, at the look before; None before the first
        self._upkeep = Upkeep("outbox", self._look, LOOK_S)

    def start(self) -> None:
        """Record what lies here, and from now on what is put and for some reason stays."""
        self._upkeep.start()

    def close(self) -> None:
        self._upkeep.close()

    def put(self, transaction: Transaction, *events: Event) -> None:
        """To be recorded once the transaction, of a work that was given to `write`, is committed."""
        transaction.run("UPDATE head SET outbox = outbox + ?", len(events))
        ((last,),) = transaction.rows("SELECT outbox FROM head")
        rows = [(number, self._owner, _text(event)) for number, event in enumerate(events, last - len(events) + 1)]
        transaction.run_many("INSERT INTO outbox (number, owner, event) VALUES (?, ?, ?)", rows)

    def write(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        """As Store.write; when it returns, all that was put by now is durable in the audit trail.

        Raises UnrecordedError where that is not so: then the change is made, and recorded as soon as it can be.
        """
        value = self.commit(work, deadline_s)
        self.settle()
        return value

    def commit(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        """As Store.write, for who must not hold others up until it is recorded: `settle` before it is answered."""
        try:
            return self._store.write(work, deadline_s)
        except StateError:
            self._upkeep.wake()  # it may have been written
            raise

    def settle(self) -> None:
        """Record all that was put by now. Raises UnrecordedError as of `write`."""
        try:
            self._flush()
        except SidecarError as error:
            self._upkeep.wake()
            raise UnrecordedError(str(error)) from error

    def _flush(self) -> None:
        """Record all that this process has put. Raises SidecarError."""
        if not self._recording.acquire(timeout=WAIT_S):
            raise UnrecordedError("others wait for their events to be recorded")
        try:
            while waiting := self._waiting():
                self._record([event for _, event in waiting])
                self._recorded.update(number for number, _ in waiting)
                self._take_out()
        finally:
            self._recording.release()

    def _waiting(self) -> list[tuple[int, Event]]:
        """The first of those that are to be recorded here."""
        most = MOST + len(self._recorded)
        rows = self._store.read(
            lambda reading: reading.rows(
                "SELECT number, event FROM outbox WHERE owner = ? ORDER BY number LIMIT ?", self._owner, most
            )
        )
        return [(number, _event(number, text)) for number, text in rows if number not in self._recorded]

    def _take_out(self) -> None:
        """What was recorded. Where that cannot be written now, it is known here, and tried with the next."""
        numbers = sorted(self._recorded)
        try:
            self._store.write(
                lambda transaction: transaction.run_many("DELETE FROM outbox WHERE number = ?", [(n,) for n in numbers])
            )
        except StateError:
            return
        self._recorded.difference_update(numbers)

    def _look(self) -> None:
        """Raises SidecarError."""
        there = self._of_others()
        # At first, what was left before; later, what those who serve the same database would have recorded by now.
        taken = there if self._left is None else there & self._left
        if taken:
            self._store.write(
                lambda transaction: transaction.run_many(
                    "UPDATE outbox SET owner = ? WHERE number = ?", [(self._owner, number) for number in sorted(taken)]
                )
            )
        self._left = there - taken
        self._flush()

    def _of_others(self) -> set[int]:
        rows = self._store.read(lambda reading: reading.rows("SELECT number FROM outbox WHERE owner <> ?", self._owner))
        return {number for (number,) in rows}


def _text(event: Event) -> str:
    values = asdict(event)
    del values["durability"]
    return json.dumps(values)


def _event(number: int, text: str) -> Event:
    """What another version has put is read as far as it is known; what nobody can read is not to hold up the rest."""
    try:
        values = {name: value for name, value in json.loads(text).items() if name in NAMES}
        return Event(**values, durability=Durability.COMMIT)
    except (ValueError, TypeError, AttributeError) as error:
        log.error("outbox_malformed", error, number=number)
        return Event("audit.malformed", 0.0, Durability.COMMIT, reason="outbox")
