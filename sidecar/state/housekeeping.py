"""What is due in the state now and then, whatever is kept there; on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.state import idempotency
from sidecar.state.changes import compact
from sidecar.state.ports import Store, Transaction
from sidecar.state.upkeep import Upkeep

EVERY_S: Final = 30.0
KEEP: Final = 100_000  # changes, of all domains


class Housekeeping:
    """clock: Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._upkeep = Upkeep("state", self._tidy, EVERY_S)

    def start(self) -> None:
        self._upkeep.start()

    def close(self) -> None:
        self._upkeep.close()

    def _tidy(self) -> None:
        self._store.write(_shorten)
        self._store.write(lambda transaction: idempotency.forget(transaction, self._clock()))


def _shorten(transaction: Transaction) -> None:
    """Keep the log from growing for ever, and seldom: whoever is behind begins anew."""
    head = transaction.head()
    if head.sequence - head.compacted > 2 * KEEP:
        compact(transaction, KEEP)
