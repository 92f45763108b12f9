"""A process that commits events as fast as it may and prints the number of each that is durable.

python -m tests.audit.commit_writer FILE: never ends by itself. 32 commits are under way at any time, and batch
events run beside them, so that groups are of every size.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import count
from pathlib import Path

from interceptors.events import Durability, Event
from sidecar.audit.recorder_jsonl import JsonlRecorder


async def main(path: Path) -> None:
    loop = asyncio.get_running_loop()
    recorder = JsonlRecorder(path, loop.call_soon_threadsafe)
    numbers = count()

    async def commits() -> None:
        for number in numbers:
            durable: asyncio.Future[None] = loop.create_future()

            def done(error: BaseException | None, durable: asyncio.Future[None] = durable) -> None:
                durable.set_result(None) if error is None else durable.set_exception(error)

            recorder.record(Event("call.allowed", time.time(), method="/a.B/C", requests=number))
            recorder.record(Event("call.denied", time.time(), Durability.COMMIT, requests=number), done)
            await durable
            os.write(1, f"{number}\n".encode())

    await asyncio.gather(*(commits() for _ in range(32)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
