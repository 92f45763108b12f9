"""What is sent when: order on a stream, windows, turns between streams, and the room until the next flush."""

from __future__ import annotations

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from tests.relay.http2.ends import RESPONSE, TRAILERS, ClientEnd, Frame, ServerEnd, data, headers

MAX = frames.MAX_WINDOW
HEAD, TAIL = encode(RESPONSE), encode(TRAILERS)


def _wide(*numbers: int, end: bool = True) -> ServerEnd:
    """A server with open windows and these requests."""
    server = ServerEnd()
    server.feed(frames.settings([(frames.INITIAL_WINDOW_SIZE, MAX)]), frames.window_update(0, MAX - 65_535))
    server.feed(*(headers(number, end=end) for number in numbers))
    return server


def _sizes(found: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream, len(frame.payload)) for frame in found if frame.kind == "DATA"]


def test_a_whole_answer_is_put_out_at_once() -> None:
    server = _wide(1)
    stream = server.stream(1)
    server.connection.send_head(stream, HEAD, False)
    assert server.connection.send_data(stream, b"abc", False)
    server.connection.send_head(stream, TAIL, True)
    assert server.sent() == [
        Frame("HEADERS", 4, 1, b"\x20" + HEAD),
        Frame("DATA", 0, 1, b"abc"),
        Frame("HEADERS", 5, 1, TAIL),
    ]
    assert server.connection.streams == {}


def test_a_long_block_goes_out_in_parts() -> None:
    server = _wide(1)
    block = encode((*RESPONSE, *((b"x-%d" % number, bytes(1000)) for number in range(40))))
    server.connection.send_head(server.stream(1), block, False)
    sent = server.sent()
    assert [(found.kind, found.flags) for found in sent] == [("HEADERS", 0), ("CONTINUATION", 0), ("CONTINUATION", 4)]
    assert b"".join(found.payload for found in sent) == b"\x20" + block


def test_trailers_and_the_end_wait_behind_data() -> None:
    server = ServerEnd()
    server.feed(frames.settings([(frames.INITIAL_WINDOW_SIZE, 3)]), headers(1, end=True), headers(3, end=True))
    for number in (1, 3):
        server.connection.send_head(server.stream(number), HEAD, False)
    server.sent()
    connection = server.connection
    first, second = server.stream(1), server.stream(3)
    assert not connection.send_data(first, b"abcdef", False)
    connection.send_head(first, TAIL, True)
    connection.send_head(first, HEAD, True)
    assert connection.send_data(first, b"after trailers", False)
    assert connection.send_data(second, b"ghi", False)
    assert not connection.send_data(second, b"jkl", False)
    connection.send_data(second, b"", True)
    assert _sizes(server.sent()) == [(1, 3), (3, 3)]
    assert server.feed(frames.window_update(1, 9)) == [Frame("DATA", 0, 1, b"def"), Frame("HEADERS", 5, 1, TAIL)]
    assert server.feed(frames.window_update(3, 9)) == [Frame("DATA", 1, 3, b"jkl")]
    assert connection.streams == {}


def test_nothing_follows_the_end() -> None:
    server = _wide(1, 3, end=False)
    connection, stream = server.connection, server.stream(1)
    connection.send_data(stream, b"a", True)
    server.sent()
    assert connection.send_data(stream, b"b", False)
    connection.send_head(stream, TAIL, True)
    connection.send_informational(stream, HEAD)
    assert server.sent() == []


def test_an_informational_head_never_follows_the_final_one() -> None:
    server = _wide(1)
    connection, stream = server.connection, server.stream(1)
    early = encode(((b":status", b"103"),))
    connection.send_informational(stream, early)
    connection.send_head(stream, HEAD, False)
    connection.send_informational(stream, early)
    assert [found.payload for found in server.sent()] == [b"\x20" + early, HEAD]


def test_streams_take_turns_a_frame_each() -> None:
    server = _wide(1, 3, 5)
    for number in (1, 3, 5):
        server.connection.room = 0
        server.connection.send_data(server.stream(number), bytes(40_000), True)
    server.sent()
    server.connection.pump()
    order = [stream for stream, _ in _sizes(server.sent())]
    assert order == [1, 3, 5] * 3


