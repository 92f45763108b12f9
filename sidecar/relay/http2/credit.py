"""What the peer may still send: windows, and when the peer is told that they have opened again."""

from __future__ import annotations

from typing import Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.limits import Limits
from sidecar.relay.http2.outbound import Outbound
from sidecar.relay.http2.streams import BODY, Stream

_LEAST: Final = 16 << 10  # bytes: no WINDOW_UPDATE for every crumb that a slow reader takes


class Credit(Outbound):
    """The windows of the receiving half. Always: left to the peer + held by owners + not yet returned = the window."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._window = limits.connection_window  # bytes the peer may send
        self._unreturned = 0  # bytes consumed and not yet announced
        self._announced = self._window  # the sum of the window, ever

    @property
    def arrived(self) -> int:
        """Bytes of DATA that have come, padding included."""
        return self._announced - self._window

    @property
    def short(self) -> bool:
        """Whether owners hold so much that the peer may soon have no window left for anybody."""
        return self._window + self._unreturned < self.limits.connection_window // 4

    def consume(self, stream: Stream, count: int) -> None:
        """Give back window for `count` bytes of a stream's DATA that have left or been dropped."""
        stream.held -= count
        self._unreturned += count
        if self._unreturned >= self._window:
            self._return_connection(0)
        if stream.receive == BODY:
            stream.unreturned += count
            if stream.unreturned >= stream.window:
                self._return_stream(stream)

    def _return_connection(self, count: int) -> None:
        """Tell the peer of window once it has no more left than that.

        Half of a window is the measure while nothing is held; the more slow readers hold, the sooner others get what
        there is.
        """
        self._unreturned += count
        if self._unreturned >= self._window and self._unreturned >= _LEAST:
            self._put(frames.window_update(0, self._unreturned))
            self._window += self._unreturned
            self._announced += self._unreturned
            self._unreturned = 0

    def _return_stream(self, stream: Stream) -> None:
        if stream.unreturned >= stream.window and stream.unreturned >= _LEAST:
            self._put(frames.window_update(stream.id, stream.unreturned))
            stream.window += stream.unreturned
            stream.unreturned = 0
