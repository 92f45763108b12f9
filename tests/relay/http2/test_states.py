"""Every frame in every state of a stream, on both sides (RFC 9113 §5.1, §6): it moves the stream or faults.

C:CODE ends the connection by GOAWAY, S:CODE the stream by RST_STREAM, "-" is ignored; else what the owner is told.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.relay.http2 import frames
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.streams import AWAIT, BODY, ENDED, INPUTS, RECEIVE
from tests.relay.http2.ends import (
    RESPONSE,
    TRAILERS,
    ClientEnd,
    End,
    ServerEnd,
    code_of,
    continuation,
    data,
    frame,
    headers,
    priority,
    rst,
)


def _server_idle() -> End:
    return ServerEnd()


def _open() -> End:
    end = ServerEnd()
    end.feed(headers(1))
    return end


def _ended() -> End:
    """Half-closed (remote)."""
    end = ServerEnd()
    end.feed(headers(1, end=True))
    return end


def _answered() -> End:
    """Half-closed (local)."""
    end = _open()
    end.finish(1)
    end.sent()
    return end


def _closed() -> End:
    end = _ended()
    end.finish(1)
    end.sent()
    return end


def _reset() -> End:
    """By us."""
    end = _open()
    end.connection.reset(end.stream(1), ErrorCode.CANCEL)
    end.sent()
    return end


def _abandoned() -> End:
    """Reset by the peer."""
    end = _open()
    end.feed(rst(1))
    return end


def _passed_over() -> End:
    """Closed because a later stream was opened."""
    end = ServerEnd()
    end.feed(headers(3))
    return end


def _client_idle() -> End:
    return ClientEnd()


def _await() -> End:
    end = ClientEnd()
    end.open()
    end.sent()
    return end


def _await_ended() -> End:
    """Half-closed (local)."""
    end = ClientEnd()
    end.open(end=True)
    end.sent()
    return end


def _body() -> End:
    end = _await()
    end.feed(headers(1, RESPONSE))
    return end


def _told() -> End:
    """Half-closed (remote)."""
    end = _body()
    end.feed(headers(1, TRAILERS, end=True))
    return end


def _client_closed() -> End:
    end = _await_ended()
    end.feed(headers(1, RESPONSE, end=True))
    return end


def _client_reset() -> End:
    end = _body()
    end.connection.reset(end.stream(1), ErrorCode.CANCEL)
    end.sent()
    return end


def _client_abandoned() -> End:
    end = _body()
    end.feed(rst(1))
    return end


STATES: dict[str, Callable[[], End]] = {
    "idle": _server_idle, "open": _open, "ended": _ended, "answered": _answered, "closed": _closed, "reset": _reset,
    "abandoned": _abandoned, "passed": _passed_over,
    "c.idle": _client_idle, "c.await": _await, "c.asked": _await_ended, "c.body": _body, "c.told": _told,
    "c.closed": _client_closed, "c.reset": _client_reset, "c.gone": _client_abandoned,
}  # fmt: skip


def _block(state: str, end: bool) -> bytes:
    """A header block of the kind that the state would have next."""
    if not state.startswith("c."):
        return headers(1, end=end) if state in ("idle", "passed", "closed") else headers(1, TRAILERS, end=end)
    return headers(1, RESPONSE if state in ("c.await", "c.asked", "c.idle") else TRAILERS, end=end)


INPUTS_BY_NAME: dict[str, Callable[[str], bytes]] = {
    "DATA": lambda state: data(1, b"x"),
    "DATA,END": lambda state: data(1, b"x", end=True),
    "DATA,PAD": lambda state: data(1, b"x", pad=3),
    "HEADERS": lambda state: _block(state, False),
    "HEADERS,END": lambda state: _block(state, True),
    "PRIORITY": lambda state: priority(1),
    "PRIORITY,SELF": lambda state: priority(1, on=1),
    "PRIORITY,4": lambda state: frame(frames.PRIORITY, 0, 1, bytes(4)),
    "RST_STREAM": lambda state: rst(1),
    "RST_STREAM,3": lambda state: frame(frames.RST_STREAM, 0, 1, bytes(3)),
    "SETTINGS": lambda state: frame(frames.SETTINGS, 0, 1),
    "PUSH_PROMISE": lambda state: frame(frames.PUSH_PROMISE, 4, 1, bytes(4)),
    "PING": lambda state: frame(frames.PING, 0, 1, bytes(8)),
    "GOAWAY": lambda state: frame(frames.GOAWAY, 0, 1, bytes(8)),
    "WINDOW": lambda state: frames.window_update(1, 1),
    "WINDOW,0": lambda state: frames.window_update(1, 0),
    "WINDOW,MAX": lambda state: frames.window_update(1, frames.MAX_WINDOW),
    "WINDOW,3": lambda state: frame(frames.WINDOW_UPDATE, 0, 1, bytes(3)),
    "CONTINUATION": lambda state: continuation(1),
    "UNKNOWN": lambda state: frame(0xAB, 0xFF, 1, b"?"),
}

_PROTOCOL, _SIZE, _CLOSED, _FLOW = "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "STREAM_CLOSED", "FLOW_CONTROL_ERROR"
C, S = {"P": "C:" + _PROTOCOL, "Z": "C:" + _SIZE, "X": "C:" + _CLOSED}, {
    "p": "S:" + _PROTOCOL, "x": "S:" + _CLOSED, "f": "S:" + _FLOW,
}  # fmt: skip
WORDS = {
    **C,
    **S,
    "g": "G:" + _PROTOCOL,
    "-": "-",
    "q": "request",
    "h": "head",
    "d": "data",
    "t": "trailers",
    "r": "reset",
}

# Capitals end the connection: P PROTOCOL_ERROR, Z FRAME_SIZE_ERROR, X STREAM_CLOSED. Small g ends it after its calls,
# with PROTOCOL_ERROR. Small p, x, f end the stream: as the capitals, and FLOW_CONTROL_ERROR. q request, h head, d data,
# t trailers, r reset: what the owner is told.
TABLE = """
               idle open ended answered closed reset abandoned passed c.idle c.await c.asked c.body c.told c.closed c.reset c.gone
