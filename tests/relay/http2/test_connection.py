"""Slots, stream numbers, refusals, and the release of what a connection keeps."""

from __future__ import annotations

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.limits import Limits
from tests.relay.http2.ends import (
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    ClientEnd,
    Pair,
    ServerEnd,
    code_of,
    data,
    headers,
    limits,
    rst,
)


def test_stream_numbers_only_rise() -> None:
    end = ServerEnd()
    end.feed(headers(5), headers(7))
    assert end.fault(headers(3)) == "STREAM_CLOSED"
    end = ServerEnd()
    end.feed(headers(frames.MAX_STREAM_ID))
    assert sorted(end.heads) == [frames.MAX_STREAM_ID]


def test_a_slot_is_held_until_its_owner_lets_go() -> None:
    end = ServerEnd(limits(concurrent_streams=2))
    end.feed(headers(1, end=True), headers(3, end=True))
    (refused,) = end.feed(headers(5))
    assert (refused.kind, code_of(refused)) == ("RST_STREAM", ErrorCode.REFUSED_STREAM)
    end.owners[1].end.connection.send_head(end.stream(1), b"\x88", True)
    end.sent()
    assert [code_of(found) for found in end.feed(headers(7))] == [ErrorCode.REFUSED_STREAM]
    end.connection.release(end.owners[1].stream)  # type: ignore[arg-type]
    assert end.feed(headers(9)) == []
    assert sorted(end.heads) == [1, 3, 9]
    assert end.connection.slots == 2


def test_a_stream_reset_by_its_peer_keeps_its_slot() -> None:
    """What rapid reset is about: work goes on until it is cancelled, and so long it counts."""
    end = ServerEnd(limits(concurrent_streams=1))
    end.feed(headers(1))
    stream, end.owners[1].then = end.stream(1), None
    stream.owner = None  # an owner that does not let go
    end.feed(rst(1))
    assert end.connection.slots == 1
    assert [code_of(found) for found in end.feed(headers(3))] == [ErrorCode.REFUSED_STREAM]
    end.connection.release(stream)
    assert end.feed(headers(5)) == []


def test_late_frames_of_a_refused_stream_are_ignored() -> None:
    end = ServerEnd(limits(concurrent_streams=1))
    end.feed(headers(1), headers(3))
    assert end.feed(data(3, b"body"), data(3, b"", end=True), rst(3), frames.window_update(3, 5)) == []
    assert end.connection.fault is None


def test_as_many_resets_are_remembered_as_said_and_no_more() -> None:
    end = ServerEnd()
    connection = end.connection
    for number in range(1, 2 * connection.resets_remembered + 20, 2):
        end.feed(headers(number), rst(number))
    assert len(connection._reset_set) == len(connection._reset_ids) == connection.resets_remembered
    assert end.feed(data(number, b"late")) == []
    (forgotten,) = end.feed(data(1, b"later"))
    assert code_of(forgotten) == ErrorCode.STREAM_CLOSED


def test_a_client_opens_within_what_the_server_allows() -> None:
    client = ClientEnd()
    client.feed(frames.settings([(frames.MAX_CONCURRENT_STREAMS, 2)]))
    client.open()
    assert client.connection.can_open
    client.open()
    assert not client.connection.can_open
    client.feed(rst(1))
    assert client.connection.can_open
    client.feed(frames.settings([(frames.MAX_CONCURRENT_STREAMS, 0)]))
    assert not client.connection.can_open


def test_a_client_runs_out_of_stream_numbers() -> None:
    client = ClientEnd()
    client.connection._next = frames.MAX_STREAM_ID - 2
    assert client.open().id == frames.MAX_STREAM_ID - 2
    assert client.connection.can_open
    assert client.open().id == frames.MAX_STREAM_ID
    assert not client.connection.can_open


def test_answers_that_cross_a_cancelled_burst_are_ignored() -> None:
    client = ClientEnd()
    streams = [client.open(end=True) for _ in range(3000)]
    for stream in streams:
        client.connection.reset(stream, ErrorCode.CANCEL)
        client.connection.release(stream)
    client.sent()
    for stream in streams:
        answer = headers(stream.id, RESPONSE) + data(stream.id, b"late") + headers(stream.id, TRAILERS, end=True)
        assert client.feed(answer) == []
    assert client.connection.fault is None
    assert client.connection.streams == {}


def test_both_sides_joined() -> None:
    pair = Pair.of(greedy=True)
    stream = pair.client.open()
    pair.client.connection.send_data(stream, bytes(3_000_000), True)
    pair.run()
    assert pair.server.heads[1].fields == REQUEST[4:]
    assert len(pair.server.owners[1].received) == 3_000_000
    assert pair.server.told(1)[-1][-1] is True
    answered = pair.server.stream(1)
    pair.server.connection.send_head(answered, b"\x88", False)
    pair.server.connection.send_data(answered, bytes(2_000_000), False)
    pair.server.connection.send_head(answered, b"\x00\x01a\x01b", True)
    pair.run()
    assert len(pair.client.owners[1].received) == 2_000_000
    assert pair.client.told(1)[-1] == ("trailers", ((b"a", b"b"),))
    assert pair.client.connection.streams == pair.server.connection.streams == {}
    for end in (pair.client, pair.server):
        connection = end.connection
        assert connection._window + connection._unreturned == Limits().connection_window
        assert connection.fault is None


@pytest.mark.parametrize("name", ["stream_window", "connection_window"])
@pytest.mark.parametrize("size", [0, 65_534, 1 << 31])
def test_windows_below_what_a_peer_may_send_unasked(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {size} bytes, expected 65535 to 2147483647"):
        limits(**{name: size})


def test_what_a_client_sends_before_it_reads_our_settings_is_within_the_windows() -> None:
    end = ServerEnd(limits(stream_window=65_535, connection_window=65_535), settled=False)
    end.sent()
    sent = end.feed(PREFACE, headers(1), *[data(1, bytes(16_384))] * 3, data(1, bytes(16_383)))
    assert {found.kind for found in sent} == {"SETTINGS"}
    assert end.connection.fault is None
