"""Counts what a sidecar's audit file says of calls: the proof that the chain was on, and for every call."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from bench.harness.certificates import CLIENT
from bench.harness.errors import BenchError
from bench.harness.h2load import TRACE_ID
from bench.harness.payload import METHOD

# One call as the whole chain saw it: identified, authorised, its caller's trace gone on with, recorded with its end.
FIELDS = ("kind", "status", "principal", "method", "trace_id")
CALL = ("call.allowed", 0, CLIENT, METHOD, TRACE_ID)


class Trail:
    """Reads a growing file of JSON lines, each line once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._seen: Counter[tuple[object, ...]] = Counter()

    def calls(self) -> int:
        """Calls recorded so far; the file need not exist yet.

        Raises BenchError when an event of a call is not the one that is expected.
        """
        data = b""
        if self._file.exists():
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            if event["kind"].startswith("call."):
                self._seen[tuple(event[field] for field in FIELDS)] += 1
        others = {key: count for key, count in self._seen.items() if key != CALL}
        if others:
            raise BenchError(f"void: expected every call recorded as {CALL}, came {others}")
        return self._seen[CALL]
