"""A direction that no link looks at: its payloads stream through, and window is given back as they leave.

What gRPC demands of the bytes is still checked: prefixes, lengths, and one message on a unary side.
"""

from __future__ import annotations

from typing import Final

from sidecar.relay.grpc_wire import PREFIX, Passage, WireFault, cardinality
from sidecar.relay.sides import Side

_ALL: Final = 1 << 31  # bytes: whatever a stream holds


class Passing(Side):
    """Short messages go on whole, long ones as they come."""

    __slots__ = ()

    def stalled(self) -> bool:
        return False

    @property
    def idle(self) -> bool:
        return self._passage is None and not self._busy and not self._inbox

    @property
    def partial(self) -> bool:
        return self._passage is not None and self._passage.partial

    def on_data(self, payload: bytes, end: bool) -> None:
        if self.exchange.over:
            self.credit(len(payload))
            return
        self.size += len(payload)
        if self._busy or self._inbox:
            self.keep(payload, end)
        else:
            self.take(payload, end)

    def on_view(self, payload: memoryview) -> None:
        size, passage = len(payload), self._passage
        if (
            passage is not None
            and passage.amid(size)
            and not (self._busy or self._inbox or self.exchange.over)
            and self.direction.send_view(self, payload)
        ):
            passage.skip(size)
            self.size += size
        else:
            self.on_data(bytes(payload), False)

    def take(self, payload: bytes, end: bool) -> None:
        size = len(payload)
        if (
            self._passage is None
            and size >= PREFIX
            and payload[0] < 2
            and int.from_bytes(payload[1:5], "big") == size - PREFIX
            and size - PREFIX <= self.limit
            and not (self.unary and self.count)
        ):
            self.count += 1
            ready = payload
        else:
            try:
                ready = self._feed(payload, end)
            except WireFault as fault:
                self.misused(fault.deny)
                return
            if not end:
                self._part(ready)
                return
        if end:
            self.direction.close(self, ready)
        elif ready:
            self.send(ready, False)

    def _part(self, ready: bytes) -> None:
        """Send on what may go, and give window back for the little that is kept until its message is whole.

        Parts of many messages could otherwise use up the connection's window, and none ever become whole.
        """
        if ready:
            self.send(ready, False)
        if not self.exchange.over and not self.direction.blocked(self):
            self.credit(_ALL)

    def _feed(self, payload: bytes, end: bool) -> bytes:
        """The straight path's rules for payloads cut anywhere. Raises WireFault."""
        ready = payload
        if payload:
            passage = self._passage
            if passage is None:
                passage = self._passage = Passage(self.limit)
                passage.count = self.count
            ready = passage.feed(payload)
            self.count = passage.count
        if end and self._passage is not None:
            self._passage.finish()
        if self.unary:
            cardinality(self.count, end and not self.direction.response)
        return ready
