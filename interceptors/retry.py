"""How a denial says when to come again: to people's code as a google.rpc.RetryInfo, to gRPC's own retries as a trailer.

Sources: google/rpc/error_details.proto; gRPC proposal A6, "Pushback".
"""

from __future__ import annotations

import math
from typing import Final

from interceptors.contract import RETRY_PUSHBACK, Detail, RawField

TYPE_URL: Final = "type.googleapis.com/google.rpc.RetryInfo"
MOST_MS: Final = (1 << 31) - 1  # clients read the trailer as an int32


def after(delay_s: float) -> tuple[Detail, RawField]:
    """The detail and the trailer for `delay_s` seconds, both rounded up to the same millisecond, at least one."""
    delay_ms = min(MOST_MS, max(1, math.ceil(delay_s * 1e3)))
    return Detail(TYPE_URL, retry_info(delay_ms)), (RETRY_PUSHBACK, b"%d" % delay_ms)


def retry_info(delay_ms: int) -> bytes:
    """RetryInfo { Duration retry_delay = 1; }, Duration { int64 seconds = 1; int32 nanos = 2; }. delay_ms: from 0."""
    seconds, rest_ms = divmod(delay_ms, 1000)
    duration = _integer(1, seconds) + _integer(2, rest_ms * 1_000_000)
    return b"\x0a" + _varint(len(duration)) + duration


def _integer(number: int, value: int) -> bytes:
    return bytes((number << 3,)) + _varint(value) if value else b""  # proto3 leaves zeros out


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
