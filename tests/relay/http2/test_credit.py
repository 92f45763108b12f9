"""The windows of streams that many share a connection for: narrow at first, wide for what comes and is taken fast."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.relay.http2 import frames
from sidecar.relay.http2.connection import ClientConnection
from sidecar.relay.http2.errors import ErrorCode
from tests.relay.http2.ends import RESPONSE, ClientEnd, Frame, ServerEnd, data, headers, limits, parse

FIRST: Final = 65_535  # bytes: RFC 9113 §6.5.2, what a stream's window is unless SETTINGS say otherwise
WIDE: Final = 1 << 20
FRAME: Final = bytes(16_384)


def updates(found: list[Frame], number: int) -> list[int]:
    """What a stream was given."""
    return [
        frames.U32.unpack(frame.payload)[0]
        for frame in found
        if frame.kind == "WINDOW_UPDATE" and frame.stream == number
    ]


def answering(end: ClientEnd) -> int:
    """A new stream whose answer has begun; its number."""
    number = end.open(end=True).id
    end.feed(headers(number, RESPONSE))
    return number


def half(end: ClientEnd, number: int) -> list[int]:
    """Have half of a narrow window come; what is given then."""
    return updates(end.feed(data(number, FRAME), data(number, FRAME)), number)


def test_who_opens_streams_says_that_they_begin_narrow() -> None:
    connection = ClientConnection(limits(stream_window=WIDE))
    connection.send_preface()
    first = parse(b"".join(connection.take()))[0]
    assert (frames.INITIAL_WINDOW_SIZE, FIRST) in frames.SETTING.iter_unpack(first.payload)


def test_who_takes_them_gives_all_at_once() -> None:
    end = ServerEnd(limits(stream_window=WIDE), settled=False)
    assert (frames.INITIAL_WINDOW_SIZE, WIDE) in frames.SETTING.iter_unpack(end.sent()[0].payload)


def test_an_answer_beyond_its_narrow_window_is_reset() -> None:
    end = ClientEnd(limits(stream_window=WIDE))
    number = answering(end)
    assert end.feed(*[data(number, FRAME)] * 3, data(number, FRAME[:-1])) == []
    end.feed(data(number, b"x"))
    assert end.told(number)[-1] == ("reset", ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")


def test_what_comes_and_is_taken_at_once_gets_all_of_the_window() -> None:
    end = ClientEnd(limits(stream_window=WIDE), greedy=True)
    number = answering(end)
    end.now = 0.1
    assert half(end, number) == [2 * len(FRAME) + WIDE - FIRST]
    assert end.stream(number).window == WIDE
    found = [update for _ in range(64) for update in updates(end.feed(data(number, FRAME)), number)]
    assert sum(found) == WIDE  # and no more


def test_what_comes_slowly_needs_no_more() -> None:
    end = ClientEnd(limits(stream_window=WIDE), greedy=True)
    number = answering(end)
    for _ in range(5):
        end.now += 0.11
        assert half(end, number) == [2 * len(FRAME)]
    end.now += 0.1
    assert half(end, number) == [2 * len(FRAME) + WIDE - FIRST]


def test_what_is_not_taken_gets_no_more() -> None:
    end = ClientEnd(limits(stream_window=WIDE))
    number = answering(end)
    stream = end.stream(number)
    end.feed(*[data(number, FRAME)] * 3)
    end.connection.consume(stream, stream.held - 1)
    assert updates(end.sent(), number) == [3 * len(FRAME) - 1]


@pytest.mark.parametrize("window", [FIRST, 80_000])
def test_a_window_is_never_wider_than_it_may_be(window: int) -> None:
    end = ClientEnd(limits(stream_window=window), greedy=True)
    number = answering(end)
    assert half(end, number) == [2 * len(FRAME) + window - FIRST]
    assert half(end, number) in ([], [2 * len(FRAME)])
    assert end.stream(number).span == window


def test_who_has_much_of_it_leaves_some_to_others() -> None:
    """A fourth of the connection's window is lent, and each gets no more than a fourth of what is left of it."""
    end = ClientEnd(limits(stream_window=WIDE, connection_window=8 << 20), greedy=True)
    given = [half(end, answering(end))[0] - 2 * len(FRAME) for _ in range(30)]
    assert given[0] == (2 << 20) // 4
    assert given == sorted(given, reverse=True)
    assert given[-1] > 0
    assert sum(given) < 2 << 20


@pytest.mark.parametrize("ends", ["whole", "reset"])
def test_what_was_lent_comes_back_with_its_stream(ends: str) -> None:
    end = ClientEnd(limits(stream_window=WIDE, connection_window=8 << 20), greedy=True)
    for _ in range(100):
        number = answering(end)
        stream = end.stream(number)
        assert half(end, number) == [2 * len(FRAME) + (2 << 20) // 4]
        if ends == "reset":
            end.connection.reset(stream, ErrorCode.CANCEL)
        else:
            end.feed(data(number, b"x", end=True))
        end.connection.release(stream)
        end.connection.release(stream)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["data", "consume", "leave"]), st.integers(0, 4), st.integers(1, 16_384),
                  st.sampled_from([0.0, 0.01, 0.2])),
        max_size=80,
    )
)  # fmt: skip
def test_every_byte_of_every_window_is_somewhere(actions: list[tuple[str, int, int, float]]) -> None:
    """Left to the peer, held, or not yet returned: together what the stream has, and what is lent is what they have."""
    end = ClientEnd(limits(stream_window=200_000, connection_window=400_000))
    connection = end.connection
    streams = [end.stream(answering(end)) for _ in range(5)]
    for name, which, size, seconds in actions:
        stream = streams[which]
        end.now += seconds
        if name == "data":
            count = min(size, stream.window, connection._window)
            if count:
                connection.receive(data(stream.id, bytes(count)), end.now)
        elif name == "consume":
            connection.consume(stream, min(size, stream.held))
        else:
            connection.reset(stream, ErrorCode.CANCEL)
            connection.release(stream)
            streams[which] = end.stream(answering(end))
        assert connection.fault is None
        for one in streams:
            assert one.window + one.held + one.unreturned == one.span <= 200_000
        assert connection._lent == sum(one.span - FIRST for one in streams) <= 100_000
        assert connection._window + connection._unreturned + sum(one.held for one in streams) == 400_000
