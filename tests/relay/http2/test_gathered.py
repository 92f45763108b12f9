"""Small DATA frames that come together: each stream is given its own in one piece, and nothing overtakes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.relay.http2 import frames
from sidecar.relay.http2.errors import ErrorCode
from tests.relay.http2.ends import ClientEnd, Owner, ServerEnd, data, frame, headers, limits, rst

TRAILERS_END = frames.END_HEADERS | frames.END_STREAM


def opened(*numbers: int, **options: Any) -> ServerEnd:
    end = ServerEnd(**options)
    end.feed(*(headers(number) for number in numbers))
    end.events.clear()
    return end


def payloads(end: ServerEnd | ClientEnd) -> list[tuple[int, bytes]]:
    return [(event[0], event[2]) for event in end.events if event[1] == "data"]


def window(end: ServerEnd, number: int) -> int:
    """Of a stream's window, what is accounted for: left to the peer, held by the owner, and not yet announced."""
    stream = end.stream(number)
    return stream.window + stream.held + stream.unreturned


def test_each_stream_is_given_what_came_for_it_at_once() -> None:
    end = opened(1, 3)
    end.feed(data(1, b"a"), data(3, b"b"), data(1, b"c"), data(3, b"d"), data(1, b"e"))
    assert payloads(end) == [(1, b"ace"), (3, b"bd")]
    assert (end.stream(1).held, end.stream(3).held) == (3, 2)


def test_a_long_one_and_the_last_come_behind_what_waited() -> None:
    end = opened(1, 3)
    long = bytes(2000)
    end.feed(data(1, b"a"), data(3, b"b"), data(1, long), data(1, b"c"), data(1, b"d", end=True))
    assert payloads(end) == [(1, b"a"), (1, long), (1, b"c"), (1, b"d"), (3, b"b")]
    assert end.told(1)[-1] == ("data", b"d", True)


def test_trailers_and_resets_come_behind_data() -> None:
    end = opened(1, 3)
    end.feed(data(1, b"a"), data(3, b"b"), headers(1, [(b"x", b"y")], flags=TRAILERS_END), data(3, b"c"), rst(3))
    assert [event[:3] for event in end.events] == [
        (1, "data", b"a"), (1, "trailers", ((b"x", b"y"),)), (3, "data", b"bc"), (3, "reset", ErrorCode.CANCEL),
    ]  # fmt: skip


def test_padded_and_empty_frames_come_in_their_turn() -> None:
    end = opened(1)
    end.feed(data(1, b"a"), data(1, b"b", pad=3), data(1, b"c"), data(1, b""), data(1, b"d"), data(1, b"", end=True))
    assert b"".join(payload for _, payload in payloads(end)) == b"abcd"
    assert end.told(1)[-1] == ("data", b"", True)


def test_what_came_before_a_fault_is_given() -> None:
    end = opened(1, 3)
    assert end.fault(data(1, b"a"), data(3, b"b"), data(1, b"c"), data(5, b"x")) == "PROTOCOL_ERROR"
    assert payloads(end) == [(1, b"ac"), (3, b"b")]


def test_what_came_before_a_stream_is_at_fault_is_given() -> None:
    end = opened(1, limits=limits(stream_window=65_535))
    end.feed(data(1, b"a"), *(data(1, bytes(16_384)) for _ in range(4)))
    assert payloads(end)[0] == (1, b"a")
    assert end.told(1)[-1][:2] == ("reset", ErrorCode.FLOW_CONTROL_ERROR)


def test_a_stream_that_its_owner_ends_is_given_no_more_and_its_window_is_back() -> None:
    end = opened(1, 3)
    before = end.connection._window + end.connection._unreturned

    def stop(owner: Owner, event: tuple[Any, ...]) -> None:
        assert owner.stream is not None
        if event[0] == "data" and not owner.done:
            owner.done = True
            end.connection.reset(owner.stream, ErrorCode.CANCEL)
            end.connection.release(owner.stream)

    end.owners[1].then = stop
    sent = end.feed(data(1, b"a"), data(3, b"b"), data(1, bytes(2000)), data(1, b"c"), data(1, b"d", end=True))
    assert payloads(end) == [(1, b"a"), (3, b"b")]
    assert [found.kind for found in sent] == ["RST_STREAM"]
    assert end.connection._window + end.connection._unreturned == before - 1  # the other stream's octet is held


