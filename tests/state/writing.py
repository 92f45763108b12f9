"""A process that writes until it is killed, and says what was acknowledged: `python -m tests.state.writing DIR URL`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from sidecar.state.opening import database
from sidecar.state.ports import Transaction
from sidecar.state.store import DatabaseStore
from tests.state.engines import KNOWN

THREADS = 4


def write(store: DatabaseStore, thread: int, run: str) -> None:
    number = 0
    while True:
        name = f"{run} {thread} {(number := number + 1)}"

        def both(transaction: Transaction, name: str = name) -> None:
            transaction.run("INSERT INTO things (name, number) VALUES (?, 1)", f"{name} a")
            transaction.change("test", "thing", name, b"")
            transaction.run("INSERT INTO things (name, number) VALUES (?, 2)", f"{name} b")

        store.write(both, 60.0)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


def main() -> None:
    directory, url, run = sys.argv[1:]
    store = DatabaseStore(database(Path(directory), url), known=KNOWN)
    for thread in range(THREADS):
        threading.Thread(target=write, args=(store, thread, run)).start()


if __name__ == "__main__":
    main()
