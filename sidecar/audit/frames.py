"""Events between processes, as bytes: what a worker hands to the recorder, and what the recorder answers.

A frame is its length (4 bytes, big-endian) and a `marshal` of plain values. Both ends run one interpreter of one boot,
over a socketpair that the supervisor made; `marshal` is what costs a worker least for each event.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any, Final, TypeAlias

from interceptors.events import Event
from sidecar.audit.ports import AuditError

LENGTH: Final = struct.Struct("!I")
LARGEST: Final = 64 << 20  # bytes of one frame
FORMAT: Final = 4  # of marshal: a text that many events share is written once
Plain: TypeAlias = tuple[Any, ...]  # an event's values in their order, without its durability


def plain(event: Event) -> Plain:
    """Spelt out, for that takes a third of the time of any loop over its fields."""
    return (
        event.kind, event.time, event.tenant, event.principal, event.source, event.method, event.model, event.status,
        event.reason, event.would_deny, event.seconds, event.requests, event.responses, event.trace_id, event.fold,
        event.count,
    )  # fmt: skip


def batch(first: int, hurry: bool, events: list[Plain]) -> bytes:
    """A frame of events numbered from `first`. hurry: somebody waits for them.

    Raises ValueError where an event holds what is no plain value.
    """
    return _frame((first, hurry, events))


def answer(durable: int, failed: str | None) -> bytes:
    """durable: the number up to which all events are.  failed: why the recorder cannot write now."""
    return _frame((durable, failed))


def opened(values: Plain) -> tuple[int, bool, list[Plain]]:
    """What `batch` was given. Raises AuditError for what it did not make."""
    match values:
        case (int(first), bool(hurry), list(events)):
            return first, hurry, events
    raise AuditError("a batch of events is malformed")


class Reader:
    """Bytes in, the frames' values out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Plain]:
        """Raises AuditError for what is no frame."""
        self._data += data
        found, at = [], 0
        while len(self._data) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data, at)
            if length > LARGEST:
                raise AuditError(f"a frame of {length} bytes, at most {LARGEST} are taken")
            end = at + LENGTH.size + length
            if len(self._data) < end:
                break
            found.append(_values(bytes(self._data[at + LENGTH.size : end])))
            at = end
        del self._data[:at]
        return found


def _frame(values: Plain) -> bytes:
    data = marshal.dumps(values, FORMAT)
    return LENGTH.pack(len(data)) + data


def _values(data: bytes) -> Plain:
    try:
        values = marshal.loads(data)  # noqa: S302 - of our own processes, over an inherited descriptor
    except (EOFError, ValueError, TypeError):
        raise AuditError("a frame does not hold values") from None
    if not isinstance(values, tuple):
        raise AuditError("a frame does not hold a tuple")
    return values
