"""Frames cut from bytes, padding, header blocks in parts, and what a head or a body may say of each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.fields import Field
from tests.relay.http2.ends import (
    GENEROUS,
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    ClientEnd,
    End,
    Frame,
    ServerEnd,
    code_of,
    continuation,
    data,
    frame,
    headers,
    limits,
)

SETTINGS = frames.settings(())
BLOCK = encode(REQUEST)


# --- how a connection begins ------------------------------------------------------------------------------------


def test_the_preface_and_settings_may_come_cut_anywhere() -> None:
    octets = frames.PREFACE + frames.settings([(frames.INITIAL_WINDOW_SIZE, 70_000)]) + headers(1)
    for at in range(1, len(octets)):
        end = ServerEnd(settled=False)
        end.feed(octets[:at])
        end.feed(octets[at:])
        assert end.connection.fault is None, at
        assert end.stream(1).send_window == 70_000


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r ",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        SETTINGS,
        b"P" * 24,
        b"\x00",
    ],
)
def test_what_is_not_the_preface_ends_the_connection(octets: bytes) -> None:
    for step in (1, len(octets)):
        end = ServerEnd(settled=False)
        end.sent()
        for at in range(0, len(octets), step):
            end.connection.receive(octets[at : at + step], 0.0)
        assert end.connection.fault is not None
        assert end.connection.fault.code.name == "PROTOCOL_ERROR"
        assert code_of(end.sent()[-1]).name == "PROTOCOL_ERROR"


@pytest.mark.parametrize("make", [ServerEnd, ClientEnd])
@pytest.mark.parametrize(
    "first",
    [
        frames.SETTINGS_ACK,
        headers(1),
        data(1, b"x"),
        frames.ping(bytes(8), False),
        frames.window_update(0, 1),
        frames.goaway(0, 0),
        frame(0xAB, 0, 0),
    ],
)
def test_the_first_frame_is_settings(make: Callable[..., End], first: bytes) -> None:
    end = make(settled=False)
    if isinstance(end, ServerEnd):
        end.feed(frames.PREFACE)
    assert end.fault(first, SETTINGS) == "PROTOCOL_ERROR"


def test_nothing_is_taken_after_a_fault() -> None:
    end = ServerEnd()
    end.fault(data(1, b"x"))
    assert end.feed(headers(1), frames.ping(bytes(8), False)) == []
    assert end.events == []


def test_goaway_says_how_far_requests_were_taken() -> None:
    end = ServerEnd()
    end.feed(headers(1), headers(5))
    last = end.feed(data(9, b"x"))[-1]
    assert frames.GOAWAY_HEAD.unpack_from(last.payload)[0] == 5
    assert b"idle" in last.payload


# --- frame sizes ------------------------------------------------------------------------------------------------


def test_a_frame_may_be_as_long_as_said_and_no_longer() -> None:
    end = ServerEnd()
    end.feed(headers(1))
    assert end.feed(data(1, bytes(16_384))) == []
    assert end.fault(frames.frame_header(16_385, 0, 0, 1)) == "FRAME_SIZE_ERROR"


def test_a_larger_frame_size_is_announced_and_taken() -> None:
    end = ServerEnd(limits(frames=20_000), settled=False)
    assert frames.SETTING.pack(frames.MAX_FRAME_SIZE, 20_000) in end.sent()[0].payload
    end.feed(PREFACE, headers(1))
    assert end.feed(data(1, bytes(20_000))) == []
    assert end.fault(frames.frame_header(20_001, 0, 0, 1)) == "FRAME_SIZE_ERROR"


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (frames.RST_STREAM, (0, 3, 5)),
        (frames.PING, (0, 7, 9)),
        (frames.GOAWAY, (0, 7)),
        (frames.WINDOW_UPDATE, (0, 3, 5)),
        (frames.PRIORITY, (0, 4, 6)),
        (frames.SETTINGS, (1, 5, 7)),
    ],
)
def test_frames_of_wrong_length(kind: int, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        end = ServerEnd()
        end.feed(headers(1))
        stream = 1 if kind in (frames.RST_STREAM, frames.WINDOW_UPDATE, frames.PRIORITY) else 0
        assert end.fault(frame(kind, 0, stream, bytes(size))) == "FRAME_SIZE_ERROR"


# --- padding ----------------------------------------------------------------------------------------------------


def test_padding_is_taken_off_and_its_window_given_back() -> None:
    end = ServerEnd()
    end.feed(headers(1))
    for pad in (0, 1, 255):
        end.feed(data(1, b"abc", pad=pad))
    assert end.told(1) == [("data", b"abc", False)] * 3
    assert end.stream(1).held == 9
    end.feed(frame(frames.DATA, frames.PADDED | 1, 1, b"\x00"))
    assert end.told(1)[-1] == ("data", b"", True)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "FRAME_SIZE_ERROR"),
        (b"\x01", "PROTOCOL_ERROR"),
        (b"\x05abcd", "PROTOCOL_ERROR"),
        (b"\xff", "PROTOCOL_ERROR"),
    ],
)
def test_padding_longer_than_its_frame(payload: bytes, code: str) -> None:
    for kind in (frames.DATA, frames.HEADERS):
        end = ServerEnd()
        end.feed(headers(1))
        assert end.fault(frame(kind, frames.PADDED | frames.END_HEADERS, 1, payload)) == code


@pytest.mark.parametrize("pad", [None, 0, 7])
@pytest.mark.parametrize("priority", [False, True])
def test_headers_with_padding_and_priority(pad: int | None, priority: bool) -> None:
    payload = (bytes((pad,)) if pad is not None else b"") + (bytes(5) if priority else b"") + BLOCK + bytes(pad or 0)
    flags = (frames.PADDED if pad is not None else 0) | (frames.PRIORITY_FLAG if priority else 0) | frames.END_HEADERS
    end = ServerEnd()
    assert end.feed(frame(frames.HEADERS, flags, 1, payload)) == []
    assert end.events == [(1, "request", REQUEST[4:], False)]


def test_headers_too_short_for_their_priority() -> None:
    flags = frames.PRIORITY_FLAG | frames.END_HEADERS
    assert ServerEnd().fault(frame(frames.HEADERS, flags, 1, bytes(4))) == "FRAME_SIZE_ERROR"
    # Padding that eats into what must be there is padding that is too long.
    padded = frame(frames.HEADERS, flags | frames.PADDED, 1, b"\x02" + bytes(6))
    assert ServerEnd().fault(padded) == "PROTOCOL_ERROR"


# --- header blocks in parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_stream", [False, True])
def test_a_block_in_parts(end_stream: bool) -> None:
    for at in range(len(BLOCK) + 1):
        end = ServerEnd()
        end.feed(headers(1, block=BLOCK[:at], end=end_stream, flags=0))
        assert end.events == []
        end.feed(continuation(1, BLOCK[at:]))
        assert end.events == [(1, "request", REQUEST[4:], end_stream)]


def test_a_block_in_many_parts_some_empty() -> None:
    end = ServerEnd()
    end.feed(headers(1, block=b"", flags=0))
    for octet in BLOCK[:15]:
        end.feed(continuation(1, bytes((octet,)), last=False), continuation(1, b"", last=False))
    end.feed(continuation(1, BLOCK[15:]))
    assert end.events == [(1, "request", REQUEST[4:], False)]


@pytest.mark.parametrize(
    "between",
    [
        data(1, b"x"), data(3, b"x"), headers(1), headers(3), SETTINGS, frames.SETTINGS_ACK,
        frames.ping(bytes(8), False), frames.window_update(0, 1), frames.window_update(1, 1), frames.rst_stream(1, 8),
        frames.goaway(0, 0),
        continuation(3), continuation(0), frame(0xAB, 0, 1), frame(frames.PRIORITY, 0, 1, bytes(5)),
    ],
)  # fmt: skip
def test_nothing_comes_between_the_parts_of_a_block(between: bytes) -> None:
    for opened in (False, True):
        end = ServerEnd()
        if opened:
            end.feed(headers(1), headers(3))
        end.feed(headers(1, TRAILERS if opened else REQUEST, end=True, flags=0))
        assert end.fault(between) == "PROTOCOL_ERROR"


def test_a_continuation_needs_an_open_block() -> None:
    end = ServerEnd()
    end.feed(headers(1))
    assert end.fault(continuation(1)) == "PROTOCOL_ERROR"


def test_time_runs_from_the_first_byte_of_a_block_to_its_last() -> None:
    end = ServerEnd()
    end.now = 5.0
    end.feed(headers(1)[:5])
    assert end.connection.assembling_since == 5.0
    end.now = 6.0
    end.feed(headers(1)[5:])
    assert end.connection.assembling_since is None
    end.feed(headers(3, block=BLOCK[:4], flags=0))
    assert end.connection.assembling_since == 6.0
    end.now = 7.0
    end.feed(continuation(3, BLOCK[4:5], last=False))
    assert end.connection.assembling_since == 6.0
    end.feed(continuation(3, BLOCK[5:]))
    assert end.connection.assembling_since is None
    end.feed(frame(frames.HEADERS, frames.PADDED | 4, 5, b"\x00" + BLOCK)[:20])
    assert end.connection.assembling_since == 7.0
    end.feed(frame(frames.HEADERS, frames.PADDED | 4, 5, b"\x00" + BLOCK)[20:])
    assert end.connection.assembling_since is None
    end.feed(data(1, b"abc")[:10])
    assert end.connection.assembling_since is None


def test_the_table_follows_blocks_that_nobody_reads() -> None:
    """RFC 9113 §4.3: a block on a stream that was reset still changes the decoder."""
    end = ServerEnd()
    end.feed(headers(1), headers(3))
    end.connection.reset(end.stream(3), 8)
    end.sent()
    insert = b"\x40\x01x\x02vv"
    end.feed(headers(3, block=insert, end=True))
    end.feed(headers(5, block=BLOCK + b"\xbe"))
    assert end.heads[5].fields[-1] == (b"x", b"vv")
    end.feed(headers(5, block=b"\x40\x01y\x02ww"))  # a stream fault: trailers that do not end
    end.feed(headers(7, block=BLOCK + b"\xbe\xbf"))
    assert end.heads[7].fields[-2:] == ((b"y", b"ww"), (b"x", b"vv"))


# --- what heads and bodies say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "bodies", "fault"),
    [
        ((b"0",), (), None), ((b"5",), (b"abcde",), None), ((b"5",), (b"ab", b"", b"cde"), None),
        ((b"5", b"5"), (b"abcde",), None), ((b"5",), (b"abcdef",), True), ((b"5",), (b"abcd",), True),
        ((b"5",), (b"abc", b"defg"), True), ((b"0",), (b"a",), True), ((b"5", b"6"), (), True), ((b"-1",), (), True),
        ((b"+1",), (b"a",), True), ((b"1 1",), (b"a",), True), ((b"0x1",), (b"a",), True), ((b"",), (), True),
        ((b"9" * 19,), (), True), ((b"\xb2",), (), True), ((b"1,1",), (b"a",), True),
    ],
)  # fmt: skip
def test_content_length(lengths: tuple[bytes, ...], bodies: tuple[bytes, ...], fault: bool | None) -> None:
    declared = tuple((b"content-length", length) for length in lengths)
    for server, pad in ((True, None), (False, None), (True, 2)):
        end: End = ServerEnd() if server else ClientEnd()
        if isinstance(end, ClientEnd):
            end.open()
            end.sent()
        fields = (REQUEST if server else RESPONSE) + declared
        sent = end.feed(
            headers(1, fields), *(data(1, body, pad=pad) for body in bodies), data(1, b"", end=True, pad=pad)
        )
        resets = [code_of(found).name for found in sent if found.kind == "RST_STREAM"]
        assert resets == (["PROTOCOL_ERROR"] if fault else [])
        assert end.connection.fault is None
        assert b"".join(event[2] for event in end.events if event[1] == "data") in b"".join(bodies)


def test_content_length_and_an_end_without_data() -> None:
    fields = (*REQUEST, (b"content-length", b"3"))
    for trailers in (False, True):
        end = ServerEnd()
        octets = headers(1, fields) + headers(1, TRAILERS, end=True) if trailers else headers(1, fields, end=True)
        assert [code_of(found).name for found in end.feed(octets)] == ["PROTOCOL_ERROR"]
        client = ClientEnd()
        client.open()
        client.sent()
        answer = (*RESPONSE, (b"content-length", b"3"))
        octets = headers(1, answer) + headers(1, TRAILERS, end=True) if trailers else headers(1, answer, end=True)
        assert [code_of(found).name for found in client.feed(octets)] == ["PROTOCOL_ERROR"]


def test_a_malformed_head_resets_its_stream_and_is_told() -> None:
    end = ServerEnd()
    for number in (1, 3):
        sent = end.feed(headers(number, REQUEST[1:]))
        assert [(found.kind, found.stream, code_of(found).name) for found in sent] == [
            ("RST_STREAM", number, "PROTOCOL_ERROR")
        ]
    assert end.malformed == ["pseudo-headers missing, unknown or empty"] * 2
    assert end.connection.slots == 0
    assert end.heads == {}
    fault = end.connection._blocks.request(encode(REQUEST[1:])).fault
    assert fault is not None
    assert fault.__traceback__ is None, "a stored fault must not keep frames alive"


def test_informational_heads_come_before_the_final_one() -> None:
    end = ClientEnd()
    end.open()
    end.sent()
    early = ((b":status", b"103"), (b"link", b"x"))
    end.feed(headers(1, ((b":status", b"100"),)), headers(1, early), headers(1, RESPONSE))
    assert [event[1:3] for event in end.events] == [("head", 100), ("head", 103), ("head", 200)]
    sent = end.feed(headers(1, early))
    assert [code_of(found).name for found in sent] == ["PROTOCOL_ERROR"]


@pytest.mark.parametrize(
    "fields",
    [
        ((b":status", b"100"),), ((b":status", b"101"),), ((b":status", b"20"),), ((b":status", b"2000"),),
        ((b":status", b"abc"),), (), ((b"x", b"y"),), ((b":status", b"200"), (b":status", b"200")),
        ((b":status", b"200"), (b":path", b"/")), ((b"x", b"y"), (b":status", b"200")),
        ((b":status", b"200"), (b"X", b"y")), ((b":status", b"200"), (b"connection", b"close")),
        ((b":status", b"200"), (b"x", b"a\r\nb")), ((b":status", b"099"),),
    ],
)  # fmt: skip
def test_malformed_responses(fields: tuple[Field, ...]) -> None:
    end = ClientEnd()
    end.open()
    end.sent()
    sent = end.feed(headers(1, fields, end=True))
    assert [code_of(found).name for found in sent] == ["PROTOCOL_ERROR"]
    assert end.told(1)[-1][:2] == ("reset", 1)


@pytest.mark.parametrize("fields", [((b":status", b"200"),), ((b"X", b"y"),), ((b"te", b"gzip"),), ((b"a", b"\x00"),)])
def test_malformed_trailers(fields: tuple[Field, ...]) -> None:
    for end in (ServerEnd(), ClientEnd()):
        if isinstance(end, ClientEnd):
            end.open()
            end.feed(headers(1, RESPONSE))
        else:
            end.feed(headers(1))
        sent = end.feed(headers(1, fields, end=True))
        assert [code_of(found).name for found in sent] == ["PROTOCOL_ERROR"]


# --- receiving within windows -----------------------------------------------------------------------------------


def _updates(found: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream, frames.U32.unpack(frame.payload)[0]) for frame in found if frame.kind == "WINDOW_UPDATE"]


def test_window_is_given_back_when_half_of_it_is_consumed() -> None:
    end = ServerEnd(limits(stream_window=80_000, connection_window=100_000), greedy=True)
    end.feed(headers(1))
    told = [_updates(end.feed(data(1, bytes(10_000)))) for _ in range(10)]
    assert told == [[], [], [], [(1, 40_000)], [(0, 50_000)], [], [], [(1, 40_000)], [], [(0, 50_000)]]


def test_what_slow_readers_hold_does_not_keep_window_from_others() -> None:
    """Most of the connection's window is held on one stream: what another consumes still comes back."""
    end = ServerEnd(limits(stream_window=100_000, connection_window=100_000))
    end.feed(headers(1), headers(3), *[data(1, bytes(10_000))] * 7)
    got = 0
    for _ in range(50):
        room = min(10_000, end.connection._window)
        assert room, "the other stream starves"
        end.feed(data(3, bytes(room)))
        end.connection.consume(end.stream(3), room)
        end.sent()
        got += room
    assert got > 100_000
    assert end.stream(1).held == 70_000