def test_turns_go_on_where_they_stopped() -> None:
    """However short the room, a stream that waits is served before one that was served is again."""
    server = _wide(*range(1, 21, 2))
    connection = server.connection
    connection.room = 0
    for number in range(1, 21, 2):
        connection.send_data(server.stream(number), bytes(16_384 * 4), True)
    order = []
    while connection.stalled:
        connection.take()
        connection.room = 3 * 16_384
        connection.pump()
        order += [stream for stream, _ in _sizes(server.sent())]
    assert order == [*range(1, 21, 2)] * 4


def test_a_stream_with_a_closed_window_holds_up_no_other() -> None:
    server = ServerEnd()
    server.feed(frames.window_update(0, MAX - 65_535), headers(1), headers(3))
    server.connection.send_data(server.stream(1), bytes(100_000), False)
    server.sent()
    assert not server.connection.stalled
    assert server.connection.send_data(server.stream(3), b"quick", True)
    assert _sizes(server.sent()) == [(3, 5)]
    assert _sizes(server.feed(frames.window_update(1, 1))) == [(1, 1)]


def test_the_connection_window_is_shared_in_turn() -> None:
    server = ServerEnd()
    server.feed(frames.settings([(frames.INITIAL_WINDOW_SIZE, MAX)]), headers(1), headers(3))
    for number in (1, 3):
        server.connection.send_data(server.stream(number), bytes(70_000), False)
    server.sent()
    granted = [_sizes(server.feed(frames.window_update(0, 100))) for _ in range(4)]
    assert [found[0][0] for found in granted] in ([1, 3, 1, 3], [3, 1, 3, 1])


def test_room_bounds_data_between_two_flushes() -> None:
    server = _wide(1)
    stream, connection = server.stream(1), server.connection
    connection.send_data(stream, bytes(1 << 20), False)
    sizes = []
    while connection.pending:
        sizes.append(sum(size for _, size in _sizes(server.sent())))
        if connection.stalled:
            connection.pump()
    assert sizes == [256 << 10] * 4
    assert server.owners[1].sent == 1 << 20
    assert stream.queued == 0


