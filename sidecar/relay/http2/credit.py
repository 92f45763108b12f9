"""What the peer may still send: windows, and when the peer is told that they have opened again."""

from __future__ import annotations

from typing import Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.limits import LEAST_WINDOW, Limits
from sidecar.relay.http2.outbound import Outbound
from sidecar.relay.http2.streams import BODY, Stream

_LEAST: Final = 16 << 10  # bytes: no WINDOW_UPDATE for every crumb that a slow reader takes
_BRISK_S: Final = 0.1  # for half a window to come: what a peer waits for that is up to twice as far away
_LENT: Final = 4  # a fourth of the connection's window, at most, widens streams' own
_SHARE: Final = 4  # and a fourth of what is left of that goes to the next


class Credit(Outbound):
    """The windows of the receiving half. Always: left to the peer + held by owners + not yet returned = the window.

    Whoever opens streams for many begins each with a narrow window, and widens it for what comes fast and is taken as
    fast: what is asked for and not read would otherwise come in no time, and be in the way of all others.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._window = limits.connection_window  # bytes the peer may send
        self._unreturned = 0  # bytes consumed and not yet announced
        self._announced = self._window  # the sum of the window, ever
        self._now = 0.0  # when bytes last came
        self._first = min(LEAST_WINDOW, limits.stream_window) if self.is_client else limits.stream_window
        self._lent = 0  # bytes by which streams are wider than that

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
            count = stream.unreturned
            if stream.span < self.limits.stream_window:
                count += self._widen(stream)
            self._put(frames.window_update(stream.id, count))
            stream.window += count
            stream.unreturned = 0

    def _widen(self, stream: Stream) -> int:
        """Bytes by which a stream's window grows: none unless half of it came fast, and all that came was taken.

        What may be lent falls with what is, so that nobody has all of it (dynamic threshold: Choudhury and Hahne,
        "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998).
        """
        brisk, stream.since = self._now - stream.since <= _BRISK_S, self._now
        if not brisk or stream.held:
            return 0
        left = self.limits.connection_window // _LENT - self._lent
        count = min(self.limits.stream_window - stream.span, left // _SHARE)
        stream.span += count
        self._lent += count
        return count
