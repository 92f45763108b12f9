"""The two directions of a call: where a direction's bytes come from and go to, and what waits in between.

How bytes are looked at on the way is `passing` (not at all) and `inspecting` (message by message).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from interceptors.contract import Code, Deny, Message
from sidecar.relay.grpc_wire import HOLD, Passage
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

REPLAY: Final = 64 << 10  # bytes of a request kept so that a stream the upstream refused can be opened again
_JOINED: Final = 4 << 10  # bytes up to which payloads that wait are joined


def gather(waiting: list[bytes] | deque[bytes], payload: bytes) -> None:
    """Put a payload behind others, joined with the last: whoever sends single bytes must not cost an object each."""
    if waiting and len(waiting[-1]) + len(payload) <= _JOINED:
        waiting[-1] += payload
    else:
        waiting.append(payload)


class Side:
    """One direction of one call.

    unary: exactly one message travels on it.  count: messages that came in.  size: bytes that came in, in whole frames.
    """

    # All of both directions: a class with two bases may have attributes of its own from only one of them.
    __slots__ = (
        "_busy",
        "_ended",
        "_inbox",
        "_inbox_ends",
        "_passage",
        "_replay_size",
        "_unsent",
        "_unsent_size",
        "_working",
        "count",
        "encoding",
        "exchange",
        "limit",
        "replay",
        "size",
        "unary",
    )
    response: ClassVar[bool]
    inspects: ClassVar[bool]

    def __init__(self, exchange: Exchange, limit: int, unary: bool) -> None:
        """limit: bytes of one message."""
        self.exchange = exchange
        self.limit = limit
        self.unary = unary
        self.count = 0
        self.size = 0
        self.encoding = b""
        self._busy = False  # a hook asked something and waits
        self._working = False  # what waited is being looked at or sent: nothing may overtake it
        self._inbox: deque[bytes] | None = None  # payloads not yet looked at, their window not returned
        self._inbox_ends = False  # the half-close stands behind them
        self._passage: Passage | None = None  # made when a payload is not exactly one message
        # Of requests:
        self._ended = False  # all of it has been given to `send`
        self._unsent: list[bytes] | None = None  # waits for the upstream stream
        self._unsent_size = 0
        # Sent and kept, to be sent again on another stream; None once it is too long or the response has begun.
        self.replay: list[bytes] | None = None
        self._replay_size = 0

    def wait(self) -> None:
        """Keep what comes until `go`."""
        self._busy = True

    def go(self) -> None:
        self._busy = False
        if self._inbox:
            self.catch_up()

    def adopt(self, earlier: Side) -> None:
        """Take over what came before the plan was deepened; nothing of it has been looked at."""
        self._inbox, earlier._inbox = earlier._inbox, None
        self._inbox_ends = earlier._inbox_ends
        self.size = earlier.size

    def on_data(self, payload: bytes, end: bool) -> None:
        """A payload from the source; nobody wants it once the call is over."""
        if self.exchange.over:
            self.credit(len(payload))
        else:
            self.data(payload, end)

    def data(self, payload: bytes, end: bool) -> None:
        """As `on_data`, of a call that is not over."""
        self.size += len(payload)
        if self._busy or self._inbox or self.stalled():
            self.keep(payload, end)
        else:
            self.take(payload, end)

    def keep(self, payload: bytes, end: bool) -> None:
        if self._inbox is None:
            self._inbox = deque()
        gather(self._inbox, payload)
        self._inbox_ends = end

    def catch_up(self) -> None:
        """Look at what has been kept, as far as nothing waits again."""
        inbox = self._inbox
        if self._working:
            return
        self._working = True
        while inbox and not self._busy and not self.exchange.over and not self.stalled():
            payload = inbox.popleft()
            self.take(payload, self._inbox_ends and not inbox)
        self._working = False

    def drained(self) -> None:
        """What waited in the sink has left."""
        if self._inbox and not self._busy:
            self.catch_up()

    def release(self) -> None:
        """The call is over: nothing is looked at any more."""
        self._inbox = None

    def let_go(self) -> None:
        """The sink's stream is gone: nothing waits for it any more."""

    @property
    def idle(self) -> bool:
        """Whether nothing is held here and no link waits for the half-close: it may be passed over."""
        return False

    def take(self, payload: bytes, end: bool) -> None:
        """Look at a payload now."""
        raise NotImplementedError

    def misused(self, deny: Deny) -> None:
        """The source's bytes are not what gRPC allows."""
        raise NotImplementedError

    def stalled(self) -> bool:
        """Whether nothing more should be looked at, because the sink does not keep up."""
        raise NotImplementedError

    def hook(self, message: Message) -> Any:
        """The plan's hook for a message on this side."""
        raise NotImplementedError

    def send(self, payload: bytes, end: bool) -> None:
        raise NotImplementedError

    def credit(self, count: int) -> None:
        """Give window for `count` bytes back to the source."""
        raise NotImplementedError

    def finished(self) -> None:
        """Everything has been sent: end the sink's side."""
        raise NotImplementedError