def test_what_was_consumed_before_slow_readers_took_the_rest_comes_back_too() -> None:
    end = ServerEnd(limits(stream_window=1 << 20, connection_window=100_000))
    end.feed(headers(1), headers(3), data(3, bytes(16_384)), data(3, bytes(13_616)))
    end.connection.consume(end.stream(3), 30_000)
    assert end.sent() == []
    assert _updates(end.feed(*[data(1, bytes(10_000))] * 5)) == [(0, 30_000)]


def test_a_streams_window_comes_back_too_when_its_rest_is_taken() -> None:
    end = ServerEnd(limits(stream_window=100_000))
    end.feed(headers(1), data(1, bytes(16_384)), data(1, bytes(13_616)))
    end.connection.consume(end.stream(1), 30_000)
    assert end.sent() == []
    assert _updates(end.feed(*[data(1, bytes(10_000))] * 5)) == [(1, 30_000)]


def test_crumbs_are_not_given_back_one_by_one() -> None:
    """A reader that takes a byte at a time must not make a frame of each."""
    end = ServerEnd(limits(stream_window=65_535, connection_window=65_535))
    end.feed(headers(1), *[data(1, bytes(13_107))] * 5)
    found = []
    for _ in range(65_535):
        end.connection.consume(end.stream(1), 1)
        found += end.sent()
    assert len(_updates(found)) <= 8


