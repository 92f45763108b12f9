"""Seeing whether a message travelled compressed, which grpcio does not tell.

With the channel or server option WATCHED, grpc core hands compressed messages on as they came, and what begins
like gzip or zlib was compressed: neither 0x1f nor 0x78 opens an interop message (wire type 7 does not exist, and
no message has a field 15).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WATCHED = ("grpc.per_message_decompression", 0)


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and whether its compressed flag was set on the wire."""

    message: Any
    compressed: bool


def reader(kind: Any) -> Callable[[bytes], Received]:
    """A deserializer of messages of `kind` for a peer that has WATCHED set."""

    def read(raw: bytes) -> Received:
        if raw[:2] == b"\x1f\x8b":
            return Received(kind.FromString(gzip.decompress(raw)), True)
        if raw[:1] == b"\x78":
            return Received(kind.FromString(zlib.decompress(raw)), True)
        return Received(kind.FromString(raw), False)

    return read
