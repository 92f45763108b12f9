"""Our two sides against the `h2` library's: they understand each other, and refuse the same frames.

Where they differ on what to refuse, `JUSTIFIED` says why; nothing else may differ.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.streams import ENDED, Stream
from tests.relay.http2.ends import (
    GENEROUS,
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    ClientEnd,
    End,
    ServerEnd,
    data,
    headers,
    parse,
    rst,
)
from tests.relay.http2.test_properties import frame_sequences
from tests.relay.http2.test_states import INPUTS_BY_NAME, STATES, outcome

H2 = h2.connection.H2Connection


def _h2(client: bool, settled: bool = True) -> H2:
    other = H2(h2.config.H2Configuration(client_side=client, header_encoding=None))
    other.initiate_connection()
    if settled:
        other.data_to_send()
        other.receive_data((b"" if client else frames.PREFACE) + frames.settings(()) + frames.SETTINGS_ACK)
        other.data_to_send()
    return other


# --- the same frames are refused ----------------------------------------------------------------------------------


def _as(state: str) -> H2:
    """h2 in a state of `test_states`."""
    other = _h2(state.startswith("c."))
    if state.startswith("c."):
        if state == "c.idle":
            return other
        other.send_headers(1, list(REQUEST), end_stream=state in ("c.asked", "c.closed"))
        if state in ("c.body", "c.told", "c.reset", "c.gone"):
            other.receive_data(headers(1, RESPONSE))
        if state == "c.told":
            other.receive_data(headers(1, TRAILERS, end=True))
        elif state == "c.closed":
            other.receive_data(headers(1, RESPONSE, end=True))
    elif state == "passed":
        other.receive_data(headers(3))
    elif state != "idle":
        other.receive_data(headers(1, end=state in ("ended", "closed")))
        if state in ("answered", "closed"):
            other.send_headers(1, list(RESPONSE))
            other.send_headers(1, list(TRAILERS), end_stream=True)
    if state in ("reset", "c.reset"):
        other.reset_stream(1, ErrorCode.CANCEL)
    elif state in ("abandoned", "c.gone"):
        other.receive_data(rst(1))
    return other


def _refuses(other: H2, octets: bytes) -> str:
    """How h2 refuses, "" when it does not."""
    other.data_to_send()
    try:
        other.receive_data(octets)
    except h2.exceptions.ProtocolError as error:
        return type(error).__name__
    return "reset" if any(found.kind == "RST_STREAM" for found in parse(other.data_to_send())) else ""


ON_ITSELF: Final = "RFC 9113 §5.3.2 drops priorities: what they say is ignored"
GONE: Final = "RFC 9113 §6.9: a stream error, and the stream is gone; h2 refuses before it looks at the stream"
IN_FLIGHT: Final = "RFC 9113 §5.1: frames on a stream that was reset are ignored; h2 answers each with another reset"
RESET_STATES: Final = ("reset", "abandoned", "c.reset", "c.gone")
JUSTIFIED: Final[dict[tuple[str, str], str]] = {
    **{(state, "PRIORITY,SELF"): ON_ITSELF for state in STATES},
    **{(state, "WINDOW,0"): GONE for state in (*RESET_STATES, "closed", "passed", "c.closed")},
    **{(state, name): IN_FLIGHT for state in RESET_STATES
       for name in ("DATA", "DATA,END", "DATA,PAD", "HEADERS", "HEADERS,END")},
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", INPUTS_BY_NAME)
def test_frames_in_states(state: str, name: str) -> None:
    octets = INPUTS_BY_NAME[name](state)
    ours = outcome(STATES[state](), octets)[:2] in ("C:", "G:", "S:")
    theirs = bool(_refuses(_as(state), octets))
    if (state, name) in JUSTIFIED:
        assert (ours, theirs) == (False, True)
    else:
        assert ours == theirs


def _excused(end: End, octets: bytes, ours: str, before: set[int], values: set[int]) -> bool:
    """Whether a difference in a random sequence is one of these."""
    kind, number = octets[3], int.from_bytes(octets[5:9], "big") & frames.MAX_STREAM_ID
    if not ours:
        return (
            number in before  # IN_FLIGHT
            or (kind == frames.PRIORITY and int.from_bytes(octets[9:13], "big") & frames.MAX_STREAM_ID == number)
            or (kind == frames.WINDOW_UPDATE and number not in end.connection.streams)  # GONE
        )
    reason = end.connection.fault.reason if end.connection.fault is not None else ""
    told = [event[3] for event in end.events[-1:] if event[1] == "reset"] + getattr(end, "malformed", [])[-1:]
    return (
        # RFC 9113 §8.1.1; h2 looks at the length only when DATA comes.
        "content-length does not match" in told
        # RFC 9113 §5.1; h2 takes a reset of a stream it does not know for one of a stream that it forgot, and as a
        # client any stream that a server opens.
        or reason in ("RST_STREAM on an idle stream", "HEADERS on an idle stream")
        or ours == "drained"
        # RFC 9113 §6.5.3: values are taken in order; h2 keeps the last of each key.
        or (kind == frames.SETTINGS and len(values) < len(octets[9:]) // 6)
    )


@settings(max_examples=600, deadline=None)
@given(frame_sequences(goaway=False, known_elsewhere=False), st.booleans())
def test_random_frames(sequence: list[bytes], client: bool) -> None:
    """Frame by frame until one of the two ends the connection. After GOAWAY h2 takes nothing more, so none is sent."""
    end: End = ClientEnd() if client else ServerEnd()
    other = _h2(client)
    if client:
        for number in (1, 3):
            end.open(end=number == 3)  # type: ignore[attr-defined]
            other.send_headers(number, list(REQUEST), end_stream=number == 3)
        end.sent()
    for octets in sequence:
        before = set(end.connection._reset_set)
        sent = end.feed(octets)
        fault = end.connection.fault
        ours = "reset" if any(found.kind == "RST_STREAM" for found in sent) else ""
        if fault is not None or end.connection.draining:
            ours = fault.code.name if fault is not None else "drained"
        theirs = _refuses(other, octets)
        keys = {int.from_bytes(octets[at : at + 2], "big") for at in range(9, len(octets) - 5, 6)}
        if bool(ours) != bool(theirs):
            assert _excused(end, octets, ours, before, keys), (octets[:80].hex(), ours, theirs)
            return
        if ours not in ("", "reset") or theirs not in ("", "reset"):
            return


# --- they understand each other -----------------------------------------------------------------------------------

_numbers = st.integers(0, 3)
_sizes = st.integers(0, 300) | st.sampled_from([5_000, 16_384, 40_000, 100_000])
_moves = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.booleans(), st.just(0)),
        st.tuples(st.sampled_from(["up", "down"]), _numbers, _sizes),
        st.tuples(st.sampled_from(["up-end", "down-end", "up-trailers", "down-trailers"]), _numbers, st.just(0)),
        st.tuples(st.sampled_from(["up-reset", "down-reset"]), _numbers, st.just(0)),
        st.tuples(st.just("settings"), st.sampled_from([3_000, 16_384, 65_535, 200_000]), st.just(0)),
        st.tuples(st.just("frame-size"), st.sampled_from([16_384, 20_000, 100_000]), st.just(0)),
        st.tuples(st.just("ping"), st.just(0), st.just(0)),
        st.tuples(st.just("carry"), st.integers(50, 5_000), st.just(0)),
    ),
    max_size=40,
)


class _Exchange:
    """One of our ends and one of h2's, their bytes carried in pieces, and an account of what each was given to say."""

    def __init__(self, ours_is_client: bool) -> None:
        self.ours: End = (ClientEnd if ours_is_client else ServerEnd)(GENEROUS, greedy=True, settled=False)
        self.other = _h2(not ours_is_client, settled=False)
        self.ours_is_client = ours_is_client
        self.ids: list[int] = []
        self.said: dict[tuple[str, int], list[Any]] = {}  # (direction, stream) -> its payloads and end
        self.heard: dict[tuple[str, int], list[Any]] = {}
        self.waiting: dict[int, list[tuple[bytes, str]]] = {}  # what h2 has no window for yet
        self.reset: set[int] = set()

    # Directions: "up" from client to server. Ours says "up" when it is the client.
    @property
    def ours_says(self) -> str:
        return "up" if self.ours_is_client else "down"

    @property
    def other_says(self) -> str:
        return "down" if self.ours_is_client else "up"

    def move(self, name: str, first: Any, second: int) -> None:
        if name == "open":
            self._open(first)
        elif name == "settings":
            self.other.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: first})
        elif name == "frame-size":
            self.other.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: first})
        elif name == "ping":
            self.other.ping(b"12345678")
            self.ours.connection.send_ping(b"abcdefgh")
        elif name == "carry":
            self.carry(first)
        else:
            direction, _, end = name.partition("-")
            if first < len(self.ids):
                self._say(direction, self.ids[first], bytes(second), end)

    def _open(self, end: bool) -> None:
        if len(self.ids) >= 4:
            return
        if self.ours_is_client:
            number = self.ours.open(end).id  # type: ignore[attr-defined]
        else:
            number = self.other.get_next_available_stream_id()
            self.other.send_headers(number, list(REQUEST), end_stream=end)
        self.ids.append(number)
        self.said["up", number] = [REQUEST, "end"] if end else [REQUEST]
        self.said["down", number] = []

    def _say(self, direction: str, number: int, payload: bytes, end: str) -> None:
        said = self.said[direction, number]
        if number in self.reset or (said and isinstance(said[-1], str)):
            return
        ours = direction == self.ours_says
        stream = self._stream(number) if ours else None
        if ours and stream is None:
            return  # a server that has not heard of it yet
        if end == "reset":
            if ours:
                assert stream is not None
                self.ours.connection.reset(stream, ErrorCode.CANCEL)
            else:
                self._h2_reset(number)
            self.reset.add(number)
            return
        if direction == "down" and not said:
            said.append(RESPONSE)
            if ours:
                self.ours.connection.send_head(stream, encode(RESPONSE), False)  # type: ignore[arg-type]
            elif not self._h2(lambda: self.other.send_headers(number, list(RESPONSE))):
                said.clear()
                return
        if payload:
            said.append(payload)
        if end:
            said.append(end)
        if ours:
            assert stream is not None
            if payload:
                self.ours.connection.send_data(stream, payload, False)
            if end == "end":
                self.ours.connection.send_data(stream, b"", True)
            elif end == "trailers":
                self.ours.connection.send_head(stream, encode(TRAILERS), True)
        else:
            self.waiting.setdefault(number, []).append((payload, end))
            self._h2_send()

    def _stream(self, number: int) -> Stream | None:
        owner = self.ours.owners.get(number)
        return None if owner is None or owner.stream is None or owner.stream.send > ENDED else owner.stream

    def _h2(self, act: Any) -> bool:
        """Run an act of h2's; False when the stream is not there (any more) for it."""
        try:
            act()
        except (h2.exceptions.NoSuchStreamError, h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return False
        return True

    def _h2_reset(self, number: int) -> None:
        self.waiting.pop(number, None)
        self._h2(lambda: self.other.reset_stream(number, ErrorCode.CANCEL))

    def _h2_send(self) -> None:
        """What h2 holds back for want of window is the caller's, so it is kept here."""
        for number, queue in list(self.waiting.items()):
            while queue and number not in self.reset:
                payload, end = queue[0]
                try:
                    room = min(self.other.local_flow_control_window(number), self.other.max_outbound_frame_size)
                except h2.exceptions.ProtocolError:
                    queue.clear()
                    break
                piece = payload[: max(0, room)]
                if payload and not piece:
                    break
                if payload:
                    self.other.send_data(number, piece)
                    queue[0] = (payload[len(piece) :], end)
                    continue
                queue.pop(0)
                if end == "end":
                    self.other.end_stream(number)
                elif end == "trailers":
                    self.other.send_headers(number, list(TRAILERS), end_stream=True)

    def carry(self, step: int) -> None:
        """Everything both have to say, in pieces of `step` bytes."""
        ours = self.ours.connection
        for _ in range(500):
            down, up = b"".join(ours.take()), self.other.data_to_send()
            if not down and not up and not ours.stalled:
                break
            for at in range(0, len(up), step):
                ours.receive(up[at : at + step], 0.0)
                assert ours.fault is None, ours.fault
            for at in range(0, len(down), step):
                self._hear(self.other.receive_data(down[at : at + step]))  # h2 raises where we break a rule
            ours.pump()
            self._h2_send()
        else:
            raise AssertionError("they never come to rest")

    def _hear(self, events: list[Any]) -> None:
        for event in events:
            number = getattr(event, "stream_id", None)
            heard = self.heard.setdefault((self.ours_says, number or 0), [])
            if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
                heard.append(tuple((bytes(name), bytes(value)) for name, value in event.headers))
            elif isinstance(event, h2.events.DataReceived):
                heard.append(event.data)
                if event.flow_controlled_length:
                    self._h2(
                        partial(self.other.acknowledge_received_data, event.flow_controlled_length, event.stream_id)
                    )
            elif isinstance(event, h2.events.TrailersReceived):
                heard.append("trailers")
            elif isinstance(event, h2.events.StreamEnded):
                if heard[-1:] != ["trailers"]:
                    heard.append("end")
            elif isinstance(event, h2.events.StreamReset):
                self.reset.add(event.stream_id)
                self.waiting.pop(event.stream_id, None)

    def ours_heard(self, number: int) -> list[Any]:
        heard: list[Any] = []
        for event in self.ours.events:
            if event[0] != number:
                continue
            if event[1] == "request":
                heard.append(REQUEST)
                assert event[2] == REQUEST[4:]
                if event[3]:
                    heard.append("end")
            elif event[1] == "head":
                heard.append(((b":status", b"%d" % event[2]), *event[3]))
                if event[4]:
                    heard.append("end")
            elif event[1] == "data":
                heard.append(event[2])
                if event[3]:
                    heard.append("end")
            elif event[1] == "trailers":
                heard.append("trailers")
        return heard


def _joined(parts: list[Any]) -> list[Any]:
    """Payloads side by side made one: frames are cut as windows allow."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, bytes):
            if found and isinstance(found[-1], bytes):
                found[-1] += part
            elif part:
                found.append(part)
        else:
            found.append(part)
    return found


@settings(max_examples=250, deadline=None)
@given(_moves, st.booleans())
def test_random_exchanges(moves: list[tuple[str, Any, int]], ours_is_client: bool) -> None:
    exchange = _Exchange(ours_is_client)
    exchange.carry(1_000)
    exchange.move("open", False, 0)
    exchange.carry(7)
    for move in moves:
        exchange.move(*move)
    exchange.other.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    exchange.other.increment_flow_control_window(1 << 24)
    exchange.carry(4_096)
    for number in exchange.ids:
        if number in exchange.reset:
            continue
        says = exchange.ours_says
        assert _joined(exchange.heard.get((says, number), [])) == _joined(exchange.said[says, number])
        assert _joined(exchange.ours_heard(number)) == _joined(exchange.said[exchange.other_says, number])
    connection = exchange.ours.connection
    assert all(stream.queue is None for stream in connection.streams.values())
    held = sum(owner.stream.held for owner in exchange.ours.owners.values() if owner.stream is not None)
    assert connection._window + connection._unreturned + held == GENEROUS.connection_window


def test_a_long_transfer_both_ways() -> None:
    for ours_is_client in (True, False):
        exchange = _Exchange(ours_is_client)
        exchange.carry(1_000)
        exchange.move("open", False, 0)
        exchange.carry(100)
        for direction in ("up", "down"):
            for _ in range(10):
                exchange.move(direction, 0, 300_000)
            exchange.move(f"{direction}-trailers", 0, 0)
        exchange.carry(30_000)
        number = exchange.ids[0]
        assert (
            sum(len(part) for part in exchange.heard[exchange.ours_says, number] if isinstance(part, bytes))
            == 3_000_000
        )
        assert len(exchange.ours.owners[number].received) == 3_000_000
        assert exchange.ours_heard(number)[-1] == "trailers"


def test_an_h2_client_that_pads_and_prioritises() -> None:
    end, other = ServerEnd(), H2(h2.config.H2Configuration(client_side=True, header_encoding=None))
    other.send_headers(1, list(REQUEST), priority_weight=20, priority_depends_on=0)
    other.send_data(1, b"padded", pad_length=100)
    other.prioritize(1, weight=3)
    other.end_stream(1)
    assert end.feed(other.data_to_send()) == []
    assert end.told(1) == [("data", b"padded", False), ("data", b"", True)]


def test_goaway_of_h2_and_ours() -> None:
    client, other = ClientEnd(), _h2(False)
    client.open(end=True)
    other.receive_data(b"".join(client.connection.take()))
    other.close_connection(last_stream_id=0)
    client.feed(other.data_to_send())
    assert client.told(1) == [("refused",)]
    server, another = ServerEnd(), _h2(True)
    server.connection.drain()
    goaway = server.connection.take()[0]  # after it h2 takes nothing more, the PING behind it either
    (event,) = another.receive_data(goaway)
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert (event.error_code, event.last_stream_id) == (ErrorCode.NO_ERROR, frames.MAX_STREAM_ID)


def test_the_preface_of_each_is_the_others() -> None:
    server, other = ServerEnd(settled=False), _h2(True, settled=False)
    other.receive_data(b"".join(server.connection.take()))
    server.feed(other.data_to_send())
    other.receive_data(b"".join(server.connection.take()))
    assert server.connection.settled
    server.feed(other.data_to_send())
    assert server.connection.acknowledged
    assert other.max_outbound_frame_size == 16_384
    assert other.remote_settings.max_concurrent_streams == 100
    assert PREFACE.startswith(frames.PREFACE)
    assert data(1, b"x")[3] == frames.DATA
