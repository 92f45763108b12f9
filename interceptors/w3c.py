"""The headers of W3C Trace Context, read strictly. Source: w3.org/TR/trace-context-2, sections 3.2 and 3.3.

What Level 2 adds to Level 1 is taken: keys of tracestate may begin with a digit, "@" may stand anywhere in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

SAMPLED: Final = 1
RANDOM: Final = 2  # Level 2: the trace id's last 7 bytes are random; passed on as it came
MOST_MEMBERS: Final = 32
NO_TRACE: Final = "0" * 32
NO_SPAN: Final = "0" * 16

# 3.2.2: lower-case hex only; a version above 00 may go on after another dash.
TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL)
LENGTH: Final = 55  # octets of one of version 00
# 3.3.1.3: a value may begin with spaces, and does not end with one.
MEMBER: Final = re.compile(rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]")


# The caller's span: trace id and span id, lower-case hex of 16 and 8 bytes, and flags, SAMPLED and RANDOM at most.
Parent: TypeAlias = tuple[str, str, int]


def read_traceparent(values: Sequence[bytes]) -> Parent | None:
    """The caller's span, or None where the trace is to be restarted. values: of every traceparent header."""
    if len(values) != 1:
        return None
    value = values[0].strip(b" \t")
    if TRACEPARENT.fullmatch(value) is None:
        return None
    text = value[:LENGTH].decode()
    known = SAMPLED  # 3.2.4: of later versions' flags only this one
    if text[:2] == "00":
        known = SAMPLED | RANDOM
        if len(value) > LENGTH:
            return None
    elif text[:2] == "ff":
        return None
    trace_id, span_id = text[3:35], text[36:52]
    return None if trace_id == NO_TRACE or span_id == NO_SPAN else (trace_id, span_id, int(text[53:], 16) & known)


def is_tracestate(values: Sequence[bytes]) -> bool:
    """Whether the tracestate headers, taken together in order, may be passed on."""
    if not values:
        return True
    seen: set[bytes] = set()
    for member in b",".join(values).split(b","):
        text = member.strip(b" \t")
        if not text:  # 3.3.1.1: empty members are allowed
            continue
        # Leading spaces belong to the value, outer ones around the member do not.
        parts = MEMBER.fullmatch(text)
        if parts is None or parts[1] in seen or len(seen) == MOST_MEMBERS:
            return False
        seen.add(parts[1])
    return True
