"""One HTTP/2 connection, either side, sans-I/O: `receive` bytes, act on owners, `take` bytes to send.

Time comes in as an argument and sockets, TLS and timers are the caller's. A connection never gives window back by
itself (padding and ignored frames apart): whoever takes a payload says when its bytes have left, by `consume`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from sidecar.relay.http2 import frames, streams
from sidecar.relay.http2.blocks import TABLE_SIZE_ZERO, HeaderBlocks, hard_limit
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode, StreamFault
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.limits import Budget, Limits
from sidecar.relay.http2.streams import AWAIT, BODY, ENDED, RECEIVE, RESET, Stream, StreamOwner, fault_code

_pack = frames.HEADER.pack
_unpack = frames.HEADER.unpack_from
_ROOM: Final = 256 << 10  # bytes of DATA put out between two flushes
_RESETS_REMEMBERED: Final = 1024
_DRAIN_PING: Final = b"\x00drain\x00\x00"


class Connection:
    """State shared by both sides; `ServerConnection` and `ClientConnection` say what a stream's first block is."""

    is_client: bool

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.slots = 0  # streams not yet released by their owners
        self.fault: ConnectionFault | None = None
        self.peer_goaway: int | None = None  # the last stream id the peer will process
        self.draining = False
        self.usable = True  # no fault and no GOAWAY, ours or theirs: new streams may be opened
        self.settled = False  # the peer's first SETTINGS came
        self.acknowledged = False  # the peer took our SETTINGS
        self.assembling_since: float | None = None  # when an unfinished header block began
        self.pongs = 0  # PING acknowledgements seen
        self.peer_streams = frames.MAX_STREAM_ID  # SETTINGS_MAX_CONCURRENT_STREAMS of the peer
        self._blocks = HeaderBlocks(limits)
        self._out: list[bytes] = []
        self.waiting = 0  # bytes of control frames in _out since the last take
        self.room = _ROOM
        self.send_window = frames.DEFAULT_WINDOW
        self._window = limits.connection_window
        self._unreturned = 0
        self._half_connection = limits.connection_window // 2
        self._half_stream = limits.stream_window // 2
        self._peer_initial = frames.DEFAULT_WINDOW
        self._peer_frame = frames.DEFAULT_FRAME
        self._highest = 0  # the highest stream id the peer opened, or we did
        self._last_accepted = frames.MAX_STREAM_ID
        self._tail = b""
        self._block: list[bytes] | None = None  # header block being assembled
        self._block_head = (0, 0)  # its stream and flags
        self._block_size = 0
        self._blocked: dict[Stream, None] = {}
        self._reset_ids: deque[int] = deque()
        self._reset_set: set[int] = set()
        self._prefix = TABLE_SIZE_ZERO
        self._now = 0.0
        self._resets = Budget(limits.resets)
        self._pings = Budget(limits.pings)
        self._settings = Budget(limits.settings)
        self._priorities = Budget(limits.priorities)
        self._empties = Budget(limits.empty_data)
        self._unknown = Budget(limits.unknown)
        self._updates = Budget(limits.window_updates)
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_headers,
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_rst_stream,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.CONTINUATION: self._on_continuation,
        }

    # --- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer. A fault ends in GOAWAY in what `take` gives, and in `fault`.

        now: seconds on a clock that does not go back.
        """
        if self.fault is not None:
            return
        self._now = now
        try:
            self._receive(data)
            if self.waiting > self.limits.output:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "peer causes answers and does not read them")
        except ConnectionFault as fault:
            self._fail(fault)

    def _receive(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
            self._tail = b""
        at, length = 0, len(data)
        unpack, largest, find = _unpack, self.limits.frames, self.streams.get
        if not self.is_client and self._highest == 0 and not self.settled:
            at = self._preface(data)
            if at < 0:
                return
        while length - at >= 9:
            high, low, kind, flags, number = unpack(data, at)
            size = (high << 8) | low
            if size > largest:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"frame of {size} bytes, the limit is {largest}")
            begin = at + 9
            end = begin + size
            if end > length:
                break
            at = end
            if kind == 0 and size and not flags & 8 and self._block is None:
                stream = find(number)
                if stream is not None and stream.receive == BODY and stream.expected < 0:
                    # The straight path of `_on_data`, for the frame that almost every frame is.
                    self._window -= size
                    stream.window -= size
                    if self._window < 0 or stream.window < 0:
                        self._window_fault(stream)
                        continue
                    stream.held += size
                    if flags & 1:
                        stream.receive = ENDED
                        if stream.send >= ENDED:
                            self._retire(stream)
                        stream.owner.on_data(data[begin:end], True)  # type: ignore[union-attr]
                    else:
                        stream.owner.on_data(data[begin:end], False)  # type: ignore[union-attr]
                    if self.fault is not None:
                        return
                    continue
            elif kind == 1 and flags & 0x2C == 4 and self._block is None and self.settled:
                # END_HEADERS without padding or priority: the straight path of `_on_headers`.
                number &= frames.MAX_STREAM_ID
                if number:
                    self._on_block(number, flags & 1 == 1, data[begin:end])
                    if self.fault is not None:
                        return
                    continue
            number &= frames.MAX_STREAM_ID
            if self._block is not None and (kind != frames.CONTINUATION or number != self._block_head[0]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame within a header block")
            if not self.settled and kind != frames.SETTINGS:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(flags, number, data[begin:end])
            elif not self._unknown.spend(self._now):
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of unknown frames")
            if self.fault is not None:
                return
        if at < length:
            self._tail = data[at:]

    def _preface(self, data: bytes) -> int:
        """Where the first frame begins, -1 while the preface is incomplete."""
        preface = frames.PREFACE
        if data[: len(preface)] == preface:
            if len(data) < len(preface) + frames.HEADER_LENGTH:
                self._tail = data
                return -1
            return len(preface)
        if preface.startswith(data):
            self._tail = data
            return -1
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 connection preface")

    def _fail(self, fault: ConnectionFault) -> None:
        self.fault = fault
        self.usable = False
        last = 0 if self.is_client else min(self._highest, self._last_accepted)
        self._put(frames.goaway(last, fault.code, fault.reason.encode("ascii", "replace")[:256]))

    def _window_fault(self, stream: Stream) -> None:
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        self._stream_fault(stream, StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun"))

    def _stream_fault(self, stream: Stream, fault: StreamFault) -> None:
        """End one stream for its peer's fault; what the peer leads us to reset counts as its reset."""
        self._spend_reset()
        self._put(frames.rst_stream(stream.id, fault.code))
        self._forget(stream)
        if stream.owner is not None:
            stream.owner.on_reset(fault.code, fault.reason)

    def _spend_reset(self) -> None:
        if not self._resets.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many resets")

    # --- frames -------------------------------------------------------------------------------------------------

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        stream = self._known(number, "DATA")
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        if flags & frames.PADDED:
            payload = _unpad(payload)
        end = bool(flags & frames.END_STREAM)
        if not payload and not end and not self._empties.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of empty DATA frames")
        if stream is None:
            self._return_connection(size)
            return
        entry = RECEIVE[stream.receive].get(streams.DATA_END if end else streams.DATA)
        if entry is None:
            self._return_connection(size)
            self._stream_fault(stream, StreamFault(fault_code(stream.receive), "DATA out of place"))
            return
        stream.window -= size
        if stream.window < 0:
            self._return_connection(size)
            self._window_fault(stream)
            return
        stream.held += size
        if len(payload) != size:
            self.consume(stream, size - len(payload))
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (end and stream.expected):
                self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match"))
                return
        stream.receive = entry[1]
        self._retire(stream)
        stream.owner.on_data(payload, end)  # type: ignore[union-attr]

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & frames.PADDED:
            payload = _unpad(payload)
        if flags & frames.PRIORITY_FLAG:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(number, bool(flags & frames.END_STREAM), payload)
            return
        self._block, self._block_head, self._block_size = [payload], (number, flags), len(payload)
        self.assembling_since = self._now

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_size += len(payload)
        # CVE-2024-27316 and its kin: the block is bounded in octets and in frames before it is decoded.
        if len(self._block) > self.limits.continuations or self._block_size > hard_limit(self.limits):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            block, (number, flags) = b"".join(self._block), self._block_head
            self._block = None
            self.assembling_since = None
            self._on_block(number, bool(flags & frames.END_STREAM), block)

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        raise NotImplementedError

    def _on_trailers(self, stream: Stream, block: bytes, end: bool) -> None:
        """A block on a stream whose head is known."""
        trailers = self._blocks.trailers(block)
        entry = RECEIVE[stream.receive].get(streams.HEADERS_END if end else streams.HEADERS)
        if entry is None:
            self._stream_fault(stream, StreamFault(fault_code(stream.receive), "header block out of place"))
            return
        if entry[0] == streams.IGNORE:
            return
        if trailers.fault is not None or trailers.oversize:
            self._stream_fault(
                stream, trailers.fault or StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "trailers too large")
            )
            return
        if stream.expected > 0:
            self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match"))
            return
        stream.receive = entry[1]
        self._retire(stream)
        stream.owner.on_trailers(trailers)  # type: ignore[union-attr]

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes")
        if not self._priorities.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of PRIORITY frames")

    def _on_rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes")
        if not self.is_client:
            self._spend_reset()
        stream = self._known(number, "RST_STREAM", tolerant=True)
        if stream is None:
            return
        self._forget(stream)
        if stream.owner is not None:
            code = frames.U32.unpack(payload)[0]
            if code == ErrorCode.REFUSED_STREAM:
                stream.owner.on_refused()
            else:
                stream.owner.on_reset(code, "")

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            if not self.settled:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.acknowledged = True
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
        if not self._settings.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of SETTINGS frames")
        self.settled = True
        for key, value in frames.SETTING.iter_unpack(payload):
            self._apply(key, value)
        self._put(frames.SETTINGS_ACK)
        if self._blocked:
            self.pump()

    def _apply(self, key: int, value: int) -> None:
        """One setting of the peer's (RFC 9113 §6.5.2); unknown ones are ignored."""
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE beyond 2^31-1")
            delta = value - self._peer_initial
            self._peer_initial = value
            for stream in self.streams.values():
                stream.send_window += delta
                if stream.send_window > frames.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
            # Frames above the default win nothing here and would let one stream keep others waiting.
            self._peer_frame = min(value, 4 * frames.DEFAULT_FRAME)
        elif key == frames.ENABLE_PUSH:
            if value > 1 or (self.is_client and value):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH out of range")
        elif key == frames.MAX_CONCURRENT_STREAMS:
            self.peer_streams = value

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which is disabled")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes")
        if flags & frames.ACK:
            self.pongs += 1
            if payload == _DRAIN_PING and self.draining and not self.is_client:
                self._last_accepted = min(self._last_accepted, self._highest)
                self._put(frames.goaway(self._last_accepted, ErrorCode.NO_ERROR))
            return
        if not self._pings.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of PING frames")
        self._put(frames.ping(payload, True))

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
        last = frames.GOAWAY_HEAD.unpack_from(payload)[0] & frames.MAX_STREAM_ID
        if self.peer_goaway is not None and last > self.peer_goaway:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY raises its last stream id")
        self.peer_goaway = last
        self.usable = False
        if not self.is_client:
            return
        for stream in [stream for number, stream in self.streams.items() if number > last]:
            self._forget(stream)
            if stream.owner is not None:
                stream.owner.on_refused()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes")
        if not self._updates.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of WINDOW_UPDATE frames")
        increment = frames.U32.unpack(payload)[0] & frames.MAX_WINDOW
        if number == 0:
            self.send_window += increment
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            if self.send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window beyond 2^31-1")
            if self._blocked:
                self.pump()
            return
        stream = self._known(number, "WINDOW_UPDATE", tolerant=True)
        if stream is None:
            return
        if not increment:
            self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0"))
            return
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            self._stream_fault(stream, StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window beyond 2^31-1"))
        elif stream.queue is not None:
            self.pump()

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
        return number == 0 or number % 2 == 0 or number > self._highest

    # --- bytes out ----------------------------------------------------------------------------------------------

    def take(self) -> list[bytes]:
        """The bytes to send, in pieces, and room for as much again. Call only while the transport takes bytes."""
        out = self._out
        self._out = []
        self.waiting = 0
        self.room = _ROOM
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

    def send_preface(self) -> None:
        """Open the connection: the preface (client), SETTINGS, and the connection's window."""
        limits = self.limits
        values = [(frames.INITIAL_WINDOW_SIZE, limits.stream_window), (frames.MAX_HEADER_LIST_SIZE, limits.header_list)]
        if self.is_client:
            self._put(frames.PREFACE)
            values.append((frames.ENABLE_PUSH, 0))
        else:
            values.append((frames.MAX_CONCURRENT_STREAMS, limits.concurrent_streams))
        if limits.frames != frames.DEFAULT_FRAME:
            values.append((frames.MAX_FRAME_SIZE, limits.frames))
        self._put(frames.settings(values))
        if limits.connection_window > frames.DEFAULT_WINDOW:
            self._put(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

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
        if size <= frames.DEFAULT_FRAME:
            self._out.append(_pack(size >> 8, size & 0xFF, 1, 5 if end else 4, stream.id) + block)
        else:
            self._out.append(frames.header_frames(stream.id, block, end, self._peer_frame))
        if end:
            stream.send = ENDED
            if stream.receive >= ENDED:
                self._retire(stream)
        else:
            stream.send = BODY

    def send_informational(self, stream: Stream, block: bytes) -> None:
        if stream.send == AWAIT:
            self._put(frames.header_frames(stream.id, self._prefix + block, False, self._peer_frame))
            self._prefix = b""

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
            head = _pack(size >> 8, size & 0xFF, 0, 1 if end else 0, stream.id)
            if size < 4096:
                self._out.append(head + payload)
            else:
                self._out.append(head)
                self._out.append(payload)
            if end:
                stream.send = ENDED
                if stream.receive >= ENDED:
                    self._retire(stream)
            return True
        return self._send_later(stream, payload, end)

    def _send_later(self, stream: Stream, payload: bytes, end: bool) -> bool:
        if stream.send >= ENDED:
            return True
        if stream.queue is None:
            stream.queue = deque()
            self._blocked[stream] = None
        stream.queue.append((payload, end))
        stream.queued += len(payload)
        if end:
            stream.send = ENDED
        self.pump()
        return False

    def pump(self) -> None:
        """Send what windows and room allow of waiting DATA, a frame a stream in turn."""
        progress = True
        while progress and self._blocked and self.room > 0:
            progress = False
            for stream in list(self._blocked):
                if stream not in self._blocked:
                    continue  # an owner, told of progress, reset it
                if self._pump_frame(stream):
                    progress = True
                if self.room <= 0:
                    # Whoever had its turn goes last, so that a short room does not favour the first.
                    if stream in self._blocked:
                        del self._blocked[stream]
                        self._blocked[stream] = None
                    break

    def _pump_frame(self, stream: Stream) -> bool:
        """Send one frame of a stream's queue; False when it cannot move."""
        queue = stream.queue
        assert queue is not None
        payload, end = queue[0]
        size = len(payload)
        count = min(size, stream.send_window, self.send_window, self.room, self._peer_frame)
        if count <= 0 and size:
            return False
        if count < size:
            piece, rest = payload[:count], payload[count:] if size < 65536 else memoryview(payload)[count:]
            queue[0] = (rest, end)  # type: ignore[assignment]
            end = False
        else:
            piece = payload
            queue.popleft()
        stream.queued -= count
        stream.send_window -= count
        self.send_window -= count
        self.room -= count
        self._out.append(_pack(count >> 8, count & 0xFF, 0, 1 if end else 0, stream.id))
        self._out.append(piece)
        if not queue:
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
        return True

    def consume(self, stream: Stream, count: int) -> None:
        """Give back window for `count` bytes of a stream's DATA that have left or been dropped."""
        stream.held -= count
        self._unreturned += count
        if self._unreturned >= self._half_connection:
            self._return_connection(0)
        if stream.receive == BODY:
            stream.unreturned += count
            if stream.unreturned >= self._half_stream:
                self._put(frames.window_update(stream.id, stream.unreturned))
                stream.window += stream.unreturned
                stream.unreturned = 0

    def _return_connection(self, count: int) -> None:
        self._unreturned += count
        if self._unreturned >= self._half_connection:
            self._put(frames.window_update(0, self._unreturned))
            self._window += self._unreturned
            self._unreturned = 0

    def reset(self, stream: Stream, code: int, blame: bool = False) -> None:
        """End a stream by RST_STREAM; what waits to be sent is dropped. blame: the peer led us to it."""
        if self.streams.get(stream.id) is not stream:
            return
        self._put(frames.rst_stream(stream.id, code))
        self._forget(stream)
        if blame and not self._resets.spend(self._now) and self.fault is None:
            self._fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many resets"))

    def release(self, stream: Stream) -> None:
        """The owner is done with a stream: its slot is free and window it still holds is given back."""
        if stream.released:
            return
        stream.released = True
        self.slots -= 1
        if stream.held:
            self._return_connection(stream.held)
            stream.held = 0

    def send_ping(self, opaque: bytes) -> None:
        self._put(frames.ping(opaque, False))

    def drain(self) -> None:
        """RFC 9113 §6.8: GOAWAY that refuses nothing yet, then, a round trip later, the last stream taken."""
        if not self.draining and self.fault is None:
            self.draining = True
            self.usable = False
            self._put(frames.goaway(0 if self.is_client else frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
            self._put(frames.ping(_DRAIN_PING, False))

    def abort(self, code: ErrorCode, reason: str) -> None:
        """End the connection at once with GOAWAY; the caller flushes, closes and calls `lost`."""
        if self.fault is None:
            self._fail(ConnectionFault(code, reason))

    def lost(self, reason: str) -> None:
        """The transport is gone: every stream ends."""
        left = list(self.streams.values())
        self.streams.clear()
        self._blocked.clear()
        for stream in left:
            stream.receive = stream.send = RESET
            stream.queue = None
            if stream.owner is not None:
                stream.owner.on_reset(ErrorCode.CANCEL, reason)

    # --- life of a stream ---------------------------------------------------------------------------------------

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
        self._reset_set.add(number)
        self._reset_ids.append(number)
        if len(self._reset_ids) > _RESETS_REMEMBERED:
            self._reset_set.discard(self._reset_ids.popleft())


class ServerConnection(Connection):
    """The side that clients connect to."""

    is_client = False

    def __init__(
        self, limits: Limits, accept: Callable[[Stream, RequestHead, bool], None], malformed: Callable[[str], None]
    ) -> None:
        """accept: given each new stream, its head and whether it has ended; it sets the stream's owner.

        malformed: told why a request was reset that nobody came to own.
        """
        super().__init__(limits)
        self._accept = accept
        self._malformed = malformed

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            self._on_trailers(stream, block, end)
            return
        if number % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream of even number")
        if number <= self._highest:
            self._blocks.trailers(block)  # the table must follow even blocks nobody reads
            if number in self._reset_set:
                return
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        head = self._blocks.request(block)
        self._highest = number
        if number > self._last_accepted:
            self._put(frames.rst_stream(number, ErrorCode.REFUSED_STREAM))
            self._remember_reset(number)
            return
        if self.slots >= self.limits.concurrent_streams:
            self._spend_reset()
            self._put(frames.rst_stream(number, ErrorCode.REFUSED_STREAM))
            self._remember_reset(number)
            return
        stream = Stream(number, self._peer_initial, self.limits.stream_window)
        stream.receive = ENDED if end else BODY
        self.streams[number] = stream
        try:
            if head.fault is not None:
                raise head.fault
            if head.length > 0 and end:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match")
            stream.expected = head.length
        except StreamFault as fault:
            self._stream_fault(stream, fault)
            self._malformed(fault.reason)
            return
        self.slots += 1
        self._accept(stream, head, end)


class ClientConnection(Connection):
    """The side that opens streams: towards the model server."""

    is_client = True

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._next = 1

    @property
    def can_open(self) -> bool:
        """Whether `open` may be called now."""
        return self.slots < self.peer_streams and self.usable

    def open(self, owner: StreamOwner, block: bytes, end: bool) -> Stream:
        """Open a stream with its head. Only while `can_open`."""
        stream = Stream(self._next, self._peer_initial, self.limits.stream_window)
        stream.owner = owner
        self._highest = self._next
        self._next += 2
        if self._next > frames.MAX_STREAM_ID:
            self.usable = False
        self.streams[stream.id] = stream
        self.slots += 1
        self.send_head(stream, block, end)
        return stream

    def _on_block(self, number: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None:
            if self._idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on an idle stream")
            self._blocks.trailers(block)
            if number not in self._reset_set:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
            return
        if stream.receive != AWAIT:
            self._on_trailers(stream, block, end)
            return
        head = self._blocks.response(block)
        if head.fault is not None or head.oversize:
            self._stream_fault(
                stream, head.fault or StreamFault(ErrorCode.ENHANCE_YOUR_CALM, "response headers too large")
            )
            return
        self._on_response(stream, head, end)

    def _on_response(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        kind = streams.INFORMATIONAL if head.status < 200 else streams.HEADERS_END if end else streams.HEADERS
        if kind == streams.INFORMATIONAL and end:
            self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "informational response ends the stream"))
            return
        stream.receive = RECEIVE[AWAIT][kind][1]
        if kind != streams.INFORMATIONAL:
            if head.length > 0 and end:
                self._stream_fault(stream, StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length does not match"))
                return
            stream.expected = head.length
        self._retire(stream)
        stream.owner.on_head(head, end)  # type: ignore[union-attr]


def _unpad(payload: bytes) -> bytes:
    """RFC 9113 §6.1: the payload without padding. Raises ConnectionFault when the padding is all of it."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as its frame")
    return payload[1 : len(payload) - payload[0]]


__all__ = ["ClientConnection", "Connection", "ServerConnection", "TrailerBlock"]
