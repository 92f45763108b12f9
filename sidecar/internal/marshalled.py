"""Plain values between processes of one sidecar, as bytes.

A frame is its length (4 bytes, big-endian) and a `marshal` of a tuple. Both ends run one interpreter of one boot, over
a socketpair that the supervisor made; `marshal` is what costs least.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any, Final, TypeAlias

from sidecar.errors import SidecarError

LENGTH: Final = struct.Struct("!I")
LARGEST: Final = 64 << 20  # bytes of one frame
FORMAT: Final = 4  # of marshal: a text that many values share is written once
Plain: TypeAlias = tuple[Any, ...]


class FrameError(SidecarError):
    """Bytes that no frame of ours has."""


def frame(values: Plain) -> bytes:
    """Raises ValueError where one is no plain value, or all are too many."""
    data = marshal.dumps(values, FORMAT)
    if len(data) > LARGEST:
        raise ValueError(f"a frame of {len(data)} bytes, at most {LARGEST} may be sent")
    return LENGTH.pack(len(data)) + data


class Reader:
    """Bytes in, the frames' values out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Plain]:
        """Raises FrameError for what is no frame."""
        self._data += data
        found, at = [], 0
        while len(self._data) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data, at)
            if length > LARGEST:
                raise FrameError(f"a frame of {length} bytes, at most {LARGEST} are taken")
            end = at + LENGTH.size + length
            if len(self._data) < end:
                break
            found.append(_values(bytes(self._data[at + LENGTH.size : end])))
            at = end
        del self._data[:at]
        return found


def _values(data: bytes) -> Plain:
    try:
        values = marshal.loads(data)  # noqa: S302 - of our own processes, over an inherited descriptor
    except (EOFError, ValueError, TypeError):
        raise FrameError("a frame does not hold values") from None
    if not isinstance(values, tuple):
        raise FrameError("a frame does not hold a tuple")
    return values
