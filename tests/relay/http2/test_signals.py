"""SETTINGS, WINDOW_UPDATE, RST_STREAM, PING and GOAWAY, both ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.limits import Rate
from tests.relay.http2.ends import (
    REQUEST,
    RESPONSE,
    ClientEnd,
    End,
    Frame,
    ServerEnd,
    code_of,
    data,
    frame,
    headers,
    limits,
    rst,
)

MAX = frames.MAX_WINDOW


def _settings(*values: tuple[int, int]) -> bytes:
    return frames.settings(values)


def _last(found: Frame) -> int:
    return int.from_bytes(found.payload[:4], "big")


# --- SETTINGS ---------------------------------------------------------------------------------------------------


def test_what_each_side_says_first() -> None:
    server, client = ServerEnd(settled=False), ClientEnd(settled=False)
    assert server.connection.take()[0][9:] == b"".join(
        frames.SETTING.pack(key, value)
        for key, value in ((4, 1 << 20), (frames.MAX_HEADER_LIST_SIZE, 16 << 10), (frames.MAX_CONCURRENT_STREAMS, 100))
    )
    said = b"".join(client.connection.take())
    assert said.startswith(frames.PREFACE)
    assert frames.SETTING.pack(frames.ENABLE_PUSH, 0) in said
    assert said.endswith(frames.window_update(0, (16 << 20) - 65_535))


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (frames.ENABLE_PUSH, 2, "PROTOCOL_ERROR"),
        (frames.INITIAL_WINDOW_SIZE, MAX + 1, "FLOW_CONTROL_ERROR"),
        (frames.INITIAL_WINDOW_SIZE, 0xFFFFFFFF, "FLOW_CONTROL_ERROR"),
        (frames.MAX_FRAME_SIZE, 16_383, "PROTOCOL_ERROR"),
        (frames.MAX_FRAME_SIZE, 1 << 24, "PROTOCOL_ERROR"),
        (frames.MAX_FRAME_SIZE, 0, "PROTOCOL_ERROR"),
    ],
)
def test_settings_out_of_range(key: int, value: int, code: str) -> None:
    assert ServerEnd().fault(_settings((key, value))) == code
    assert ClientEnd().fault(_settings((0x77, 1), (key, value))) == code


@pytest.mark.parametrize(
    "values",
    [
        ((frames.ENABLE_PUSH, 0),), ((frames.INITIAL_WINDOW_SIZE, 0),), ((frames.INITIAL_WINDOW_SIZE, MAX),),
        ((frames.MAX_FRAME_SIZE, 16_384),), ((frames.MAX_FRAME_SIZE, (1 << 24) - 1),),
        ((frames.HEADER_TABLE_SIZE, 0),), ((frames.HEADER_TABLE_SIZE, 0xFFFFFFFF),),
        ((frames.MAX_CONCURRENT_STREAMS, 0),), ((frames.MAX_HEADER_LIST_SIZE, 0),),
        ((0, 0),), ((0xFFFF, 0xFFFFFFFF),), (), tuple((key, 0) for key in range(10, 42)),
    ],
)  # fmt: skip
def test_settings_in_range_are_acknowledged(values: tuple[tuple[int, int], ...]) -> None:
    for end in (ServerEnd(), ClientEnd()):
        assert end.feed(_settings(*values)) == [Frame("SETTINGS", frames.ACK, 0, b"")]
        assert end.connection.fault is None


def test_only_a_client_may_say_that_push_is_enabled() -> None:
    assert ServerEnd().kinds(_settings((frames.ENABLE_PUSH, 1))) == ["SETTINGS"]
    assert ClientEnd().fault(_settings((frames.ENABLE_PUSH, 1))) == "PROTOCOL_ERROR"


def test_an_acknowledgement_says_nothing_else() -> None:
    assert ServerEnd().fault(frame(frames.SETTINGS, frames.ACK, 0, bytes(6))) == "FRAME_SIZE_ERROR"
    assert ServerEnd().fault(frame(frames.SETTINGS, frames.ACK, 1)) == "PROTOCOL_ERROR"
    end = ServerEnd(settled=False)
    end.feed(frames.PREFACE, _settings())
    assert not end.connection.acknowledged
    assert end.feed(frames.SETTINGS_ACK) == []
    assert end.connection.acknowledged


def test_a_smaller_initial_window_makes_windows_negative_and_they_recover() -> None:
    """RFC 9113 §6.9.2, its own example: 60 KiB sent, the window set to 16 KiB, -44 KiB left."""
    end = ServerEnd()
    end.feed(headers(1))
    stream = end.stream(1)
    connection = end.connection
    for _ in range(6):
        assert connection.send_data(stream, bytes(10_240), False)
    assert stream.send_window == 65_535 - 61_440
    end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 16_384)))
    assert stream.send_window == -45_056
    assert not connection.send_data(stream, b"abc", False)
    assert end.kinds(frames.window_update(1, 45_056)) == []
    assert end.feed(frames.window_update(1, 2)) == [Frame("DATA", 0, 1, b"ab")]
    assert end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 16_385)))[-1] == Frame("DATA", 0, 1, b"c")
    assert end.told(1) == [("sent", 2), ("sent", 1)]


def test_an_end_without_data_needs_no_window() -> None:
    end = ServerEnd()
    end.feed(headers(1, end=True), _settings((frames.INITIAL_WINDOW_SIZE, 0)))
    end.stream(1).send_window = -5
    assert end.connection.send_data(end.stream(1), b"", True)
    assert end.sent() == [Frame("DATA", 1, 1, b"")]
    assert end.connection.streams == {}


def test_a_larger_initial_window_opens_every_stream() -> None:
    end = ServerEnd()
    end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 0)), headers(1), headers(3), headers(5))
    for number in (1, 3):
        assert not end.connection.send_data(end.stream(number), b"x" * 10, False)
    sent = end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 4), (frames.INITIAL_WINDOW_SIZE, 8)))
    assert [found.kind for found in sent] == ["SETTINGS", "DATA", "DATA"]
    assert {found.stream: len(found.payload) for found in sent[1:]} == {1: 8, 3: 8}
    assert end.stream(5).send_window == 8


def test_an_initial_window_that_overflows_an_open_one() -> None:
    end = ServerEnd()
    end.feed(headers(1), _settings((frames.INITIAL_WINDOW_SIZE, MAX)))
    assert end.stream(1).send_window == MAX
    end = ServerEnd()
    end.feed(headers(1), frames.window_update(1, MAX - 65_535))
    assert end.stream(1).send_window == MAX
    assert end.fault(_settings((frames.INITIAL_WINDOW_SIZE, 65_536))) == "FLOW_CONTROL_ERROR"


def test_a_larger_frame_size_is_used_within_reason() -> None:
    end = ServerEnd()
    end.feed(
        _settings((frames.INITIAL_WINDOW_SIZE, MAX), (frames.MAX_FRAME_SIZE, 1 << 20)), frames.window_update(0, 1 << 20)
    )
    end.feed(headers(1))
    end.connection.send_data(end.stream(1), bytes(100_000), False)
    assert [len(found.payload) for found in end.sent()] == [65_536, 100_000 - 65_536]


def test_a_reduced_table_is_heeded_by_the_next_block() -> None:
    """RFC 9113 §4.3.1."""
    end = ServerEnd()
    block = encode(RESPONSE)
    end.feed(headers(1), headers(3), headers(5), headers(7))
    for number, change, expected in (
        (1, None, b"\x20" + block),
        (3, 8_192, block),
        (5, 4_096, b"\x20" + block),
        (7, 4_096, block),
    ):
        if change is not None:
            end.feed(_settings((frames.HEADER_TABLE_SIZE, change)))
        end.connection.send_head(end.stream(number), block, False)
        assert end.sent()[0].payload == expected


# --- WINDOW_UPDATE ----------------------------------------------------------------------------------------------


def test_window_updates_add_up() -> None:
    end = ServerEnd()
    end.feed(headers(1), frames.window_update(1, 10), frames.window_update(0, 20), frames.window_update(0, 0x80000001))
    assert end.stream(1).send_window == 65_545
    assert end.connection.send_window == 65_535 + 21


def test_a_connection_window_of_nothing_or_too_much() -> None:
    assert ServerEnd().fault(frames.window_update(0, 0)) == "PROTOCOL_ERROR"
    assert ServerEnd().feed(frames.window_update(0, MAX - 65_535)) == []
    assert ServerEnd().fault(frames.window_update(0, MAX - 65_534)) == "FLOW_CONTROL_ERROR"


def test_a_stream_window_of_nothing_or_too_much_ends_the_stream() -> None:
    for increment, code in ((0, "PROTOCOL_ERROR"), (MAX - 65_534, "FLOW_CONTROL_ERROR")):
        end = ServerEnd()
        end.feed(headers(1))
        (sent,) = end.feed(frames.window_update(1, increment))
        assert (sent.kind, code_of(sent).name) == ("RST_STREAM", code)
        assert end.told(1)[0][:2] == ("reset", ErrorCode[code])


# --- RST_STREAM -------------------------------------------------------------------------------------------------


def test_a_reset_tells_the_owner_once_and_drops_what_waits() -> None:
    end = ServerEnd()
    end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 0)), headers(1))
    stream = end.stream(1)
    end.connection.send_data(stream, b"waits", False)
    end.connection.send_head(stream, b"\x88", True)
    assert end.feed(rst(1), rst(1), frames.window_update(1, 100), data(1, b"late")) == []
    assert end.told(1) == [("reset", ErrorCode.CANCEL, "")]
    end.connection.send_data(stream, b"more", True)
    end.connection.send_head(stream, b"\x88", True)
    end.connection.reset(stream, ErrorCode.CANCEL)
    assert end.sent() == []
    assert (stream.queue, stream.queued, stream.tail) == (None, 0, None)


def test_refused_streams_may_be_tried_again() -> None:
    end = ClientEnd()
    end.open(end=True)
    end.open(end=True)
    end.sent()
    end.feed(rst(1, ErrorCode.REFUSED_STREAM), rst(3, 0x1234 & 0xB))
    assert end.told(1) == [("refused",)]
    assert end.told(3)[0][0] == "reset"


def test_unknown_error_codes_are_kept() -> None:
    """RFC 9113 §7: they have no meaning and trigger nothing special."""
    end = ClientEnd()
    stream = end.open()

    class Listener:
        code = 0

        def on_reset(self, code: int, reason: str) -> None:
            self.code = code

    stream.owner = listener = Listener()  # type: ignore[assignment]
    end.feed(rst(1, 0xDEADBEEF))
    assert listener.code == 0xDEADBEEF


def test_a_reset_of_a_stream_not_yet_opened_ends_the_connection_after_its_calls() -> None:
    """gRPC's C core sends it for a call that is cancelled at once (grpc/grpc#38758): no other call may pay for it."""
    end = ServerEnd()
    end.feed(headers(1))
    farewell, ping = end.feed(rst(5))
    assert (farewell.kind, _last(farewell), code_of(farewell)) == (
        "GOAWAY",
        frames.MAX_STREAM_ID,
        ErrorCode.PROTOCOL_ERROR,
    )
    end.feed(headers(7, end=True), data(1, b"more", end=True))  # what crossed the GOAWAY is served
    assert [event[:2] for event in end.events] == [(1, "request"), (7, "request"), (1, "data")]
    (ping,) = end.feed(frames.ping(ping.payload, True))
    (farewell,) = end.feed(frames.ping(ping.payload, True))
    assert (farewell.kind, _last(farewell), code_of(farewell)) == ("GOAWAY", 7, ErrorCode.PROTOCOL_ERROR)
    assert not end.connection.finished
    for number in (1, 7):
        stream = end.stream(number)
        end.connection.send_head(stream, encode(RESPONSE), True)
        end.connection.release(stream)
    assert end.connection.finished
    assert end.connection.fault is None


