"""Frame layout (RFC 9113 §4, §6): types, flags, settings and the packing of what is sent. Nothing is parsed here."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = struct.Struct(">LBL")  # length in the upper 24 bits and type in the lower 8, flags, stream
HEADER_LENGTH: Final = 9
U32 = struct.Struct(">L")
SETTING = struct.Struct(">HL")
GOAWAY_HEAD = struct.Struct(">LL")

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

MAX_STREAM_ID: Final = (1 << 31) - 1
MAX_WINDOW: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65_535  # bytes
DEFAULT_FRAME: Final = 16_384  # bytes
DEFAULT_TABLE: Final = 4_096  # bytes, SETTINGS_HEADER_TABLE_SIZE
LARGEST_FRAME: Final = (1 << 24) - 1  # bytes

SETTINGS_ACK: Final = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"


def frame_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    return HEADER.pack(length << 8 | kind, flags, stream)


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    payload = b"".join(SETTING.pack(key, value) for key, value in values)
    return frame_header(len(payload), SETTINGS, 0, 0) + payload


def window_update(stream: int, increment: int) -> bytes:
    return frame_header(4, WINDOW_UPDATE, 0, stream) + U32.pack(increment)


def rst_stream(stream: int, code: int) -> bytes:
    return frame_header(4, RST_STREAM, 0, stream) + U32.pack(code)


def ping(opaque: bytes, ack: bool) -> bytes:
    return frame_header(8, PING, ACK if ack else 0, 0) + opaque


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    return frame_header(8 + len(debug), GOAWAY, 0, 0) + GOAWAY_HEAD.pack(last, code) + debug


def header_frames(stream: int, block: bytes, end: bool, largest: int) -> bytes:
    """HEADERS and as many CONTINUATION frames as `largest` (bytes of payload) makes necessary."""
    flags = END_STREAM if end else 0
    if len(block) <= largest:
        return frame_header(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [frame_header(largest, HEADERS, flags, stream), block[:largest]]
    for at in range(largest, len(block), largest):
        piece = block[at : at + largest]
        last = END_HEADERS if at + largest >= len(block) else 0
        parts += (frame_header(len(piece), CONTINUATION, last, stream), piece)
    return b"".join(parts)