def test_small_payloads_that_wait_are_joined() -> None:
    """A byte a frame must not cost a hundred for each: what waits is held in long pieces."""
    server = ServerEnd()
    server.feed(frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]), headers(1, end=True))
    stream, connection = server.stream(1), server.connection
    told = bytes(number % 251 for number in range(50_000))
    for octet in told:
        connection.send_data(stream, bytes((octet,)), False)
    connection.send_data(stream, b"", True)
    assert stream.queue is not None
    assert len(stream.queue) == -(-50_000 // 4096)
    assert stream.queued == 50_000
    sent = server.feed(frames.window_update(1, 60_000))
    assert b"".join(found.payload for found in sent) == told
    assert [found.flags for found in sent][-1] == 1
    assert server.owners[1].sent == 50_000
    assert connection.streams == {}


def test_an_owner_may_send_as_it_is_told_of_progress() -> None:
    """However many messages wait behind one another, telling of progress does not nest."""
    server = _wide(1)
    stream, connection = server.stream(1), server.connection
    owner = server.owners[1]
    left, depth, deepest = [2000], [0], [0]

    def more(_: object, event: tuple[object, ...]) -> None:
        if event[0] == "sent" and stream.queue is None and left[0]:
            left[0] -= 1
            depth[0] += 1
            deepest[0] = max(deepest[0], depth[0])
            connection.send_data(stream, bytes(20_000), not left[0])
            depth[0] -= 1

    owner.then = more
    connection.send_data(stream, bytes(20_000), False)
    total = 0
    while connection.pending:
        total += sum(size for _, size in _sizes(server.sent()))
        connection.pump()
    assert total == 2001 * 20_000
    assert deepest == [1]


def test_an_owner_may_reset_as_it_is_told_of_progress() -> None:
    server = _wide(1, 3)
    connection = server.connection
    connection.room = 0
    connection.send_data(server.stream(1), bytes(40_000), False)
    connection.send_data(server.stream(3), bytes(40_000), False)
    server.owners[1].then = lambda owner, event: (
        connection.reset(server.connection.streams[3], ErrorCode.CANCEL) if 3 in connection.streams else None
    )
    connection.take()
    connection.pump()
    sent = server.sent()
    assert [stream for stream, _ in _sizes(sent)] == [1, 1, 1]
    assert [found.stream for found in sent if found.kind == "RST_STREAM"] == [3]


def test_a_failing_owner_does_not_stop_later_sending() -> None:
    server = _wide(1, 3)
    connection = server.connection

    def fail(owner: object, event: object) -> None:
        raise RuntimeError("a defect")

    server.owners[1].then = fail
    with pytest.raises(RuntimeError):
        connection.send_data(server.stream(1), bytes(20_000), False)
    server.owners[1].then = None
    server.sent()
    connection.send_data(server.stream(3), bytes(20_000), False)
    assert (3, 16_384) in _sizes(server.sent())


def test_heads_count_as_output_and_data_does_not() -> None:
    server = _wide(1)
    connection, stream = server.connection, server.stream(1)
    connection.send_head(stream, HEAD, False)
    assert connection.waiting == len(HEAD) + 1
    connection.send_data(stream, bytes(1000), False)
    assert connection.waiting == len(HEAD) + 1
    connection.take()
    assert connection.waiting == 0


def test_a_client_ends_its_side_and_still_receives() -> None:
    client = ClientEnd()
    stream = client.open()
    client.connection.send_data(stream, b"q", True)
    assert [(found.kind, found.flags) for found in client.sent()] == [("HEADERS", 4), ("DATA", 1)]
    client.feed(headers(1, RESPONSE), data(1, b"a"), headers(1, TRAILERS, end=True))
    assert [event[1] for event in client.events] == ["head", "data", "trailers"]
    assert client.connection.streams == {}


# --- views --------------------------------------------------------------------------------------------------------


def test_a_view_goes_out_as_it_stands() -> None:
    server = _wide(1)
    connection, stream = server.connection, server.stream(1)
    read = b"abc" * 3_000
    before = connection.send_window, stream.send_window, connection.room
    assert connection.send_view(stream, memoryview(read)[3:6_003])
    assert [
        have - now
        for have, now in zip(before, (connection.send_window, stream.send_window, connection.room), strict=True)
    ] == [6_000] * 3
    head, piece = connection.take()[-2:]
    assert head == frames.frame_header(6_000, frames.DATA, 0, 1)
    assert isinstance(piece, memoryview)
    assert piece.obj is read
    assert piece == read[3:6_003]


@pytest.mark.parametrize("what", ["room", "window of all", "own window", "frame", "queue", "end"])
def test_a_view_that_would_wait_is_not_taken(what: str) -> None:
    """Whoever has it copies it: nothing is changed, and nothing of it is kept."""
    server = ServerEnd()
    size = 16_385 if what == "frame" else 10_000
    server.feed(
        frames.settings([(frames.INITIAL_WINDOW_SIZE, 9_999 if what == "own window" else MAX)]),
        frames.window_update(0, MAX - 65_535),
        headers(1),
    )
    connection, stream = server.connection, server.stream(1)
    connection.send_head(stream, HEAD, False)
    if what == "window of all":
        connection.send_window = 9_999
    elif what == "queue":
        connection.room = 0
        connection.send_data(stream, b"first", False)
        connection.room = MAX
    elif what == "end":
        connection.send_head(stream, TAIL, True)
    server.sent()
    if what == "room":
        connection.room = 9_999
    before = connection.send_window, stream.send_window, connection.room, stream.queued
    assert not connection.send_view(stream, memoryview(bytes(size)))
    assert (connection.send_window, stream.send_window, connection.room, stream.queued) == before
    assert not connection.pending