def test_a_stream_that_has_ended_gets_no_window() -> None:
    end = ServerEnd()
    end.feed(headers(1), *[data(1, bytes(16_000))] * 64, data(1, b"", end=True))
    stream = end.stream(1)
    end.connection.consume(stream, stream.held)
    assert [found.stream for found in end.sent() if found.kind == "WINDOW_UPDATE"] in ([], [0])


def test_a_stream_beyond_its_window_is_reset_and_the_connection_loses_nothing() -> None:
    for pad in (None, 0):
        end = ServerEnd(limits(stream_window=65_535, connection_window=200_000))
        end.feed(headers(1), *[data(1, bytes(16_000), pad=pad)] * 4)
        sent = end.feed(data(1, bytes(16_000), pad=pad))
        assert [(found.kind, code_of(found).name) for found in sent if found.kind == "RST_STREAM"] == [
            ("RST_STREAM", "FLOW_CONTROL_ERROR")
        ]
        connection = end.connection
        assert connection._window + connection._unreturned == 200_000


def test_a_connection_beyond_its_window_ends() -> None:
    end = ServerEnd(limits(connection_window=65_535, stream_window=1 << 20))
    end.feed(headers(1), headers(3), *[data(1, bytes(16_000))] * 4)
    assert end.fault(data(3, bytes(16_000), pad=0)) == "FLOW_CONTROL_ERROR"


