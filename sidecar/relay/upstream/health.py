"""grpc.health.v1 as a client: one Check on a connection, written and read by hand after health.proto."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from interceptors.contract import Code
from sidecar.relay.answer import answer_of
from sidecar.relay.grpc_wire import PREFIX, frame
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.connection import ClientConnection
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock
from sidecar.relay.http2.streams import Stream

_ANSWER_MOST: Final = 1024  # bytes: the answer is a number
_SERVING: Final = b"\x08\x01"  # HealthCheckResponse.status = SERVING


class Verdict(Enum):
    """What a check says."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNKNOWN_SERVICE = "the service is not known to it"
    UNIMPLEMENTED = "it has no health service"
    SILENT = "no answer"


# A server without the service says nothing of its health: that it answers has to do.
_WELL: Final = (Verdict.SERVING, Verdict.UNIMPLEMENTED)


def request(service: str) -> bytes:
    """A framed HealthCheckRequest.  service: at most 127 bytes of UTF-8, "" for the server as a whole."""
    name = service.encode()
    return frame(b"\x0a" + bytes((len(name),)) + name if name else b"")


def verdict(status: int, body: bytes) -> Verdict:
    """What an answer says.  status: of gRPC, -1 for none.  body: as it came, with its prefix."""
    if status == Code.OK:
        return Verdict.SERVING if body[:1] == b"\0" and body[PREFIX:] == _SERVING else Verdict.NOT_SERVING
    if status == Code.UNIMPLEMENTED:
        return Verdict.UNIMPLEMENTED
    return Verdict.UNKNOWN_SERVICE if status == Code.NOT_FOUND else Verdict.SILENT


class Standing:
    """What checks have said of one endpoint.  known: whether it may be judged.  reason: why it is unwell, or ""."""

    def __init__(self, asked: bool, failures: int) -> None:
        """asked: whether there are checks at all.  failures: as of HealthSettings."""
        self.known = not asked
        self.reason = ""
        self._asked = asked
        self._failures = failures
        self._silent = 0  # checks without an answer in a row

    def forget(self) -> None:
        """The endpoint was gone: what comes up now may be another."""
        self.known = not self._asked
        self.reason, self._silent = "", 0

    def hear(self, found: Verdict) -> None:
        if found is Verdict.SILENT:
            self._silent += 1
            if self.known and self._silent < self._failures:
                return
        else:
            self._silent = 0
        self.known = True
        self.reason = "" if found in _WELL else f"health check: {found.value}"


class Check:
    """One Check on one connection; owns its stream. `done` is told the verdict, once, unless the check is given up."""

    def __init__(self, connection: ClientConnection, scheme: bytes, authority: bytes, service: str) -> None:
        """Only while the connection can open a stream."""
        self.done: Callable[[Verdict], None] | None = None
        self._connection = connection
        self._body = b""
        block = encode((
            (b":method", b"POST"), (b":scheme", scheme), (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", authority), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
        ))  # fmt: skip
        self._stream: Stream = connection.open(self, block, False)
        connection.send_data(self._stream, request(service), True)

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self.done = None
        self._connection.reset(self._stream, ErrorCode.CANCEL)
        self._connection.release(self._stream)

    def _end(self, found: Verdict) -> None:
        done, self.done = self.done, None
        self._connection.reset(self._stream, ErrorCode.NO_ERROR)
        self._connection.release(self._stream)
        if done is not None:
            done(found)

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        assert isinstance(head, ResponseHead)
        if end or head.status >= 300:
            self._end(verdict(answer_of(head).status, b""))

    def on_data(self, payload: bytes, end: bool) -> None:
        self._connection.consume(self._stream, len(payload))
        self._body += payload
        if end or len(self._body) > _ANSWER_MOST:
            self._end(Verdict.SILENT)

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self._end(verdict(answer_of(trailers).status, self._body))

    def on_reset(self, code: int, reason: str) -> None:
        self._end(Verdict.SILENT)

    def on_refused(self) -> None:
        self._end(Verdict.SILENT)

    def on_sent(self, count: int) -> None:
        """The request is a few bytes: how they leave is of no matter."""
