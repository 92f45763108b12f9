"""Counts what a sidecar's audit file says of calls: the proof that the chain was on, and for every call."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.harness.certificates import CALLERS
from bench.harness.errors import BenchError
from bench.harness.h2load import TRACE_ID
from bench.harness.payload import METHOD

FIELDS = ("kind", "status", "principal", "method", "trace_id")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One call as the whole chain saw it: identified, authorised, its caller's trace gone on with, recorded.

    callers: how the names of identified callers begin, "" where nobody is.  trace: how trace ids end.
    beside: how methods begin that are no load, and not counted.
    """

    method: str = METHOD
    callers: str = CALLERS
    trace: str = TRACE_ID
    beside: tuple[str, ...] = ()

    def fits(self, kind: str, status: int, principal: str, method: str, trace_id: str) -> bool:
        went = (kind, status, method) == ("call.allowed", 0, self.method)
        return went and principal.startswith(self.callers) and len(trace_id) == 32 and trace_id.endswith(self.trace)


class Trail:
    """Reads a growing file of JSON lines, each line once."""

    def __init__(self, file: Path, evidence: Evidence) -> None:
        self._file = file
        self._evidence = evidence
        self._offset = 0
        self._seen = 0

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
        others: Counter[tuple[object, ...]] = Counter()
        for line in whole.splitlines():
            event = json.loads(line)
            if event["kind"].startswith("call."):
                found = tuple(event[field] for field in FIELDS)
                if self._evidence.fits(*found):
                    self._seen += 1
                elif not event["method"].startswith(self._evidence.beside):
                    others[found] += 1
        if others:
            raise BenchError(f"void: expected every call recorded as {self._evidence}, came {others}")
        return self._seen