@pytest.mark.parametrize("pad", [None, 0])
def test_windows_may_be_used_up(pad: int | None) -> None:
    end = ServerEnd(limits(stream_window=65_535, connection_window=65_535))
    size = 13_107 if pad is None else 13_106
    end.feed(headers(1), *[data(1, bytes(size), pad=pad)] * 5)
    assert end.connection.fault is None
    assert end.connection._window + end.connection._unreturned == (0 if pad is None else 5)
    assert end.fault(data(1, bytes(6))) == "FLOW_CONTROL_ERROR"


def test_data_on_streams_of_the_past_stays_within_the_connections_window() -> None:
    end = ServerEnd(limits(connection_window=65_535, stream_window=1 << 20))
    end.feed(headers(1), headers(3))
    end.connection.reset(end.stream(1), 8)
    end.feed(*[data(3, bytes(13_107))] * 5)
    assert end.fault(data(1, b"x")) == "FLOW_CONTROL_ERROR"


def test_data_on_streams_of_the_past_counts_for_the_connection() -> None:
    end = ServerEnd(limits(connection_window=65_535, stream_window=1 << 20))
    end.feed(headers(1))
    end.connection.reset(end.stream(1), 8)
    end.sent()
    updates = [found for _ in range(20) for found in end.feed(data(1, bytes(10_000)))]
    assert {found.kind for found in updates} == {"WINDOW_UPDATE"}
    assert {found.stream for found in updates} == {0}
    assert end.connection.fault is None


def test_what_an_owner_holds_comes_back_when_it_releases() -> None:
    end = ServerEnd(GENEROUS)
    end.feed(headers(1), data(1, bytes(5_000)))
    stream = end.stream(1)
    end.connection.reset(stream, 8)
    before = end.connection._unreturned
    end.connection.release(stream)
    end.connection.release(stream)
    assert end.connection._unreturned == before + 5_000
    assert end.connection.slots == 0