def test_a_stream_that_was_reset_before_it_was_opened_is_refused() -> None:
    end = ServerEnd()
    end.feed(rst(5), rst(5), rst(9))
    for number in (5, 9):
        (refused,) = end.feed(headers(number))
        assert (refused.kind, refused.stream, code_of(refused)) == ("RST_STREAM", number, ErrorCode.REFUSED_STREAM)
        assert end.feed(data(number, b"late"), rst(number)) == []
    end.feed(headers(11))
    assert [event[:2] for event in end.events] == [(11, "request")]
    assert len(end.connection._reset_set) == len(end.connection._reset_ids) == 2


def test_resets_of_streams_not_yet_opened_are_a_flood_too() -> None:
    end = ServerEnd(limits(resets=Rate(1, 10)))
    assert end.kinds(*[rst(2 * number + 1) for number in range(10)]) == ["GOAWAY", "PING"]
    assert end.fault(rst(99)) == "ENHANCE_YOUR_CALM"


# --- PING -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ServerEnd, ClientEnd])
def test_a_ping_is_answered_with_what_it_said(make: Callable[[], End]) -> None:
    end = make()
    assert end.feed(frames.ping(b"\x00\x01abcdef", False)) == [Frame("PING", frames.ACK, 0, b"\x00\x01abcdef")]
    assert end.connection.pongs == 0


