"""A process that is killed between a change and its event: `python -m tests.state.recording DIR URL NAME`.

It kills itself, with SIGKILL, at the moment at which the event was to be recorded.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from interceptors.events import Durability, Event
from sidecar.state.opening import database
from sidecar.state.outbox import Outbox
from sidecar.state.ports import Transaction
from sidecar.state.store import DatabaseStore
from tests.state.engines import KNOWN


def killed(events: Sequence[Event]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    directory, url, name = sys.argv[1:]
    outbox = Outbox(DatabaseStore(database(Path(directory), url), known=KNOWN), killed, name)

    def work(transaction: Transaction) -> None:
        transaction.run("INSERT INTO things (name, number) VALUES (?, 1)", name)
        outbox.put(transaction, Event("thing.made", 1.0, Durability.COMMIT, principal="user:corp/ada", reason=name))

    outbox.write(work)


if __name__ == "__main__":
    main()
