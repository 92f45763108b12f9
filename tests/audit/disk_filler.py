"""A process that records into a file system too small for it, makes room, and goes on.

python -m tests.audit.disk_filler FOLDER: FOLDER is a small file system holding a file `ballast`. Prints one JSON
object of what happened. Runs in a process of its own, for its mount is to vanish with it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from interceptors.events import Durability, Event
from sidecar.audit.recorder_jsonl import JsonlRecorder
from tests.audit.pump import Pump


def main(folder: Path) -> dict[str, object]:
    pump, path = Pump(), folder / "audit" / "events.jsonl"
    recorder = JsonlRecorder(path, pump.call_soon)
    told: list[BaseException | None] = []

    def commit(reason: str = "") -> None:
        before = len(told)
        recorder.record(Event("call.denied", time.time(), Durability.COMMIT, reason=reason), told.append)
        pump.until(lambda: len(told) > before)

    while recorder.failed is None:
        commit("x" * 500)
    failed, refused, size = recorder.failed, str(told[-1]), path.stat().st_size
    at_failure = path.read_bytes()
    commit()
    (folder / "ballast").unlink()
    pump.until(lambda: recorder.failed is None)
    commit()
    recorder.close()
    return {
        "failed": failed,
        "refused": refused,
        "size": size,
        "whole": at_failure.endswith(b"\n"),
        "recorded": len(told),
        "errors": [str(error) for error in told if error is not None],
        "lines": [json.loads(line)["kind"] for line in path.read_bytes().splitlines()],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