def test_an_owner_that_ends_another_stream_keeps_it_from_what_waits() -> None:
    end = opened(1, 3)

    def stop(owner: Owner, event: tuple[Any, ...]) -> None:
        other = end.owners[3]
        assert other.stream is not None
        if not other.done:
            other.done = True
            end.connection.reset(other.stream, ErrorCode.CANCEL)
            end.connection.release(other.stream)

    end.owners[1].then = stop
    end.feed(data(1, b"a"), data(3, b"b"), headers(3, [(b"x", b"y")], flags=TRAILERS_END))
    assert payloads(end) == [(3, b"b"), (1, b"a")]  # trailers brought the other's forward: it was not ended yet
    end = opened(1, 3)
    end.owners[1].then = stop
    end.feed(data(1, b"a"), data(3, b"b"))
    assert payloads(end) == [(1, b"a")]
    assert 3 not in end.connection.streams


def test_who_has_had_its_turn_gets_the_rest_in_the_next_one_and_in_order() -> None:
    numbers = range(1, 41, 2)
    end = opened(*numbers)
    octets = b"".join(data(number, bytes((number,))) for _ in range(3) for number in numbers)
    end.connection.receive(octets + data(1, b"z"), 0.0, lambda: True)
    assert end.connection.behind
    given = len(payloads(end))
    assert 0 < given < len(numbers)
    turns = 1
    while end.connection.behind:
        end.connection.receive(b"", 0.0, lambda: True)
        turns += 1
    assert turns > 3
    for number in numbers:
        assert end.owners[number].received == bytes((number,)) * 3 + (b"z" if number == 1 else b"")


def test_what_comes_while_some_still_wait_is_not_lost() -> None:
    numbers = range(1, 41, 2)
    end = opened(*numbers)
    for turn in range(3):
        octets = b"".join(data(number, bytes((turn,))) for number in numbers)
        end.connection.receive(octets, 0.0, lambda: True)
    while end.connection.behind:
        end.connection.receive(b"", 0.0, lambda: True)
    assert {end.owners[number].received for number in numbers} == {b"\0\1\2"}


@pytest.mark.parametrize("more", [0, 5])
def test_a_long_read_behind_frames_that_wait_whole_is_taken_once_and_at_once(more: int) -> None:
    """Also where a frame of it is as much shorter than they are as the first of them is long."""
    end = opened(1, 3, 5, 7, 9)
    connection = end.connection
    first = data(1, b"a" * 10)
    connection.receive(first * 60 + b"".join(map(data, (3, 5, 7, 9, 1), [b"a"] * 5)) * 20, 0.0, lambda: True)
    assert connection.behind
    last = data(3, b"c" * (len(connection._tail) - len(first) - frames.HEADER_LENGTH + more))
    connection.receive(data(1, b"b" * 1000) * 20 + last, 0.0)
    assert not connection.behind
    assert end.owners[1].received == b"a" * 620 + b"b" * 20_000
    assert end.owners[3].received == b"a" * 20 + last[frames.HEADER_LENGTH :]


pieces = st.lists(
    st.tuples(st.sampled_from([1, 3, 5]), st.integers(0, 1500), st.sampled_from(["", "pad", "ping"])), max_size=30
)


@settings(deadline=None)
@given(pieces, st.lists(st.integers(0, 40_000), max_size=6), st.integers(0, 3))
def test_however_frames_come_each_stream_is_given_its_own_octets(
    sent: list[tuple[int, int, str]], cuts: list[int], patience: int
) -> None:
    end = opened(1, 3, 5)
    expected = {1: b"", 3: b"", 5: b""}
    octets = b""
    for turn, (number, size, kind) in enumerate(sent):
        payload = bytes((turn,)) * size
        expected[number] += payload
        octets += data(number, payload, pad=2 if kind == "pad" else None)
        if kind == "ping":
            octets += frame(frames.PING, 0, 0, bytes(8))
    asked = 0

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked % (patience + 1) == 0

    edges = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    for begin, finish in zip(edges, [*edges[1:], len(octets)], strict=True):
        end.connection.receive(octets[begin:finish], 0.0, late)
    while end.connection.behind:
        end.connection.receive(b"", 0.0, late)
    assert end.connection.fault is None
    assert {number: end.owners[number].received for number in expected} == expected
    assert {window(end, number) for number in expected} == {end.connection.limits.stream_window}