def test_only_answers_to_our_pings_count() -> None:
    end = ServerEnd()
    end.feed(frames.ping(bytes(8), True))
    assert end.connection.pongs == 0
    end.connection.send_ping(b"keepaliv")
    assert end.sent() == [Frame("PING", 0, 0, b"keepaliv")]
    end.feed(frames.ping(b"keepaliv", True), frames.ping(b"keepaliv", True))
    assert end.connection.pongs == 1


# --- GOAWAY -----------------------------------------------------------------------------------------------------


def test_a_server_drains_in_two_steps() -> None:
    """RFC 9113 §6.8: streams opened while the first GOAWAY travels are served, those after the second are not."""
    end = ServerEnd()
    end.feed(headers(1))
    end.connection.drain()
    end.connection.drain()
    first, ping = end.sent()
    assert (first.kind, _last(first), code_of(first)) == ("GOAWAY", frames.MAX_STREAM_ID, ErrorCode.NO_ERROR)
    assert ping.kind == "PING"
    end.feed(headers(3))
    (again,) = end.feed(frames.ping(ping.payload, True), headers(5))  # in the order of gRPC's C core
    assert again.kind == "PING"
    assert again.payload != ping.payload
    (second,) = end.feed(frames.ping(again.payload, True))
    assert (second.kind, _last(second), code_of(second)) == ("GOAWAY", 5, ErrorCode.NO_ERROR)
    assert end.feed(frames.ping(again.payload, True)) == []
    (refused,) = end.feed(headers(7))
    assert (refused.kind, refused.stream, code_of(refused)) == ("RST_STREAM", 7, ErrorCode.REFUSED_STREAM)
    assert end.feed(data(7, b"late"), headers(1, ((b"a", b"b"),), end=True)) == []
    for number in (1, 3, 5):
        end.finish(number)
    assert [found.stream for found in end.sent()] == [1, 1, 3, 3, 5, 5]
    assert end.connection.slots == 0
    assert _last(end.feed(data(9, b""))[-1]) == 5


