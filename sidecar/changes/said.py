"""What the two ends of a feed say to each other: tuples of plain values, of which the first is the kind.

From the publisher:  (BEGIN,)  (ENTRIES, changes)  (END, sequence, at)  everything that is so, in place of what was
                     (CHANGE, sequence, at, changes)                    what is so from here on
                     (BEAT, sequence, at)                               nothing has changed
                     (ANSWER, number, fault)                            fault: "" for none
To it:               (ASK, number, what, argument)

at: seconds of CLOCK_BOOTTIME, which both ends read: what waits in a socket is as old as it is.

changes: a list of (topic, key, value), value None where there is no such entry any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

from sidecar.internal.marshalled import frame

BEGIN: Final = 0
ENTRIES: Final = 1
END: Final = 2
CHANGE: Final = 3
BEAT: Final = 4
ANSWER: Final = 5
ASK: Final = 6

BEAT_S: Final = 0.25
_MANY: Final = 256  # entries of one frame

Change: TypeAlias = tuple[str, str, Any]  # topic, key, value


def whole(entries: Iterable[Change], sequence: int, at: float) -> Iterator[bytes]:
    """The frames that tell everything."""
    yield frame((BEGIN,))
    left = iter(entries)
    while some := list(islice(left, _MANY)):
        yield frame((ENTRIES, some))
    yield frame((END, sequence, at))