class RequestSide(Side):
    """From the client to the model server; owns the client's stream."""

    __slots__ = ()
    response = False

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        """Never called: the head made the exchange."""

    def on_trailers(self, trailers: TrailerBlock) -> None:
        # PROTOCOL-HTTP2.md, "Request": a request is headers, messages and END_STREAM; nothing travels in trailers.
        self.misused(Deny(Code.INVALID_ARGUMENT, "request.trailers", "a request has trailers, expected none"))

    def misused(self, deny: Deny) -> None:
        self.exchange.blamed = True
        self.exchange.deny(deny)

    def on_reset(self, code: int, reason: str) -> None:
        self.exchange.on_client_gone(code, reason)

    def on_refused(self) -> None:
        self.exchange.on_client_gone()

    def on_sent(self, count: int) -> None:
        self.exchange.on_response_sent(count)

    def hook(self, message: Message) -> Any:
        exchange = self.exchange
        if exchange.pool is None and (denied := exchange.route_by(message.raw)) is not None:
            return denied
        return exchange.plan.request(exchange.call, message)

    def credit(self, count: int) -> None:
        self.exchange.credit_request(count)

    def send(self, payload: bytes, end: bool) -> None:
        exchange = self.exchange
        if end:
            exchange.asked()
        if exchange.up is not None:
            self._send_on(payload, end)
        elif end and self._unsent is None and exchange.open_at_once():
            self.replay = []
            self._send_on(payload, end)
        else:
            if self._unsent is None:
                self._unsent = []
            gather(self._unsent, payload)
            self._unsent_size += len(payload)
            self._ended = end
            # A unary request that is not whole, or is followed by more, never reaches the model server: its
            # stream is opened when the side has ended, or when it is too long to be kept; one that is looked at is
            # kept whole already.
            if end or not self.unary or (self._unsent_size > HOLD and not self.inspects):
                exchange.open_upstream()

    def _send_on(self, payload: bytes, end: bool) -> None:
        exchange, size = self.exchange, len(payload)
        self._ended = end
        replay = self.replay
        if replay is not None:
            self._replay_size += size
            if self._replay_size > REPLAY:
                self.replay = None
            else:
                gather(replay, payload)
        wire, up = exchange.up_wire, exchange.up
        assert wire is not None
        assert up is not None
        if wire.connection.send_data(up, payload, end) and not self.inspects:
            exchange.credit_request(size)
        if not wire.dirty:
            wire.touch()

    def finished(self) -> None:
        unsent = self._unsent
        if unsent:
            payload = unsent.pop()
            self._unsent_size -= len(payload)
            self.send(payload, True)
        else:
            self.send(b"", True)

    def opened(self) -> None:
        """The upstream stream is there: send what waited."""
        self.replay, self._replay_size = [], 0
        unsent, self._unsent, self._unsent_size = self._unsent or [], None, 0
        working, self._working = self._working, True
        ended, last = self._ended, len(unsent)
        for number, payload in enumerate(unsent, 1):
            self._send_on(payload, ended and number == last)
        self._working = working
        self.drained()

    def again(self) -> bool:
        """The upstream refused the stream: let all that was sent wait for another. False when it is not all there."""
        if self.replay is None:
            return False
        self._unsent, self.replay = self.replay + (self._unsent or []), None
        self._unsent_size = sum(map(len, self._unsent))
        return True


class ResponseSide(Side):
    """From the model server to the client; owns the stream towards the model server."""

    __slots__ = ()
    response = True

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        if not self.exchange.over:
            assert isinstance(head, ResponseHead)
            self.exchange.on_response_head(head, end)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        if not self.exchange.over:
            self.exchange.on_response_trailers(trailers)

    def misused(self, deny: Deny) -> None:
        self.exchange.deny(deny)

    def on_reset(self, code: int, reason: str) -> None:
        self.exchange.on_upstream_reset(code, reason)

    def on_refused(self) -> None:
        self.exchange.on_upstream_refused()

    def on_sent(self, count: int) -> None:
        self.exchange.on_request_sent(count)

    def hook(self, message: Message) -> Any:
        return self.exchange.plan.response(self.exchange.call, message)

    def credit(self, count: int) -> None:
        self.exchange.credit_response(count)

    def send(self, payload: bytes, end: bool) -> None:
        exchange = self.exchange
        if exchange.connection.send_data(exchange.down, payload, end) and not self.inspects:
            exchange.credit_response(len(payload))
        if not exchange.front.dirty:
            exchange.front.touch()

    def finished(self) -> None:
        self.exchange.response_finished()
