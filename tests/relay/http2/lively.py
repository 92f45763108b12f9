"""Connections whose streams move: owners that answer what they are told, and what holds of an end after anything."""

from __future__ import annotations

from typing import Any

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import TABLE_SIZE_ZERO, encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.limits import Limits
from tests.relay.http2.ends import GENEROUS, RESPONSE, TRAILERS, ClientEnd, End, Owner, ServerEnd, code_of, parse


def _answering(owner: Owner, event: tuple[Any, ...]) -> None:
    """What a call does: answers what it is told, so that both halves of its stream move."""
    connection, stream = owner.end.connection, owner.stream
    assert stream is not None
    if event[0] == "data" and event[1]:
        connection.consume(stream, len(event[1]))
        if not owner.end.connection.is_client:
            if not owner.answered:
                owner.answered = True
                connection.send_head(stream, encode(RESPONSE), False)
            connection.send_data(stream, event[1] * 3, False)
    elif event[0] == "trailers" or (event[0] == "data" and event[2]):
        connection.send_data(stream, b"last", False)
        connection.send_head(stream, encode(TRAILERS), True)


class LivelyServer(ServerEnd):
    def _accept(self, stream: Any, head: Any, end: bool) -> None:
        super()._accept(stream, head, end)
        self.owners[stream.id].then = _answering
        if end:
            self.finish(stream.id)


def lively(client: bool, given: Limits = GENEROUS) -> End:
    if not client:
        return LivelyServer(given)
    end = ClientEnd(given)
    for at in range(4):
        end.open(end=bool(at % 2))
        end.owners[2 * at + 1].then = _answering
    return end


def assert_alike(one: End, other: End) -> None:
    """The same frames, however cut, come to the same: for each stream, since between them DATA may change places."""
    assert told(one) == told(other)
    assert settled(one) == settled(other)
    # Where the connection's window is what they wait for, who comes first has it.
    if not (waited(one) or waited(other)):
        assert said(one) == said(other)


def told(end: End) -> dict[int, list[Any]]:
    """What each stream's owner was told, with DATA joined."""
    found: dict[int, list[Any]] = {}
    for number, *event in end.events:
        events = found.setdefault(number, [])
        if event[0] == "data" and events and events[-1][0] == "data":
            events[-1] = ["data", events[-1][1] + event[1], event[2]]
        elif event[0] != "sent":
            events.append(event)
    return found


def settled(end: End) -> Any:
    """Faults, and where streams stand."""
    connection = end.connection
    fault = None if connection.fault is None else (connection.fault.code, connection.fault.reason)
    streams = {number: (stream.receive, stream.send) for number, stream in connection.streams.items()}
    return fault, connection.slots, streams


def waited(end: End) -> bool:
    """Whether something had to wait for a window."""
    streams = [owner.stream for owner in end.owners.values() if owner.stream is not None]
    return any(owner.sent for owner in end.owners.values()) or any(stream.queue is not None for stream in streams)


def said(end: End) -> dict[int, list[Any]]:
    """What was sent on each stream, of DATA how much: answers are as long as what they answer, and come as it does."""
    found: dict[int, list[Any]] = {}
    sent = b"".join(end.connection.take())
    end.connection._out = [sent]
    for each in parse(sent):
        frames_of = found.setdefault(each.stream, [])
        if each.kind == "DATA" and frames_of and frames_of[-1][0] == "DATA":
            frames_of[-1] = ("DATA", frames_of[-1][1] | each.flags, frames_of[-1][2] + len(each.payload))
        elif each.kind == "DATA":
            frames_of.append(("DATA", each.flags, len(each.payload)))
        elif each.kind != "WINDOW_UPDATE":  # told of sooner or later, as it is consumed
            # The first block after the table's size has changed says so, whichever stream's it is.
            frames_of.append((each.kind, each.flags, each.payload.removeprefix(TABLE_SIZE_ZERO)))
    return found


def in_order(end: End) -> None:
    """What holds after anything at all."""
    connection = end.connection
    sent = end.sent()
    if connection.fault is not None:
        assert [found.kind for found in sent][-1] == "GOAWAY"
        goaways = [found for found in sent[:-1] if found.kind == "GOAWAY"]
        # Before the fault's own, at most those of a drain, which refuse nothing or tell of no error.
        assert all(frames.GOAWAY_HEAD.unpack_from(found.payload)[0] == frames.MAX_STREAM_ID
                   or code_of(found) == ErrorCode.NO_ERROR for found in goaways)  # fmt: skip
        return
    held = sum(owner.stream.held for owner in end.owners.values() if owner.stream is not None)
    assert connection._window + connection._unreturned + held == connection.limits.connection_window
    for number, stream in connection.streams.items():
        assert stream.id == number
        assert stream.receive < 3
        assert stream.send < 3
        assert stream.receive < 2 or stream.send < 2 or stream.queue is not None
        assert (stream.queue is None) == (stream.queued == 0)
    for stream in connection._blocked:
        assert connection.streams[stream.id] is stream
    live = sum(not owner.stream.released for owner in end.owners.values() if owner.stream is not None)
    assert connection.slots == live