DATA           P    d    x     d        x      -     -         x      P      p       p       d      x      x        -       -
DATA,END       P    d    x     d        x      -     -         x      P      p       p       d      x      x        -       -
DATA,PAD       P    d    x     d        x      -     -         x      P      p       p       d      x      x        -       -
HEADERS        q    p    x     p        X      -     -         X      P      h       h       p      x      X        -       -
HEADERS,END    q    t    x     t        X      -     -         X      P      h       h       t      x      X        -       -
PRIORITY       -    -    -     -        -      -     -         -      -      -       -       -      -      -        -       -
PRIORITY,SELF  -    -    -     -        -      -     -         -      -      -       -       -      -      -        -       -
PRIORITY,4     Z    Z    Z     Z        Z      Z     Z         Z      Z      Z       Z       Z      Z      Z        Z       Z
RST_STREAM     g    r    r     r        -      -     -         -      P      r       r       r      r      -        -       -
RST_STREAM,3   Z    Z    Z     Z        Z      Z     Z         Z      Z      Z       Z       Z      Z      Z        Z       Z
SETTINGS       P    P    P     P        P      P     P         P      P      P       P       P      P      P        P       P
PUSH_PROMISE   P    P    P     P        P      P     P         P      P      P       P       P      P      P        P       P
PING           P    P    P     P        P      P     P         P      P      P       P       P      P      P        P       P
GOAWAY         P    P    P     P        P      P     P         P      P      P       P       P      P      P        P       P
WINDOW         P    -    -     -        -      -     -         -      P      -       -       -      -      -        -       -
WINDOW,0       P    p    p     p        -      -     -         -      P      p       p       p      p      -        -       -
WINDOW,MAX     P    f    f     f        -      -     -         -      P      f       f       f      f      -        -       -
WINDOW,3       Z    Z    Z     Z        Z      Z     Z         Z      Z      Z       Z       Z      Z      Z        Z       Z
CONTINUATION   P    P    P     P        P      P     P         P      P      P       P       P      P      P        P       P
UNKNOWN        -    -    -     -        -      -     -         -      -      -       -       -      -      -        -       -
"""  # noqa: E501


def _cases() -> list[tuple[str, str, str]]:
    first, *rows = [line.split() for line in TABLE.strip().splitlines()]
    assert first == list(STATES)
    assert [row[0] for row in rows] == list(INPUTS_BY_NAME)
    return [(state, row[0], WORDS[word]) for row in rows for state, word in zip(first, row[1:], strict=True)]


def outcome(end: End, octets: bytes) -> str:
    """What becomes of a frame, in the words of the table."""
    before = len(end.events)
    sent = end.feed(octets)
    fault = end.connection.fault
    if fault is not None:
        assert [found.kind for found in sent] == ["GOAWAY"]
        return f"C:{fault.code.name}"
    told = [event[1] for event in end.events[before:]]
    if [found.kind for found in sent] == ["GOAWAY", "PING"]:
        return f"G:{code_of(sent[0]).name}"
    resets = [found for found in sent if found.kind == "RST_STREAM"]
    if resets:
        assert [found.stream for found in resets] == [1]
        assert told in ([], ["reset"])
        return f"S:{code_of(resets[0]).name}"
    assert len(told) <= 1
    return told[0] if told else "-"


@pytest.mark.parametrize(("state", "name", "expected"), _cases())
def test_every_frame_in_every_state(state: str, name: str, expected: str) -> None:
    end = STATES[state]()
    assert outcome(end, INPUTS_BY_NAME[name](state)) == expected


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", INPUTS_BY_NAME)
def test_a_stream_fault_leaves_the_connection_in_order(state: str, name: str) -> None:
    end = STATES[state]()
    end.feed(INPUTS_BY_NAME[name](state))
    if end.connection.fault is None:
        assert end.kinds(frames.ping(b"12345678", False)) == ["PING"]
        for stream in end.connection.streams.values():
            assert stream.held <= 4


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("octets", [data(2, b"x"), headers(2), rst(2), frames.window_update(2, 1)])
def test_even_streams_are_never_opened(state: str, octets: bytes) -> None:
    assert STATES[state]().fault(octets) == "PROTOCOL_ERROR"


@pytest.mark.parametrize("flags", [0, 1, 4, 5, 8, 0x20, 0x2D])
@pytest.mark.parametrize("make", [ServerEnd, ClientEnd])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 9])
def test_stream_0_takes_no_frame_of_a_stream(kind: int, make: Callable[[], End], flags: int) -> None:
    assert make().fault(frame(kind, flags, 0, bytes(9))) in ("PROTOCOL_ERROR", "FRAME_SIZE_ERROR")


def test_every_state_and_input_of_the_table_moves_or_is_absent() -> None:
    for state in (AWAIT, BODY, ENDED):
        for after in RECEIVE[state].values():
            assert after in (AWAIT, BODY, ENDED)
        assert set(RECEIVE[state]) <= set(INPUTS)


@pytest.mark.parametrize("state", STATES)
def test_the_reserved_bit_is_ignored(state: str) -> None:
    """RFC 9113 §4.1: it is not part of the stream's number, in frames of every kind."""
    for name, make in INPUTS_BY_NAME.items():
        plain, marked = STATES[state](), STATES[state]()
        octets = make(state)
        other = octets[:5] + bytes((octets[5] | 0x80,)) + octets[6:]
        assert outcome(plain, octets) == outcome(marked, other), name
        assert plain.events == marked.events
