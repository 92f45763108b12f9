"""The frames by which two ends of a connection steer each other: settings, windows, resets, pings, going away."""

from __future__ import annotations

from typing import Final

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import TABLE_SIZE_ZERO
from sidecar.relay.http2.errors import ConnectionFault, ErrorCode, StreamFault
from sidecar.relay.http2.inbound import Handler, Inbound
from sidecar.relay.http2.limits import Budget, Limits

_DRAIN_PINGS: Final = (b"\x00drain\x001", b"\x00drain\x002")
_SETTINGS_MOST: Final = 32  # in one frame, as in nghttp2: there are six
_LARGEST_SENT: Final = 4 * frames.DEFAULT_FRAME  # bytes: longer frames would let one stream keep others waiting


class Signals(Inbound):
    """Connection control, both ways. What costs an answer or a walk over streams has a budget."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.peer_goaway: int | None = None  # the last stream id the peer will process
        self.draining = False
        self._farewell: int = ErrorCode.NO_ERROR  # why a drain was begun
        self.acknowledged = False  # the peer took our SETTINGS
        self.pongs = 0  # answers to our PINGs
        self.peer_streams = frames.MAX_STREAM_ID  # SETTINGS_MAX_CONCURRENT_STREAMS of the peer
        self._peer_table = frames.DEFAULT_TABLE
        self._unanswered = 0  # PINGs of ours
        self._granted = frames.DEFAULT_WINDOW  # the sum of the connection's window, ever
        self._ping_mark = -1  # bytes of DATA we had sent when the last PING came
        self._pings = Budget(limits.pings)
        self._settings = Budget(limits.settings)
        self._priorities = Budget(limits.priorities)
        self._updates = Budget(limits.window_updates)

    # --- SETTINGS -----------------------------------------------------------------------------------------------

    def send_preface(self) -> None:
        """Open the connection: the preface (client), SETTINGS, and the connection's window."""
        limits = self.limits
        values = [(frames.INITIAL_WINDOW_SIZE, self._first), (frames.MAX_HEADER_LIST_SIZE, limits.header_list)]
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

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            self._on_settings_ack(payload)
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
        if len(payload) > 6 * _SETTINGS_MOST or not self._settings.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of SETTINGS")
        if not self.settled:
            self.settled = self._straight = True
        for key, value in frames.SETTING.iter_unpack(payload):
            self._apply(key, value)
        self._put(frames.SETTINGS_ACK)
        if self._blocked:
            self.pump()

    def _on_settings_ack(self, payload: bytes) -> None:
        if payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
        if not self.settled:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        # We send SETTINGS once: what is acknowledged beyond that is noise.
        if self.acknowledged and not self._settings.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of SETTINGS")
        self.acknowledged = True

    def _apply(self, key: int, value: int) -> None:
        """One setting of the peer's (RFC 9113 §6.5.2); unknown ones are ignored."""
        if key == frames.INITIAL_WINDOW_SIZE:
            self._resize_windows(value)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
            self._peer_frame = min(value, _LARGEST_SENT)
        elif key == frames.ENABLE_PUSH:
            if value > 1 or (self.is_client and value):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH out of range")
        elif key == frames.MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif key == frames.HEADER_TABLE_SIZE:
            if value < self._peer_table:
                # RFC 9113 §4.3.1: the block after a reduction says that it is heeded.
                self._prefix = TABLE_SIZE_ZERO
            self._peer_table = value

    def _resize_windows(self, value: int) -> None:
        """RFC 9113 §6.9.2: every stream's window moves with the initial one, below zero too."""
        if value > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE beyond 2^31-1")
        delta = value - self._peer_initial
        if not delta:
            return
        self._peer_initial = value
        for stream in self.streams.values():
            stream.send_window += delta
            if stream.send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")
            if stream.queue is not None:
                self._unblock(stream)

    # --- windows and resets -------------------------------------------------------------------------------------

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes")
        self._spend_update()
        increment = frames.U32.unpack(payload)[0] & frames.MAX_WINDOW
        if number == 0:
            self._on_connection_window(increment)
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
            self._unblock(stream)
            self.pump()

    def _on_connection_window(self, increment: int) -> None:
        if not increment:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._granted += increment
        self.send_window += increment
        if self.send_window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window beyond 2^31-1")
        if self._blocked:
            self.pump()

    def _spend_update(self) -> None:
        if not self._updates.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of WINDOW_UPDATE frames")

    def _on_rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes")
        if number % 2 and number > self._highest:
            self._on_idle_reset(number)
            return
        stream = self._known(number, "RST_STREAM", tolerant=True)
        if stream is None:
            # It crossed our own end of the stream, which was answered or whose fault was counted: no work is lost.
            self._spend_update()
            return
        if not self.is_client:
            self._spend_reset()
        self._forget(stream)
        if stream.owner is not None:
            code = frames.U32.unpack(payload)[0]
            if code == ErrorCode.REFUSED_STREAM:
                stream.owner.on_refused()
            else:
                stream.owner.on_reset(code, "")

    def _on_idle_reset(self, number: int) -> None:
        """RST_STREAM of a stream that was never opened."""
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")

    # --- PING ---------------------------------------------------------------------------------------------------

    def send_ping(self, opaque: bytes) -> None:
        """opaque: 8 bytes. Its answer counts in `pongs`."""
        self._unanswered += 1
        self._put(frames.ping(opaque, False))

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes")
        if flags & frames.ACK:
            self._on_pong(payload)
            return
        # gRPC's transports measure the path by a PING for each DATA that reaches them, thousands a second on a fast
        # one: a PING is paid for only when nothing has gone to the peer since its last.
        sent = self._granted - self.send_window
        if sent == self._ping_mark:
            self._spend_ping()
        self._ping_mark = sent
        self._put(frames.ping(payload, True))

    def _on_pong(self, payload: bytes) -> None:
        if not self._unanswered:
            self._spend_ping()
            return
        self._unanswered -= 1
        self.pongs += 1
        if not self.draining or self._last_accepted != frames.MAX_STREAM_ID:
            return
        if payload == _DRAIN_PINGS[0]:
            self.send_ping(_DRAIN_PINGS[1])
        elif payload == _DRAIN_PINGS[1]:
            self.name_last()

    def _spend_ping(self) -> None:
        if not self._pings.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of PING frames")

    # --- going away ---------------------------------------------------------------------------------------------

    def drain(self, code: int = ErrorCode.NO_ERROR) -> None:
        """RFC 9113 §6.8: GOAWAY that refuses nothing yet, then, two round trips later, the last stream taken.

        One would do, but for gRPC's C core: it writes the answers to PINGs before the heads of streams that it had
        opened when the GOAWAY came, so that only its second answer is surely behind all of them.
        """
        if self.draining or self.fault is not None:
            return
        self.draining = True
        self.usable = False
        if self.is_client:
            self._put(frames.goaway(0, ErrorCode.NO_ERROR))
        else:
            self._farewell = code
            self._put(frames.goaway(frames.MAX_STREAM_ID, code))
            self.send_ping(_DRAIN_PINGS[0])

    def name_last(self) -> None:
        """The last GOAWAY of a server's drain: what comes after the streams taken so far is not processed."""
        if self._last_accepted == frames.MAX_STREAM_ID and self.fault is None:
            self._last_accepted = self._highest
            self._put(frames.goaway(self._last_accepted, self._farewell))

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
        if not self._unknown.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of GOAWAY frames")
        last = frames.GOAWAY_HEAD.unpack_from(payload)[0] & frames.MAX_STREAM_ID
        if self.peer_goaway is not None and last > self.peer_goaway:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY raises its last stream id")
        self.peer_goaway = last
        self.usable = False
        if not self.is_client:
            return
        for stream in [stream for number, stream in self.streams.items() if number > last]:
            if self.streams.get(stream.id) is stream:
                self._forget(stream)
                if stream.owner is not None:
                    stream.owner.on_refused()

    # --- what is not taken --------------------------------------------------------------------------------------

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        """RFC 9113 §5.3.2: ignored. A wrong length ends the connection, so that no stream is reset by it."""
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes")
        if not self._priorities.spend(self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "flood of PRIORITY frames")

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which is disabled")

    def _handler(self, kind: int) -> Handler | None:
        return _HANDLERS.get(kind)


_HANDLERS: Final[dict[int, Handler]] = {
    frames.DATA: Signals._on_data,
    frames.HEADERS: Signals._on_headers,
    frames.PRIORITY: Signals._on_priority,
    frames.RST_STREAM: Signals._on_rst_stream,
    frames.SETTINGS: Signals._on_settings,
    frames.PUSH_PROMISE: Signals._on_push_promise,
    frames.PING: Signals._on_ping,
    frames.GOAWAY: Signals._on_goaway,
    frames.WINDOW_UPDATE: Signals._on_window_update,
    frames.CONTINUATION: Signals._on_continuation,
}
