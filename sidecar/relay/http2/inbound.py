"""What one connection receives: frames cut from the bytes, DATA within its windows, header blocks put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sidecar.relay.http2 import frames, streams
from sidecar.relay.http2.blocks import HeaderBlocks, hard_limit
from sidecar.relay.http2.credit import Credit
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode, StreamFault
from sidecar.relay.http2.limits import Budget, Limits
from sidecar.relay.http2.outbound import BULK
from sidecar.relay.http2.streams import BODY, ENDED, RECEIVE, RESET, Stream, fault_code

Handler: TypeAlias = Callable[[Any, int, int, bytes], None]
_HEAD_KINDS: Final = (frames.HEADERS, frames.CONTINUATION)
_WHOLE_END: Final = frames.END_HEADERS | frames.END_STREAM
_LOOK: Final = 32  # frames between two looks at the clock
_DATA_COST: Final = 3  # frames that one of DATA counts as beyond its own, for it may hold a message to be inflated
_DATA_SHIFT: Final = 9  # and one more for each 512 bytes of it, for it may hold many
_HEAD_COST: Final = 15  # frames that a header block, which may begin a call, counts as beyond its own
_HEAD_SHIFT: Final = 5  # and one more for each 32 bytes of it, for they are decoded one by one
_SMALL: Final = 1 << 10  # bytes of DATA below which a frame is joined with those of its stream that came with it
_LONG: Final = 16 << 10  # bytes beyond which what came is not copied to complete a frame
_GIVEN: Final = 4  # streams given what came for them between two looks at the clock


class Inbound(Credit, ABC):
    """The receiving half. Window is given back by `consume` alone, padding and ignored frames apart."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.fault: ConnectionFault | None = None
        self.usable = True  # no fault and no GOAWAY, ours or theirs: new streams may be opened
        self.settled = False  # the peer's first SETTINGS came
        self.assembling_since: float | None = None  # when a header block began that is not whole yet
        self.behind = False  # frames that came wait for another `receive`
        self._opened = self.is_client  # the client's preface came
        self._straight = False  # settled, without fault, and between header blocks: most frames need no more checks
        self._blocks = HeaderBlocks(limits, self.is_client)
        self._highest = 0  # the highest stream id the peer opened, or we did
        self._last_accepted = frames.MAX_STREAM_ID
        self._tail = b""
        self._gathered: list[Stream] = []  # in turn, those of which something is `fresh`, and perhaps others
        self._block: list[bytes] | None = None  # header block being assembled
        self._block_head = (0, 0)  # its stream and flags
        self._block_size = 0
        self._resets = Budget(limits.resets)
        self._empties = Budget(limits.empty_data)
        self._unknown = Budget(limits.unknown)

    def receive(self, data: bytes, now: float, late: Callable[[], bool] = lambda: False) -> None:
        """Take bytes from the peer. A fault ends in GOAWAY in what `take` gives, and in `fault`.

        now: seconds on a clock that does not go back.  late: asked now and then whether others have waited long enough:
        what is left is then for another call, and `behind` tells so.
        """
        self.behind = False
        if self.fault is not None:
            return
        self._now = now
        try:
            if not self._gathered or self._give_all(late):
                self._receive(data, late)
            else:
                self._tail += data
                self.behind = True
            if self.waiting > self.limits.output:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "peer causes answers and does not read them")
        except ConnectionFault as fault:
            self._give_all(_never)
            self._fail(fault)

    def _receive(self, data: bytes, late: Callable[[], bool]) -> None:
        tail, at = self._tail, 0
        if tail:
            self._tail = b""
            if len(data) > _LONG and len(tail) >= frames.HEADER_LENGTH and self._opened:
                at = frames.HEADER_LENGTH + (tail[0] << 16 | tail[1] << 8 | tail[2]) - len(tail)
            if at > 0:
                # What the cut frame lacks is joined with it, rather than all that came.
                self._take_frames(tail + data[:at], 0, late)
                if self._tail or self.behind:
                    self._tail += data[at:]
                    return
            else:
                # Or the frames that wait are whole, for their turn had not come.
                data, at = tail + data, 0
        self._take_frames(data, at, late)

    def _take_frames(self, data: bytes, at: int, late: Callable[[], bool]) -> None:
        """Cut frames from `data`, from `at` on, and act on them; what is no whole frame waits in `_tail`."""
        length = len(data)
        largest, find, gathered = self.limits.frames, self.streams.get, self._gathered
        if not self._opened:
            at = self._preface(data)
            if at < 0:
                return
        last = length - frames.HEADER_LENGTH
        view: memoryview | None = None
        left = _LOOK
        while at <= last:
            if left <= 0:
                if (gathered and not self._give_all(late)) or late():
                    self.behind = True
                    break
                left = _LOOK
            left -= 1
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size > largest:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {size} bytes, the limit is {largest}")
            begin = at + 9
            end = begin + size
            if end > length:
                break
            kind, flags = data[at + 3], data[at + 4]
            number = data[at + 5] << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
            at = end
            if self._straight:
                if not kind:
                    # The straight path of `_on_data`, for the frame that almost every frame is.
                    left -= size >> _DATA_SHIFT
                    if size and flags < frames.PADDED:
                        stream = find(number)
                        alone = size >= _SMALL or flags & 1
                        if alone and stream is not None and stream.fresh is not None:
                            self._give(stream)
                        if stream is not None and stream.receive == BODY and stream.expected < 0:
                            self._window -= size
                            stream.window -= size
                            short = self._window < self._unreturned or stream.window < stream.unreturned
                            if short and not self._replenish(stream, size):
                                continue
                            stream.held += size
                            if not alone:
                                if stream.fresh is None:
                                    stream.fresh = [data[begin:end]]
                                    gathered.append(stream)
                                else:
                                    stream.fresh.append(data[begin:end])
                                continue
                            left -= _DATA_COST
                            if flags & 1:
                                stream.receive = ENDED
                                if stream.send >= ENDED:
                                    self._retire(stream)
                                stream.owner.on_data(data[begin:end], True)  # type: ignore[union-attr]
                            elif size >= BULK:
                                if view is None:
                                    view = memoryview(data)
                                stream.owner.on_view(view[begin:end])  # type: ignore[union-attr]
                            else:
                                stream.owner.on_data(data[begin:end], False)  # type: ignore[union-attr]
                            continue
                elif kind == frames.HEADERS and flags | frames.END_STREAM == _WHOLE_END:
                    # The straight path of `_on_headers`: END_HEADERS without padding or priority.
                    left -= _HEAD_COST + (size >> _HEAD_SHIFT)
                    number &= frames.MAX_STREAM_ID
                    if number:
                        self.assembling_since = None
                        self._on_block(number, flags == _WHOLE_END, data[begin:end])
                        continue
            elif self.fault is not None:
                return
            number &= frames.MAX_STREAM_ID
            if self._block is not None and (kind != frames.CONTINUATION or number != self._block_head[0]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame within a header block")
            if not self.settled and kind != frames.SETTINGS:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if kind in _HEAD_KINDS:
                left -= _HEAD_COST + (size >> _HEAD_SHIFT)
            if gathered:
                self._give_all(_never)
            handler = self._handler(kind)
            if handler is not None:
                handler(self, flags, number, data[begin:end])
            elif not self._unknown.spend(self._now):
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of unknown frames")
        if not self.behind and gathered and not self._give_all(late):
            self.behind = True
        if at < length:
            self._tail = data[at:]
            begun = length - at > 3 and data[at + 3] == frames.HEADERS
            if begun and not self.behind and self.assembling_since is None:
                self.assembling_since = self._now

    def _give(self, stream: Stream) -> None:
        """Hand over what came last for a stream, unless it has ended meanwhile: its window is back then."""
        fresh, stream.fresh = stream.fresh, None
        if fresh is not None and stream.receive == BODY:
            payload = fresh[0] if len(fresh) == 1 else b"".join(fresh)
            stream.owner.on_data(payload, False)  # type: ignore[union-attr]

    def _give_all(self, late: Callable[[], bool]) -> bool:
        """Hand over what has been gathered. False where others had waited long enough before all of it was."""
        gathered = self._gathered
        for given, stream in enumerate(gathered, 1):
            self._give(stream)
            if given % _GIVEN == 0 and given < len(gathered) and late():
                del gathered[:given]
                return False
        gathered.clear()
        return True

    def _preface(self, data: bytes) -> int:
        """Where the first frame begins, -1 while the preface is incomplete."""
        preface = frames.PREFACE
        if data[: len(preface)] == preface:
            self._opened = True
            return len(preface)
        if preface.startswith(data):
            self._tail = data
            return -1
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 connection preface")

    # --- faults -------------------------------------------------------------------------------------------------

    def _fail(self, fault: ConnectionFault) -> None:
        # Its traceback would hold the bytes that were being looked at, and this connection.
        self.fault = fault.with_traceback(None)
        self.usable = self._straight = False
        last = 0 if self.is_client else min(self._highest, self._last_accepted)
        self._put(frames.goaway(last, fault.code, fault.reason.encode("ascii", "replace")[:256]))

    def _stream_fault(self, stream: Stream, fault: StreamFault) -> None:
        """End one stream for its peer's fault; what the peer leads us to reset counts as its reset."""
        if stream.fresh is not None:
            self._give(stream)
            if stream.receive == RESET:
                return
        self._spend_reset()
        self._put(frames.rst_stream(stream.id, fault.code))
        self._forget(stream)
        if stream.owner is not None:
            stream.owner.on_reset(fault.code, fault.reason)

    def _spend_reset(self) -> None:
        if not self._resets.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many resets")

    # --- frames of streams --------------------------------------------------------------------------------------

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        stream = self._known(number, "DATA")
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        if flags & frames.PADDED:
            payload = _unpad(payload, 0)
        end = bool(flags & frames.END_STREAM)
        if not payload and not end:
            # Some send one before the trailers of every answer: Node.js, and who defers END_STREAM in libnghttp2.
            if (stream is None or stream.empty) and not self._empties.spend(self._now):
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of empty DATA frames")
            if stream is not None:
                stream.empty = True
        if stream is None:
            self._return_connection(size)
            return
        after = RECEIVE[stream.receive].get(streams.DATA_END if end else streams.DATA)
        if after is None:
            self._return_connection(size)
            self._stream_fault(stream, StreamFault(fault_code(stream.receive), "DATA out of place"))
            return
        stream.window -= size
        if not self._replenish(stream, size):
            return
        stream.held += size
        if len(payload) != size:
            self.consume(stream, size - len(payload))
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (end and stream.expected):
                self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match"))
                return
        stream.receive = after
        self._retire(stream)
        stream.owner.on_data(payload, end)  # type: ignore[union-attr]

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        priority = 5 if flags & frames.PRIORITY_FLAG else 0
        if flags & frames.PADDED:
            payload = _unpad(payload, priority)
        if len(payload) < priority:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        payload = payload[priority:]
        if flags & frames.END_HEADERS:
            self.assembling_since = None
            self._on_block(number, bool(flags & frames.END_STREAM), payload)
            return
        self._block, self._block_head, self._block_size = [payload], (number, flags), len(payload)
        self._straight = False
        self.assembling_since = self._now

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_size += len(payload)
        # CVE-2024-27316 and its kin: the block is bounded in octets and in frames before it is decoded.
        if len(self._block) > self.limits.continuations + 1 or self._block_size > hard_limit(self.limits):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            block, (number, flags) = b"".join(self._block), self._block_head
            self._block = None
            self._straight = True
            self.assembling_since = None
            self._on_block(number, bool(flags & frames.END_STREAM), block)

    @abstractmethod
    def _handler(self, kind: int) -> Handler | None:
        """What takes frames of this type: flags, stream and payload."""

    @abstractmethod
    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        """A whole header block: a head or trailers, which the side of the connection tells apart."""

    def _on_trailers(self, stream: Stream, block: bytes, end: bool) -> None:
        """A block on a stream whose head is known."""
        trailers = self._blocks.trailers(block)
        if stream.fresh is not None:
            self._give(stream)
            if stream.receive == RESET:
                return
        after = RECEIVE[stream.receive].get(streams.HEADERS_END if end else streams.HEADERS)
        if after is None:
            self._stream_fault(stream, StreamFault(fault_code(stream.receive), "header block out of place"))
            return
        if trailers.fault is not None or trailers.oversize:
            self._stream_fault(stream, trailers.fault or StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "trailers too large"))
            return
        if stream.expected > 0:
            self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match"))
            return
        stream.receive = after
        self._retire(stream)
        stream.owner.on_trailers(trailers)  # type: ignore[union-attr]

    def _replenish(self, stream: Stream, size: int) -> bool:
        """Look to windows after `size` bytes of DATA came. False where they overran the stream's, which ends it."""
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        if stream.window < 0:
            self._return_connection(size)
            self._stream_fault(stream, StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun"))
            return False
        self._return_connection(0)
        self._return_stream(stream)
        return True

    def _known(self, number: int, kind: str, tolerant: bool = False) -> Stream | None:
        """The stream a frame is for; None when it is closed and the frame may be ignored.

        tolerant: RFC 9113 §5.1 lets this kind of frame arrive on any closed stream.
        """
        stream = self.streams.get(number)
        if stream is not None:
            return stream
        if self._idle(number):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{kind} on an idle stream")
        if not tolerant and number not in self._reset_set:
            self._spend_reset()
            self._put(frames.rst_stream(number, ErrorCode.STREAM_CLOSED))
        return None

    def _idle(self, number: int) -> bool:
        """Whether a stream was never opened; those of even number never are."""
        return number % 2 == 0 or number > self._highest


def _never() -> bool:
    return False


def _unpad(payload: bytes, least: int) -> bytes:
    """RFC 9113 §6.1, §6.2: the payload without padding, at least `least` bytes.

    Raises ConnectionFault for padding that leaves less, and for a frame without the padding's length.
    """
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without the padding's length")
    if payload[0] + least >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as its frame")
    return payload[1 : len(payload) - payload[0]]
