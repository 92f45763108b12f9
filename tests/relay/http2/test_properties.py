"""Properties of a connection: however bytes are cut, whatever frames come, and whichever windows are open."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.limits import Limits
from tests.relay.http2.ends import (
    GENEROUS,
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    ClientEnd,
    Frame,
    ServerEnd,
    continuation,
    data,
    frame,
    headers,
    limits,
    parse,
    priority,
    rst,
)
from tests.relay.http2.lively import LivelyServer, assert_alike, in_order, lively

# --- frames, sane and not -----------------------------------------------------------------------------------------

_numbers = st.sampled_from([1, 3, 5, 7]) | st.integers(0, 12)
_payloads = st.binary(max_size=40) | st.integers(0, 16_384).map(bytes)
_blocks = st.sampled_from([
    encode(REQUEST), encode(RESPONSE), encode(TRAILERS), encode((*REQUEST, (b"content-length", b"5"))), b"\xbe", b"",
    b"\x40\x01a\x01b", encode(((b":status", b"103"),)), encode(REQUEST) + b"\x40\x01x\x05vvvvv",
]) | st.binary(max_size=30)  # fmt: skip


def frame_sequences(goaway: bool = True, known_elsewhere: bool = True) -> st.SearchStrategy[list[bytes]]:
    """Frames of every kind, with GOAWAY, and with kinds and settings that extensions have given a meaning."""
    kinds = [
        st.builds(lambda n, b, e: headers(n, block=b, end=e), _numbers, _blocks, st.booleans()),
        st.builds(lambda n, b, e, at: headers(n, block=b[:at], end=e, flags=0) + continuation(n, b[at:]),
                  _numbers, _blocks, st.booleans(), st.integers(0, 20)),
        st.builds(lambda n, p, e, pad: data(n, p[:16_000], e, pad), _numbers, _payloads, st.booleans(),
                  st.none() | st.integers(0, 255)),
        st.builds(rst, _numbers, st.integers(0, 20)),
        st.builds(priority, _numbers, st.integers(0, 9)),
        st.builds(frames.window_update, _numbers, st.sampled_from([0, 1, 100, 70_000, frames.MAX_WINDOW])),
        st.builds(lambda values: frames.settings(values), st.lists(st.tuples(
            st.integers(0, 9 if known_elsewhere else 6),
            st.sampled_from([0, 1, 100, 16_384, 65_535, 100_000, frames.MAX_WINDOW])), max_size=4)),
        st.just(frames.SETTINGS_ACK),
        st.builds(frames.ping, st.binary(min_size=8, max_size=8), st.booleans()),
        st.builds(frame, st.integers(0 if known_elsewhere else 0x20, 255), st.integers(0, 255),
                  st.integers(0, 0xFFFFFFFF), st.binary(max_size=20)),
    ]  # fmt: skip
    if goaway:
        kinds.append(st.builds(frames.goaway, st.integers(0, 9), st.integers(0, 20), st.binary(max_size=9)))
    return st.lists(st.one_of(kinds), max_size=25)


_sequences = frame_sequences()


@settings(max_examples=300, deadline=None)
@given(_sequences, st.booleans(), st.data())
def test_however_bytes_are_cut_the_same_happens(sequence: list[bytes], client: bool, draw: st.DataObject) -> None:
    octets = b"".join(sequence)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(octets)), max_size=12)))
    whole, pieces = lively(client), lively(client)
    whole.connection.receive(octets, 0.0)
    for begin, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        pieces.connection.receive(octets[begin:end], 0.0)
    assert_alike(whole, pieces)


@settings(max_examples=60, deadline=None)
@given(_sequences.map(lambda found: b"".join(found[:6])).filter(lambda octets: len(octets) < 2000), st.booleans())
def test_byte_by_byte_the_same_happens(octets: bytes, client: bool) -> None:
    whole, pieces = lively(client), lively(client)
    whole.connection.receive(octets, 0.0)
    for at in range(len(octets)):
        pieces.connection.receive(octets[at : at + 1], 0.0)
    assert_alike(whole, pieces)


@settings(max_examples=500, deadline=None)
@given(_sequences, st.booleans(), st.sampled_from([GENEROUS, Limits()]))
def test_any_frames_end_in_order_or_in_one_fault(sequence: list[bytes], client: bool, given_limits: Limits) -> None:
    end = lively(client, given_limits)
    end.sent()
    for octets in sequence:
        end.connection.receive(octets, 0.0)
    in_order(end)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_garbage_ends_in_order_or_in_one_fault(octets: bytes, client: bool, begun: bool) -> None:
    end = lively(client) if begun else ClientEnd(settled=False) if client else ServerEnd(settled=False)
    end.sent()
    end.connection.receive(octets, 0.0)
    if end.connection.fault is not None:
        assert end.sent()[-1].kind == "GOAWAY"


@settings(max_examples=200, deadline=None)
@given(_sequences, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_bent_frames_end_in_order_or_in_one_fault(sequence: list[bytes], bends: list[tuple[int, int]]) -> None:
    octets = bytearray(PREFACE + b"".join(sequence))
    for at, octet in bends:
        octets[at % len(octets)] = octet
    end = LivelyServer(GENEROUS, settled=False)
    end.sent()
    end.connection.receive(bytes(octets), 0.0)
    in_order(end)


# --- sending ------------------------------------------------------------------------------------------------------

_STREAMS = (1, 3, 5)
_actions = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.sampled_from(_STREAMS), st.integers(0, 5000) | st.integers(0, 90_000)),
        st.tuples(st.just("end"), st.sampled_from(_STREAMS), st.integers(0, 100)),
        st.tuples(st.just("trailers"), st.sampled_from(_STREAMS), st.just(0)),
        st.tuples(st.just("window"), st.sampled_from((0, *_STREAMS)), st.integers(1, 40_000)),
        st.tuples(st.just("initial"), st.just(0), st.sampled_from([0, 1, 1000, 16_384, 65_535, 100_000])),
        st.tuples(st.just("reset"), st.sampled_from(_STREAMS), st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.sampled_from([1, 100, 5000, 300_000])),
        st.tuples(st.just("pause"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class _Peer:
    """A peer that keeps its own account of what it allowed, and of what each stream was given to send."""

    def __init__(self) -> None:
        self.end = ServerEnd(GENEROUS)
        self.end.feed(*(headers(number) for number in _STREAMS))
        self.window = frames.DEFAULT_WINDOW
        self.initial = frames.DEFAULT_WINDOW
        self.windows = dict.fromkeys(_STREAMS, frames.DEFAULT_WINDOW)
        self.given: dict[int, bytearray] = defaultdict(bytearray)
        self.got: dict[int, bytearray] = defaultdict(bytearray)
        self.closing: dict[int, str] = {}  # how a stream was told to end
        self.ended: dict[int, str] = {}  # how it did
        self.counter = 0

    def act(self, action: tuple[str, int, int]) -> None:
        name, number, size = action
        connection = self.end.connection
        stream = connection.streams.get(number)
        if name == "window":
            if self.windows.get(number, self.window) + size <= frames.MAX_WINDOW:
                if number == 0:
                    self.window += size
                else:
                    self.windows[number] += size
                connection.receive(frames.window_update(number, size), 0.0)
        elif name == "initial":
            self.read()  # what was sent before this is known was within the windows of then
            self.windows = {number: window + size - self.initial for number, window in self.windows.items()}
            self.initial = size
            connection.receive(frames.settings([(frames.INITIAL_WINDOW_SIZE, size)]), 0.0)
        elif name == "flush":
            connection.room = size
            connection.pump()
            self.read()
        elif name == "pause":
            connection.room = 0
        elif stream is None or number in self.closing:
            return
        elif name == "reset":
            connection.reset(stream, ErrorCode.CANCEL)
            self.closing[number] = "reset"
        elif name == "trailers":
            connection.send_head(stream, encode(TRAILERS), True)
            self.closing[number] = "trailers"
        else:
            payload = bytes((self.counter + at) & 0xFF for at in range(size)) if size < 300 else bytes(size)
            self.counter += 1
            self.given[number] += payload
            left = connection.send_data(stream, payload, name == "end")
            assert left or stream.queue is not None or payload
            if name == "end":
                self.closing[number] = "end"

    def read(self) -> None:
        for found in parse(b"".join(self.end.connection.take())):
            if found.stream == 0:
                continue
            assert found.stream not in self.ended, "a frame after the end"
            if found.kind == "RST_STREAM":
                self.ended[found.stream] = "reset"
            elif found.kind == "HEADERS":
                assert self.got[found.stream] == self.given[found.stream], "trailers overtook DATA"
                self.ended[found.stream] = "trailers"
            elif found.kind == "DATA":
                self._data(found)

    def _data(self, found: Frame) -> None:
        size = len(found.payload)
        assert size <= frames.DEFAULT_FRAME
        self.window -= size
        self.windows[found.stream] -= size
        if size:
            assert self.window >= 0, "beyond the connection's window"
            assert self.windows[found.stream] >= 0, "beyond the stream's window"
        self.got[found.stream] += found.payload
        if found.flags & 1:
            assert self.got[found.stream] == self.given[found.stream], "END_STREAM overtook DATA"
            self.ended[found.stream] = "end"


@settings(max_examples=400, deadline=None)
@given(_actions)
def test_nothing_goes_beyond_a_window_and_everything_goes_in_the_end(actions: list[tuple[str, int, int]]) -> None:
    peer = _Peer()
    for action in actions:
        peer.act(action)
    peer.read()
    connection = peer.end.connection
    for number in connection.streams:
        missing = 1 << 20
        peer.act(("window", number, missing - min(0, peer.windows[number])))
    peer.act(("window", 0, 1 << 24))
    for _ in range(100):
        connection.pump()
        peer.read()
        if not connection.stalled:
            break
    assert connection.fault is None
    for number in _STREAMS:
        if peer.closing.get(number) == "reset":
            assert peer.ended[number] == "reset"
            continue
        assert peer.got[number] == peer.given[number]
        assert peer.ended.get(number) == peer.closing.get(number)
    assert all(stream.queue is None for stream in connection.streams.values())
    waited = {number: owner.sent for number, owner in peer.end.owners.items()}
    assert all(waited[number] <= len(peer.given[number]) for number in _STREAMS)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 70_000), min_size=5, max_size=60), st.integers(2, 6))
def test_streams_that_wait_for_the_same_thing_take_turns(rooms: list[int], count: int) -> None:
    """Whatever the room of each flush, between two frames of a stream every other that waits has had one."""
    end = ServerEnd(GENEROUS)
    end.feed(frames.settings([(4, frames.MAX_WINDOW)]), frames.window_update(0, frames.MAX_WINDOW - 65_535))
    numbers = [2 * number + 1 for number in range(count)]
    end.feed(*(headers(number, end=True) for number in numbers))
    end.sent()
    end.connection.room = 0
    for number in numbers:
        end.connection.send_data(end.stream(number), bytes(4 << 20), False)
    order = []
    for room in rooms:
        end.connection.room = room
        end.connection.pump()
        order += [found.stream for found in end.sent()]
    assert order == [numbers[at % count] for at in range(len(order))]


# --- receiving ----------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["data", "consume", "end", "reset", "leave"]), st.sampled_from(_STREAMS),
                  st.integers(1, 16_384), st.none() | st.integers(0, 200)),
        max_size=60,
    )
)  # fmt: skip
def test_what_is_consumed_is_given_back_exactly(actions: list[tuple[str, int, int, int | None]]) -> None:
    """The peer's own account: it is never short of window by more than half, once all it sent is consumed."""
    given_limits = limits(stream_window=100_000, connection_window=150_000, resets=GENEROUS.resets)
    end = ServerEnd(given_limits)
    end.feed(*(headers(number) for number in _STREAMS))
    connection = end.connection
    windows, window = dict.fromkeys(_STREAMS, 100_000), 150_000
    streams = dict(connection.streams)
    open_ = set(_STREAMS)

    def settle() -> None:
        nonlocal window
        for found in end.sent():
            if found.kind == "WINDOW_UPDATE":
                increment = int.from_bytes(found.payload, "big")
                if found.stream:
                    windows[found.stream] += increment
                else:
                    window += increment

    for name, number, size, pad in actions:
        stream = streams[number]
        whole = size if pad is None else size + 1 + pad
        if name in ("data", "end") and number in open_ and whole <= min(windows[number], window, 16_384):
            windows[number] -= whole
            window -= whole
            connection.receive(data(number, bytes(size), name == "end", pad), 0.0)
            if name == "end":
                open_.discard(number)
        elif name == "consume":
            connection.consume(stream, min(size, stream.held))
        elif name == "reset" and number in open_:
            connection.receive(rst(number), 0.0)
            open_.discard(number)
        elif name == "leave" and number in open_:
            connection.reset(stream, ErrorCode.NO_ERROR)
            connection.release(stream)
            open_.discard(number)
        settle()
        assert connection.fault is None
        assert window == connection._window
        assert 0 <= window <= 150_000
        for still in open_:
            assert windows[still] == streams[still].window
            assert 0 <= windows[still] <= 100_000
    for stream in streams.values():
        connection.consume(stream, stream.held)
    settle()
    assert window > 150_000 - 75_000
    for still in open_:
        assert windows[still] > 100_000 - 50_000