def test_who_does_not_answer_a_drain_is_told_the_last_stream_all_the_same() -> None:
    end = ServerEnd()
    end.feed(headers(1, end=True))
    end.connection.drain()
    _, ping = end.sent()
    end.connection.name_last()
    end.connection.name_last()
    (last,) = end.sent()
    assert (last.kind, _last(last), code_of(last)) == ("GOAWAY", 1, ErrorCode.NO_ERROR)
    (refused,) = end.feed(headers(3))
    assert (refused.kind, code_of(refused)) == ("RST_STREAM", ErrorCode.REFUSED_STREAM)
    assert end.feed(frames.ping(ping.payload, True)) == []
    end.finish(1)
    assert end.connection.finished


def test_a_client_that_drains_opens_nothing() -> None:
    end = ClientEnd()
    end.open()
    end.sent()
    end.connection.drain()
    assert [(found.kind, _last(found)) for found in end.sent()] == [("GOAWAY", 0)]
    assert not end.connection.can_open
    end.feed(headers(1, RESPONSE, end=True))
    assert end.told(1)[0][:2] == ("head", 200)


def test_goaway_refuses_the_streams_above_its_last() -> None:
    end = ClientEnd()
    for _ in range(4):
        end.open(end=True)
    end.sent()
    end.feed(frames.goaway(frames.MAX_STREAM_ID, 0), frames.goaway(5, 0))
    assert end.told(7) == [("refused",)]
    assert end.told(5) == []
    assert not end.connection.can_open
    assert end.feed(headers(7, RESPONSE), data(7, b"late"), rst(7)) == []
    end.feed(headers(5, RESPONSE, end=True), frames.goaway(1, 2, b"why"))
    assert end.told(5)[0][0] == "head"
    assert end.told(3) == [("refused",)]
    assert end.connection.slots == 2
    assert end.fault(frames.goaway(3, 0)) == "PROTOCOL_ERROR"


