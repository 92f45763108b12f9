"""What one peer may cost: the honest bound passes, and what goes beyond it ends the connection.

Every case is a frame, or several, that a peer repeats. Clocks stand still, so that a burst is all there is.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.http2.streams import Stream
from tests.relay.http2.ends import (
    ENDLESS,
    GENEROUS,
    REQUEST,
    RESPONSE,
    ClientEnd,
    End,
    ServerEnd,
    continuation,
    data,
    frame,
    headers,
    limits,
    priority,
    rst,
)

CALM = "ENHANCE_YOUR_CALM"
Make = Callable[[int], bytes]


def _withstands(end: End, make: Make, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        end.feed(make(number))
        assert end.connection.fault is None, f"after {number - start} of {count}"


def _id(number: int) -> int:
    return 2 * number + 1


# --- floods -----------------------------------------------------------------------------------------------------

FLOODS: dict[str, tuple[Make, int]] = {
    # Less what the handshake of a test spends.
    "PING": (lambda number: frames.ping(bytes(8), False), 101),
    "PING acknowledgements nobody asked for": (lambda number: frames.ping(bytes(8), True), 100),
    "SETTINGS": (lambda number: frames.settings([(frames.INITIAL_WINDOW_SIZE, 65_536 + number)]), 99),
    "SETTINGS acknowledgements nobody asked for": (lambda number: frames.SETTINGS_ACK, 99),
    "PRIORITY": (lambda number: priority(1), 1000),
    "PRIORITY on itself": (lambda number: priority(3, on=3), 1000),
    "empty DATA": (lambda number: data(1), 101),  # the first of a stream is none
    "padded empty DATA": (lambda number: data(1, b"", pad=200), 101),
    "empty DATA of a reset stream": (lambda number: data(3), 100),
    "unknown frames": (lambda number: frame(0x10 + number % 200, 0xFF, 0, bytes(100)), 100),
    "GOAWAY": (lambda number: frames.goaway(0, 0, bytes(1000)), 100),
    "WINDOW_UPDATE of the connection": (lambda number: frames.window_update(0, 1), 500),
    "WINDOW_UPDATE of a stream": (lambda number: frames.window_update(1, 1), 500),
    "WINDOW_UPDATE of a closed stream": (lambda number: frames.window_update(3, 1), 500),
    "RST_STREAM of a closed stream": (lambda number: rst(3), 500),
    "DATA of a closed stream": (lambda number: data(5, b"x"), 200),
    "HEADERS of a reset stream": (lambda number: headers(3, end=True), 200),
}


def _prepared(given: Limits) -> ServerEnd:
    """A server with stream 1 open, stream 3 reset and stream 5 answered."""
    end = ServerEnd(given)
    end.feed(headers(1), headers(3), headers(5, end=True))
    end.connection.reset(end.stream(3), ErrorCode.CANCEL)
    end.connection.send_head(end.stream(5), b"\x88", True)
    end.sent()
    return end


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood(name: str) -> None:
    make, most = FLOODS[name]
    end = _prepared(limits(window_updates=Rate(1, 500)))
    _withstands(end, make, most)
    assert end.fault(make(most)) == CALM


def test_one_empty_data_frame_of_each_stream_is_no_flood() -> None:
    end = ServerEnd(limits(empty_data=Rate(1, 10), concurrent_streams=1000))
    for number in range(1, 2001, 2):
        end.feed(headers(number), data(number))
    assert end.connection.fault is None
    assert end.fault(*[data(number) for number in range(1, 21, 2)], data(21)) == CALM


@pytest.mark.parametrize("name", FLOODS)
def test_an_honest_rate_goes_on_for_ever(name: str) -> None:
    make, _ = FLOODS[name]
    end = _prepared(limits(window_updates=Rate(1, 500), settings=Rate(1, 10), pings=Rate(1, 10), unknown=Rate(1, 10),
                           empty_data=Rate(1, 10), priorities=Rate(1, 10), resets=Rate(1, 10)))  # fmt: skip
    for number in range(3000):
        end.now += 1.001
        end.feed(make(number))
        assert end.connection.fault is None


def test_pings_that_measure_the_path_are_free() -> None:
    """gRPC transports send one for each DATA that reaches them, after giving its window back."""
    end = ServerEnd(limits(window_updates=ENDLESS))
    end.feed(headers(1))
    for _ in range(5000):
        end.connection.send_data(end.stream(1), b"message", False)
        end.feed(frames.window_update(0, 7), frames.window_update(1, 7), frames.ping(bytes(8), False))
    assert end.connection.fault is None
    _withstands(end, FLOODS["PING"][0], 100)
    assert end.fault(FLOODS["PING"][0](0)) == CALM


def test_window_updates_do_not_make_pings_free() -> None:
    end = ServerEnd(Limits())

    def pair(number: int) -> bytes:
        return frames.window_update(0, 1) + frames.ping(bytes(8), False)

    _withstands(end, pair, 101)
    assert end.fault(pair(0)) == CALM


def test_settings_in_one_frame_are_few() -> None:
    """Each INITIAL_WINDOW_SIZE walks over every stream."""
    assert ServerEnd().kinds(frames.settings([(4, 65_535 + number) for number in range(32)])) == ["SETTINGS"]
    assert ServerEnd().fault(frames.settings([(4, 65_535)] * 33)) == CALM


def test_informational_heads_without_end() -> None:
    end = ClientEnd(limits(window_updates=Rate(1, 50)))
    end.open()
    end.sent()
    _withstands(end, lambda number: headers(1, ((b":status", b"103"),)), 50)
    assert end.fault(headers(1, ((b":status", b"103"),))) == CALM


# --- rapid reset, and resets that we are led to send ------------------------------------------------------------

LED: dict[str, tuple[Make, str]] = {
    # CVE-2023-44487
    "RST_STREAM": (lambda number: headers(_id(number)) + rst(_id(number)), ""),
    "RST_STREAM after the end": (lambda number: headers(_id(number), end=True) + rst(_id(number)), ""),
    # CVE-2025-8671: the ways of its finder that end a stream, and others of the kind.
    "WINDOW_UPDATE of 0": (
        lambda number: headers(_id(number), end=True) + frames.window_update(_id(number), 0),
        "PROTOCOL_ERROR",
    ),
    "WINDOW_UPDATE that overflows": (
        lambda number: headers(_id(number), end=True) + frames.window_update(_id(number), frames.MAX_WINDOW),
        "FLOW_CONTROL_ERROR",
    ),
    "HEADERS after the end": (
        lambda number: headers(_id(number), end=True) + headers(_id(number), end=True),
        "STREAM_CLOSED",
    ),
    "DATA after the end": (lambda number: headers(_id(number), end=True) + data(_id(number), b"x"), "STREAM_CLOSED"),
    "HEADERS that do not end": (lambda number: headers(_id(number)) + headers(_id(number)), "PROTOCOL_ERROR"),
    "trailers that are malformed": (
        lambda number: headers(_id(number)) + headers(_id(number), ((b"X", b"y"),), end=True),
        "PROTOCOL_ERROR",
    ),
    "trailers too large": (
        lambda number: headers(_id(number)) + headers(_id(number), ((b"x", b"y"),) * 200, end=True),
        "ENHANCE_YOUR_CALM",
    ),
    "more than content-length": (
        lambda number: headers(_id(number), (*REQUEST, (b"content-length", b"1"))) + data(_id(number), b"ab"),
        "PROTOCOL_ERROR",
    ),
    "less than content-length": (
        lambda number: headers(_id(number), (*REQUEST, (b"content-length", b"9"))) + data(_id(number), b"a", end=True),
        "PROTOCOL_ERROR",
    ),
    "a malformed request": (lambda number: headers(_id(number), REQUEST[1:]), "PROTOCOL_ERROR"),
    "a content-length that is none": (
        lambda number: headers(_id(number), (*REQUEST, (b"content-length", b"x"))),
        "PROTOCOL_ERROR",
    ),
}


@pytest.mark.parametrize("name", LED)
def test_resets_are_counted_whoever_sends_them(name: str) -> None:
    make, code = LED[name]
    end = ServerEnd(Limits())
    for number in range(200):
        sent = end.feed(make(number))
        assert end.connection.fault is None
        assert [ErrorCode(int.from_bytes(found.payload, "big")).name for found in sent] == ([code] if code else [])
    assert end.connection.slots == 0
    assert end.fault(make(200)) == CALM


@pytest.mark.parametrize("name", LED)
def test_a_bystander_on_another_connection_notices_nothing(name: str) -> None:
    make, _ = LED[name]
    hostile, honest = ServerEnd(Limits()), ServerEnd(Limits())
    for number in range(300):
        hostile.connection.receive(make(number), 0.0)
        honest.feed(headers(_id(number), end=True))
        honest.finish(_id(number))
        honest.sent()
    assert hostile.connection.fault is not None
    assert honest.connection.fault is None
    assert len(honest.heads) == 300


def test_a_stream_beyond_its_window_counts_as_a_reset() -> None:
    end = ServerEnd(limits(stream_window=65_535, connection_window=(1 << 31) - 1))

    def overrun(number: int) -> bytes:
        return headers(_id(number)) + data(_id(number), bytes(16_384)) * 5

    _withstands(end, overrun, 200)
    assert end.fault(overrun(200)) == CALM


@pytest.mark.parametrize("octets", [frame(frames.PRIORITY, 0, 1, bytes(4)), frame(frames.RST_STREAM, 0, 1, bytes(5))])
def test_frames_of_wrong_length_end_the_connection_not_the_stream(octets: bytes) -> None:
    """The way of CVE-2025-8671 that RFC 9113 §6.3 would make a stream error."""
    end = ServerEnd()
    end.feed(headers(1, end=True))
    assert end.fault(octets) == "FRAME_SIZE_ERROR"


def test_a_reset_that_the_layer_above_lays_to_the_peer_counts() -> None:
    end = ServerEnd(Limits())
    for number in range(201):
        assert end.connection.fault is None
        end.feed(headers(_id(number)))
        stream = end.stream(_id(number))
        end.connection.reset(stream, ErrorCode.NO_ERROR, blame=True)
        end.connection.release(stream)
    assert end.connection.fault is not None
    assert end.connection.fault.code.name == CALM


def test_cancelling_what_was_answered_is_no_rapid_reset() -> None:
    """A client that was told the end of a call before it ended its own side resets the stream."""
    end = ServerEnd(Limits())
    for number in range(5000):
        end.feed(headers(_id(number)))
        end.finish(_id(number))
        end.connection.reset(end.stream(_id(number)), ErrorCode.NO_ERROR)
        end.feed(rst(_id(number)))
    assert end.connection.fault is None


def test_a_model_server_may_reset_as_it_likes() -> None:
    end = ClientEnd(Limits())
    for number in range(1000):
        end.open(end=True)
        end.feed(rst(_id(number)))
    assert end.connection.fault is None


# --- streams ----------------------------------------------------------------------------------------------------


def test_streams_beyond_the_limit_are_refused_and_then_the_connection_ends() -> None:
    """A client that has not read SETTINGS yet may well open a thousand; for ever it may not."""
    end = ServerEnd(limits(concurrent_streams=10))
    _withstands(end, lambda number: headers(_id(number)), 2010)
    assert end.connection.slots == len(end.heads) == 10
    assert end.fault(headers(_id(2010))) == CALM


# --- header blocks ----------------------------------------------------------------------------------------------


def _fields(count: int, size: int) -> bytes:
    return encode((*REQUEST, *((b"x-%04d" % number, b"v" * size) for number in range(count))))


@pytest.mark.parametrize(
    ("count", "size", "outcome"),
    [
        (121, 0, "taken"), (122, 0, "taken"), (123, 0, "oversize"), (506, 0, "oversize"), (507, 0, CALM),
        (15, 1000, "taken"), (16, 1000, "oversize"), (62, 1000, "oversize"), (66, 1000, CALM),
    ],
)  # fmt: skip
def test_header_lists(count: int, size: int, outcome: str) -> None:
    end = ServerEnd(Limits())
    block = _fields(count, size)
    pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    octets = headers(1, block=pieces[0], flags=4 if len(pieces) == 1 else 0)
    for piece in pieces[1:]:
        octets += continuation(1, piece, last=piece is pieces[-1])
    end.feed(octets)
    if outcome == CALM:
        assert end.connection.fault is not None
        assert end.connection.fault.code.name == CALM
    else:
        assert end.heads[1].oversize is (outcome == "oversize")


def test_continuations_by_their_number() -> None:
    block = encode(REQUEST)
    for count, fault in ((32, False), (33, True)):
        end = ServerEnd(Limits())
        parts = [continuation(1, b"", last=False)] * (count - 1)
        end.feed(headers(1, block=b"", flags=0), *parts)
        if fault:
            assert end.fault(continuation(1, block)) == CALM
        else:
            assert end.feed(continuation(1, block)) == []
            assert sorted(end.heads) == [1]


def test_continuations_by_their_size() -> None:
    end = ServerEnd(Limits())
    end.feed(headers(1, block=bytes(16_000), flags=0), *[continuation(1, bytes(16_000), last=False)] * 3)
    assert end.connection.fault is None
    assert end.fault(continuation(1, bytes(16_000), last=False)) == CALM


def test_a_block_of_references_is_stopped_as_it_unfolds() -> None:
    """The HPACK bomb: one octet for four thousand."""
    end = ServerEnd(Limits())
    end.feed(headers(1, block=encode(REQUEST) + b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000))
    tracemalloc.start()
    try:
        assert end.fault(headers(3, block=encode(REQUEST) + b"\xbe" * 500)) == CALM
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# --- output that nobody reads -----------------------------------------------------------------------------------


def _unread(make: Make, given: Limits) -> Iterator[int]:
    """Feed without ever taking output; what waits, each time."""
    end = ServerEnd(given)
    for number in range(1_000_000):
        end.connection.receive(make(number), 0.0)
        if end.connection.fault is not None:
            assert end.connection.fault.code.name == CALM
            assert "does not read" in end.connection.fault.reason
            return
        yield end.connection.waiting


@pytest.mark.parametrize(
    "make",
    [
        lambda number: frames.ping(bytes(8), False) * 100,
        lambda number: frames.settings(()) * 100,
        lambda number: b"".join(headers(_id(number * 50 + at), REQUEST[1:]) for at in range(50)),
        lambda number: b"".join(
            headers(_id(number * 50 + at)) + data(_id(number * 50 + at), pad=9) for at in range(50)
        ),
    ],
    ids=["pings", "settings", "malformed", "refused"],
)
def test_answers_that_a_peer_causes_and_does_not_read(make: Make) -> None:
    most = 100_000
    waiting = list(_unread(make, replace(GENEROUS, output=most, concurrent_streams=1)))
    assert waiting
    assert max(waiting) <= most


def test_responses_that_a_peer_causes_and_does_not_read() -> None:
    """Calls that are answered at once free their slots: what they said still waits."""
    end = ServerEnd(limits(output=200_000))
    fields = (*RESPONSE, (b"x", bytes(500)))
    number = 0
    while end.connection.fault is None:
        end.connection.receive(headers(_id(number), end=True), 0.0)
        if end.connection.fault is None:
            stream = end.stream(_id(number))
            end.connection.send_head(stream, encode(fields), True)
            end.connection.release(stream)
        number += 1
        assert number < 1000
    assert end.connection.fault.code.name == CALM


def test_data_that_a_peer_does_not_read_stays_within_room_and_queues() -> None:
    end = ServerEnd(GENEROUS)
    end.feed(frames.settings([(4, frames.MAX_WINDOW)]), frames.window_update(0, frames.MAX_WINDOW - 65_535))
    end.feed(*(headers(number, end=True) for number in (1, 3)))
    for number in (1, 3):
        for _ in range(64):
            end.connection.send_data(end.stream(number), bytes(16_384), False)
    out = sum(map(len, end.connection._out))
    queued = sum(stream.queued for stream in end.connection.streams.values())
    assert out <= (256 << 10) + 64 * 9
    assert out - 9 * (out // 16_384) + queued == 2 * 64 * 16_384


# --- what is held, and what is looked at ------------------------------------------------------------------------


def _held_by(act: Callable[[], object]) -> int:
    """Bytes of memory that `act` leaves behind."""
    tracemalloc.start()
    try:
        keep = act()
        gc.collect()  # the ends of these tests point at each other
        held = tracemalloc.get_traced_memory()[0]
        del keep
        return held
    finally:
        tracemalloc.stop()


def test_a_frame_that_never_ends_is_held_once() -> None:
    def act() -> End:
        end = ServerEnd(GENEROUS)
        end.feed(headers(1))
        for octet in data(1, bytes(16_384))[:-1]:
            end.connection.receive(bytes((octet,)), 0.0)
        return end

    assert _held_by(act) < 64 << 10


def test_what_was_being_looked_at_when_the_connection_failed_is_not_held() -> None:
    def act() -> End:
        end = ServerEnd(Limits())
        end.connection.receive(frames.ping(bytes(8), False) * 20_000, 0.0)
        assert end.connection.fault is not None
        return end

    assert _held_by(act) < 64 << 10


def test_a_block_that_never_ends_is_held_within_its_limit() -> None:
    def act() -> End:
        end = ServerEnd(Limits())
        end.feed(headers(1, block=b"", flags=0), *[continuation(1, bytes(2_100), last=False)] * 31)
        assert end.connection.fault is None
        return end

    assert _held_by(act) < 160 << 10


def test_single_bytes_for_a_sink_that_is_closed_are_held_as_bytes() -> None:
    """A window of single-byte payloads must not become a hundred windows of memory."""

    def act() -> End:
        end = ServerEnd(GENEROUS)
        end.feed(frames.settings([(4, 0)]), headers(1))
        for number in range(100_000):
            end.connection.send_data(end.stream(1), bytes((number & 0xFF, number >> 9)), False)
        return end

    assert _held_by(act) < 3 * 200_000


def test_a_reset_stream_leaves_its_number_only() -> None:
    def act() -> End:
        end = ServerEnd(GENEROUS)
        for number in range(1, 4000, 2):
            end.feed(headers(number), data(number, bytes(1000)), rst(number))
            end.owners.clear()
            end.heads.clear()
            end.events.clear()
        return end

    assert _held_by(act) < 512 << 10


class Looks(OrderedDict[Stream, None]):
    """Streams that wait, and how often one of them was looked at."""

    count = 0

    def __iter__(self) -> Iterator[Stream]:
        self.count += 1
        return super().__iter__()


def test_an_update_looks_at_its_own_stream() -> None:
    """A thousand streams that wait must not make each WINDOW_UPDATE cost a thousand looks."""
    end = ServerEnd(limits(concurrent_streams=1000, window_updates=ENDLESS))
    end.feed(frames.settings([(4, 0)]), frames.window_update(0, 1 << 20))
    for number in range(1000):
        end.feed(headers(_id(number), end=True))
        end.connection.send_data(end.stream(_id(number)), bytes(2000), True)
    end.connection._blocked = looks = Looks()
    for _ in range(1000):
        end.feed(frames.window_update(1, 1), frames.window_update(0, 1))
    assert looks.count == 2000  # one that sends a byte, one that finds the window closed
