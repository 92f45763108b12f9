"""What an answer says about trying again: gRPC's pushback (proposal A6, "Pushback")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sidecar.relay.http2.fields import Field

PUSHBACK: Final = b"grpc-retry-pushback-ms"
_MILLISECONDS = re.compile(rb"[0-9]{1,9}")


def pause_of(answer: Iterable[Field], usual_s: float) -> float | None:
    """Seconds to wait before a call is tried again, or None: not at all.

    The server's word goes before `usual_s`; a negative number, and what is none, say not to.
    """
    for name, value in answer:
        if name == PUSHBACK:
            return int(value) / 1000 if _MILLISECONDS.fullmatch(value) else None
    return usual_s
