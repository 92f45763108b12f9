"""The two sides of the `h2` library as subjects."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from sidecar.relay.http2.errors import ErrorCode
from tests.fuzz.verdicts import REQUEST, RESPONSE, TRAILERS, Act, Verdict, read_output, told

_SERVER = h2.config.H2Configuration(client_side=False, header_encoding=None, normalize_inbound_headers=False)
_CLIENT = h2.config.H2Configuration(client_side=True, header_encoding=None, normalize_inbound_headers=False)
_CODES = h2.settings.SettingCodes
_BLOCKS = {
    h2.events.RequestReceived: "head",
    h2.events.ResponseReceived: "head",
    h2.events.InformationalResponseReceived: "informational",
    h2.events.TrailersReceived: "trailers",
}


class H2:
    def __init__(self, client: bool) -> None:
        self.over = False
        self.credit: dict[int, int] = {}
        self.other = h2.connection.H2Connection(_CLIENT if client else _SERVER)
        self.other.local_settings[_CODES.MAX_CONCURRENT_STREAMS] = 1_000
        self.other.local_settings.acknowledge()
        if client:
            self.other.local_settings[_CODES.ENABLE_PUSH] = 0
            self.other.local_settings.acknowledge()
        self.other.initiate_connection()
        self._sent(Verdict())

    def receive(self, octets: bytes) -> Verdict:
        verdict = Verdict()
        try:
            verdict.events = told(self._told(self.other.receive_data(octets)))
        except h2.exceptions.ProtocolError as error:
            verdict.fault = int(error.error_code)
        self._sent(verdict)
        return verdict

    def window(self, stream: int) -> int:
        if not stream:
            return max(0, self.other.outbound_flow_control_window)
        found = self.other.streams.get(stream)
        return -1 if found is None else max(0, found.outbound_flow_control_window)

    def _told(self, events: list[Any]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for event in events:
            kind = _BLOCKS.get(type(event))
            if kind is not None:
                fields = tuple((bytes(name), bytes(value)) for name, value in event.headers)
                found.append((kind, event.stream_id, fields))
            elif isinstance(event, h2.events.DataReceived):
                found.append(("data", event.stream_id, event.data))
                self._give_back(event.stream_id, event.flow_controlled_length)
            elif isinstance(event, h2.events.StreamEnded):
                found.append(("end", event.stream_id))
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.over = True
            elif isinstance(event, h2.events.StreamReset) and event.remote_reset:
                refused = event.error_code == ErrorCode.REFUSED_STREAM
                found.append(
                    ("refused", event.stream_id) if refused else ("reset", event.stream_id, int(event.error_code))
                )
        return found

    def _give_back(self, number: int, count: int) -> None:
        if count:
            try:
                self.other.acknowledge_received_data(count, number)
            except h2.exceptions.ProtocolError:
                return  # the stream ended with this frame

    def _sent(self, verdict: Verdict) -> None:
        read_output(self.other.data_to_send(), verdict, self.credit)

    def act(self, act: Act) -> bool:
        other = self.other
        try:
            if act.deed == "open":
                other.send_headers(other.get_next_available_stream_id(), list(REQUEST), end_stream=bool(act.size))
            elif act.deed == "head":
                other.send_headers(act.stream, list(RESPONSE))
            elif act.deed == "say":
                other.send_data(act.stream, bytes(act.size))
            elif act.deed == "end":
                other.send_headers(act.stream, list(TRAILERS), end_stream=True)
            else:
                other.reset_stream(act.stream, ErrorCode.CANCEL)
        except h2.exceptions.ProtocolError:
            return False
        self._sent(Verdict())
        return True

    def close(self) -> None: ...
