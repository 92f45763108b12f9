"""Calls that wait for a lock of the ledger, each in its turn: whoever holds it may have lost its processor for a while.

The event loop goes on meanwhile, and looks for the lock from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from interceptors.ledger import Charge, Taken
from sidecar.limits.ledger_mmap import MmapLedger

LOOK_S: Final = 0.001  # at first; twice as long from look to look
LONGEST_S: Final = 0.01
WAIT_S: Final = 1.0  # beyond which a holder is taken for stopped, where time slices are of milliseconds


class Waiting:
    """clock: seconds, monotonic."""

    def __init__(self, ledger: MmapLedger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        # By locks; a line is there as long as somebody stands in it.
        self._lines: WeakValueDictionary[tuple[int, ...], asyncio.Lock] = WeakValueDictionary()

    async def take_all(self, charges: Sequence[Charge]) -> Taken:
        """As `Ledger.take_all`, which has found the ledger busy.

        "ledger_busy" where the lock is not got within WAIT_S of a call's turn, and at once until it is got again.
        """
        ledger, pause = self._ledger, LOOK_S
        stripes = tuple(ledger.stripes(charges))
        line = self._lines.get(stripes)
        if line is None:
            line = self._lines[stripes] = asyncio.Lock()
        async with line:
            until = self._clock() + WAIT_S
            while not ledger.stopped(stripes):
                taken = ledger.take_all(charges, spin_ns=0)
                if taken.refusal != "ledger_busy":
                    return taken
                if self._clock() >= until:
                    ledger.give_up()
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_S)
        return Taken("ledger_busy")
