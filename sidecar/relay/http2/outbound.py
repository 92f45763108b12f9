"""What one connection sends: frames in order, DATA within both windows, and what has to wait for them."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import ClassVar, Final, cast

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import TABLE_SIZE_ZERO
from sidecar.relay.http2.limits import Limits
from sidecar.relay.http2.streams import AWAIT, BODY, ENDED, RESET, Piece, Stream

_pack = frames.HEADER.pack
_DEFAULT_FRAME: Final = frames.DEFAULT_FRAME
BULK: Final = 4 << 10  # bytes of a payload that is not copied
_ROOM: Final = 256 << 10  # bytes of DATA put out between two flushes
_MERGED: Final = 4 << 10  # bytes; shorter payloads that wait are joined up to this
_COPIED: Final = 1 << 10  # bytes, up to which a copy costs less than a view
_SHARE: Final = 4  # of a payload: a view of less than a part in so many would hold far more memory than is left


def _rest(payload: Piece, count: int) -> Piece:
    """What is left behind the first `count` bytes, seldom copied, for those may be one each time."""
    left = memoryview(payload)[count:]
    size = len(left)
    return bytes(left) if size <= _COPIED or size * _SHARE <= len(cast(bytes, left.obj)) else left


class Outbound:
    """The sending half. Of a stream's frames none overtakes another; between streams each frame goes in turn."""

    is_client: ClassVar[bool]
    resets_remembered: ClassVar[int]  # streams whose late frames are ignored

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.waiting = 0  # bytes put out since the last `take`, DATA apart
        self.room = _ROOM  # bytes of DATA that may still be put out before the next `take`
        self.bulky = False  # long pieces are among what `take` will give: joining them costs more than it saves
        self.send_window = frames.DEFAULT_WINDOW
        self._out: list[Piece] = []
        self._peer_initial = frames.DEFAULT_WINDOW
        self._peer_frame = frames.DEFAULT_FRAME
        # Streams whose next frame only the connection's window or room holds back, in turn. A stream whose own window
        # is closed is not among them: it comes back with that window, so that no update costs a look at all.
        self._blocked: OrderedDict[Stream, None] = OrderedDict()
        self._pumping = False
        self._prefix = TABLE_SIZE_ZERO
        self._reset_ids: deque[int] = deque()
        self._reset_set: set[int] = set()

    def take(self) -> list[Piece]:
        """The bytes to send, in pieces, and room for as much again. Call only while the transport takes bytes."""
        out = self._out
        self._out = []
        self.waiting = 0
        self.room = _ROOM
        self.bulky = False
        return out

    @property
    def pending(self) -> bool:
        return bool(self._out)

    @property
    def stalled(self) -> bool:
        """Whether DATA waits that windows would let go: `pump` after the next flush."""
        return bool(self._blocked) and self.send_window > 0

    def _put(self, octets: bytes) -> None:
        self._out.append(octets)
        self.waiting += len(octets)

    # --- header blocks ------------------------------------------------------------------------------------------

    def send_head(self, stream: Stream, block: bytes, end: bool) -> None:
        """Send a head, or trailers with `end`, behind whatever DATA still waits on the stream."""
        if stream.send >= ENDED:
            return
        if stream.queue is not None:
            stream.tail = block
            stream.send = ENDED
            return
        if self._prefix:
            block = self._prefix + block
            self._prefix = b""
        size = len(block)
        self.waiting += size
        if size <= _DEFAULT_FRAME:
            self._out.append(_pack(size << 8 | 1, 5 if end else 4, stream.id) + block)
        else:
            self._out.append(frames.header_frames(stream.id, block, end, self._peer_frame))
        if end:
            stream.send = ENDED
            if stream.receive >= ENDED:
                self.streams.pop(stream.id, None)
        else:
            stream.send = BODY

    def send_informational(self, stream: Stream, block: bytes) -> None:
        """Send a 1xx head, as long as the final one has not gone."""
        if stream.send == AWAIT:
            self._put(frames.header_frames(stream.id, self._prefix + block, False, self._peer_frame))
            self._prefix = b""

    # --- DATA ---------------------------------------------------------------------------------------------------

    def send_data(self, stream: Stream, payload: bytes, end: bool) -> bool:
        """Send DATA; False when some of it has to wait, which `on_sent` tells of as it leaves."""
        size = len(payload)
        if (
            stream.queue is None
            and size <= stream.send_window
            and size <= self.send_window
            and size <= self.room
            and size <= self._peer_frame
        ):
            if stream.send >= ENDED:
                return True
            stream.send_window -= size
            self.send_window -= size
            self.room -= size
            head = _pack(size << 8, 1 if end else 0, stream.id)
            if size < BULK:
                self._out.append(head + payload)
            else:
                self.bulky = True
                self._out.append(head)
                self._out.append(payload)
            if end:
                stream.send = ENDED
                if stream.receive >= ENDED:
                    self.streams.pop(stream.id, None)
            return True
        if stream.send >= ENDED:
            return True
        return self._send_later(stream, payload, end)

    def send_view(self, stream: Stream, payload: memoryview) -> bool:
        """Send DATA that is not the last, if all of it may go now; else nothing is done, and it is False.

        What was read stays in memory until `take` has given the view, and what that is for has let go of it.
        """
        size = len(payload)
        if (
            stream.queue is not None
            or size > stream.send_window
            or size > self.send_window
            or size > self.room
            or size > self._peer_frame
            or stream.send >= ENDED
        ):
            return False
        stream.send_window -= size
        self.send_window -= size
        self.room -= size
        self.bulky = True
        self._out.append(_pack(size << 8, 0, stream.id))
        self._out.append(payload)
        return True

    def _send_later(self, stream: Stream, payload: bytes, end: bool) -> bool:
        queue = stream.queue
        if end:
            stream.send = ENDED
        if not payload:
            # No window is needed for no data: it rides on what waits, or goes.
            if queue is not None:
                queue[-1] = (queue[-1][0], end)
            else:
                self._put(frames.frame_header(0, frames.DATA, frames.END_STREAM if end else 0, stream.id))
                self._retire(stream)
            return True
        stream.queued += len(payload)
        if queue is not None:
            last = queue[-1][0]
            if len(last) + len(payload) <= _MERGED:
                # A queue entry costs a hundred bytes: whoever sends single ones must not have us hold that for each.
                queue[-1] = (bytes(last) + payload, end)
            else:
                queue.append((payload, end))
        else:
            stream.queue = deque(((payload, end),))
            self._unblock(stream)
            self.pump()
        return False

    def _unblock(self, stream: Stream) -> None:
        """Give a stream with waiting DATA a turn in `pump`, if its own window is open."""
        if stream.send_window > 0:
            self._blocked[stream] = None

    def pump(self) -> None:
        """Send what windows and room allow of waiting DATA, a frame a stream in turn."""
        if self._pumping:
            return  # an owner, told of progress, sends more: the loop below has it in turn
        self._pumping = True
        blocked = self._blocked
        try:
            while blocked and self.room > 0 and self.send_window > 0:
                stream = next(iter(blocked))
                if stream.send_window > 0:
                    self._pump_frame(stream)
                else:
                    del blocked[stream]
        finally:
            self._pumping = False

    def _pump_frame(self, stream: Stream) -> None:
        """Send one frame of a stream's queue, and put the stream last in turn."""
        queue = stream.queue
        assert queue is not None
        payload, end = queue[0]
        size = len(payload)
        count = size
        for most in (stream.send_window, self.send_window, self.room, self._peer_frame):
            if most < count:
                count = most
        piece = payload
        if count < size:
            piece = payload[:count]
            queue[0] = (_rest(payload, count), end)
            end = False
        else:
            queue.popleft()
        stream.queued -= count
        stream.send_window -= count
        self.send_window -= count
        self.room -= count
        self._out.append(_pack(count << 8, 1 if end else 0, stream.id))
        self._out.append(piece)
        if count >= BULK:
            self.bulky = True
        if queue:
            self._blocked.move_to_end(stream)
        else:
            stream.queue = None
            del self._blocked[stream]
            if stream.tail is not None:
                block, stream.tail = stream.tail, None
                stream.send = BODY
                self.send_head(stream, block, True)
            else:
                self._retire(stream)
        if stream.owner is not None:
            stream.owner.on_sent(count)

    # --- the end of a stream ------------------------------------------------------------------------------------

    def _retire(self, stream: Stream) -> None:
        """Forget a stream both of whose halves have ended and whose DATA has drained."""
        if stream.receive >= ENDED and stream.send >= ENDED and stream.queue is None:
            self.streams.pop(stream.id, None)

    def _forget(self, stream: Stream) -> None:
        """Drop a stream that was reset, by either side."""
        stream.receive = stream.send = RESET
        stream.queue = stream.tail = None
        stream.queued = 0
        self._blocked.pop(stream, None)
        self.streams.pop(stream.id, None)
        self._remember_reset(stream.id)

    def _remember_reset(self, number: int) -> None:
        """Frames in flight when a stream was reset are ignored, not held against the peer."""
        if number in self._reset_set:
            return
        self._reset_set.add(number)
        self._reset_ids.append(number)
        if len(self._reset_ids) > self.resets_remembered:
            self._reset_set.discard(self._reset_ids.popleft())
