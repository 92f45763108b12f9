"""Times of ours ↔ protobuf's."""

from __future__ import annotations

import math

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def seconds(given: Duration | Timestamp) -> float:
    """Of a duration; of a timestamp, Unix seconds."""
    return given.seconds + given.nanos / 1e9


def timestamp(seconds: float) -> Timestamp | None:
    """seconds: Unix time. None for one that is none: never, or not."""
    if not 0 < seconds < math.inf:
        return None
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