def test_goaway_while_an_owner_ends_another_stream() -> None:
    end = ClientEnd()
    for _ in range(3):
        end.open(end=True)
    end.sent()
    end.owners[1].then = lambda owner, event: end.connection.reset(end.stream(5), ErrorCode.CANCEL)
    end.feed(frames.goaway(0, 0))
    assert [event[:2] for event in end.events] == [(1, "refused"), (3, "refused")]


def test_a_client_goaway_leaves_its_requests_alone() -> None:
    end = ServerEnd()
    end.feed(headers(1), frames.goaway(0, 0), headers(3))
    assert sorted(end.heads) == [1, 3]


def test_nothing_more_is_refused_once_the_connection_ends() -> None:
    end = ServerEnd()
    end.feed(headers(1))
    end.connection.abort(ErrorCode.ENHANCE_YOUR_CALM, "reason")
    end.connection.abort(ErrorCode.NO_ERROR, "another")
    end.connection.drain()
    (sent,) = end.sent()
    assert (code_of(sent), _last(sent), sent.payload[8:]) == (ErrorCode.ENHANCE_YOUR_CALM, 1, b"reason")


def test_a_lost_connection_ends_every_stream() -> None:
    end = ServerEnd()
    end.feed(_settings((frames.INITIAL_WINDOW_SIZE, 0)), headers(1, end=True), headers(3))
    end.connection.send_data(end.stream(1), b"waits", True)
    end.connection.lost("gone")
    end.connection.lost("gone")
    assert [event[:3] for event in end.events[-2:]] == [
        (1, "reset", ErrorCode.CANCEL),
        (3, "reset", ErrorCode.CANCEL),
    ]
    assert not end.connection.stalled
    assert end.connection.slots == 0


def test_push_is_refused_by_both_sides() -> None:
    promise = frame(frames.PUSH_PROMISE, 4, 1, b"\x00\x00\x00\x02" + encode(REQUEST))
    client = ClientEnd()
    client.open(end=True)
    client.sent()
    assert client.fault(promise) == "PROTOCOL_ERROR"
    server = ServerEnd()
    server.feed(headers(1))
    assert server.fault(promise) == "PROTOCOL_ERROR"
