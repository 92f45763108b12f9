"""One direction of a call: what waits between where its bytes come from and where they go.

How bytes are looked at on the way is `passing` (not at all) and `inspecting` (message by message); what the two
directions do not have in common is `directions`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from interceptors.contract import Deny
from sidecar.relay import responding
from sidecar.relay.grpc_wire import Passage
from sidecar.relay.http2.fields import RequestHead, ResponseHead, TrailerBlock

if TYPE_CHECKING:
    from sidecar.relay.directions import Direction
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

    unary: exactly one message travels on it.  inspects: its links look at messages.
    count: messages that came in.  size: bytes that came in, in whole frames.
    unsent: what waits for the upstream stream.  ended: all of it has been given to `send`.
    replay: sent and kept, to be sent again on another stream; None once it is too long or the response has begun.
    """

    __slots__ = (
        "_busy",
        "_inbox",
        "_inbox_ends",
        "_passage",
        "_working",
        "count",
        "direction",
        "encoding",
        "ended",
        "exchange",
        "inspects",
        "limit",
        "replay",
        "replay_size",
        "size",
        "unary",
        "unsent",
        "unsent_size",
    )

    def __init__(self, exchange: Exchange, direction: Direction, limit: int, unary: bool) -> None:
        """limit: bytes of one message."""
        self.exchange = exchange
        self.direction = direction
        self.limit = limit
        self.unary = unary
        self.inspects = False
        self.count = 0
        self.size = 0
        self.encoding = b""
        self._busy = False  # a hook asked something and waits
        self._working = False  # what waited is being looked at or sent: nothing may overtake it
        self._inbox: deque[bytes] | None = None  # payloads not yet looked at, their window not returned
        self._inbox_ends = False  # the half-close stands behind them
        self._passage: Passage | None = None  # made when a payload is not exactly one message
        # Of requests:
        self.ended = False
        self.unsent: list[bytes] | None = None
        self.unsent_size = 0
        self.replay: list[bytes] | None = None
        self.replay_size = 0

    # --- what the stream towards the source tells ---------------------------------------------------------------

    def on_head(self, head: RequestHead | ResponseHead, end: bool) -> None:
        if isinstance(head, ResponseHead) and not self.exchange.over:  # a request's head made the exchange
            responding.begin(self.exchange, head, end)

    def on_trailers(self, trailers: TrailerBlock) -> None:
        self.direction.on_trailers(self.exchange, trailers)

    def on_reset(self, code: int, reason: str) -> None:
        self.direction.on_reset(self.exchange, code, reason)

    def on_refused(self) -> None:
        self.direction.on_refused(self.exchange)

    def on_sent(self, count: int) -> None:
        self.direction.on_sent(self.exchange, count)

    def on_data(self, payload: bytes, end: bool) -> None:
        """A payload from the source; nobody wants it once the call is over."""
        if self.exchange.over:
            self.credit(len(payload))
        else:
            self.data(payload, end)

    def on_view(self, payload: memoryview) -> None:
        self.on_data(bytes(payload), False)

    # --- what is kept -------------------------------------------------------------------------------------------

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

    @property
    def partial(self) -> bool:
        """Whether a message has begun and is not whole."""
        raise NotImplementedError

    @property
    def owed(self) -> bool:
        """Whether the source is to send the rest of a message, or of a unary side, and nothing here prevents it."""
        return not self._busy and not self._inbox and not self.stalled() and (self.unary or self.partial)

    def take(self, payload: bytes, end: bool) -> None:
        """Look at a payload now."""
        raise NotImplementedError

    def stalled(self) -> bool:
        """Whether nothing more should be looked at, because the sink does not keep up."""
        raise NotImplementedError

    def misused(self, deny: Deny) -> None:
        """The source's bytes are not what gRPC allows."""
        self.direction.misused(self.exchange, deny)

    def send(self, payload: bytes, end: bool) -> None:
        self.direction.send(self, payload, end)

    def credit(self, count: int) -> None:
        """Give window for `count` bytes back to the source."""
        self.direction.credit(self.exchange, count)

    # --- of requests, whose upstream stream may not be there yet, or not take what it was sent ------------------

    def send_on(self, payload: bytes, end: bool) -> None:
        """Send what belongs to a request on its upstream stream."""
        exchange, size = self.exchange, len(payload)
        self.ended = end
        replay = self.replay
        if replay is not None:
            self.replay_size += size
            if self.replay_size > REPLAY:
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

    def opened(self) -> None:
        """The upstream stream is there: send what waited."""
        self.replay, self.replay_size = [], 0
        unsent, self.unsent, self.unsent_size = self.unsent or [], None, 0
        working, self._working = self._working, True
        ended, last = self.ended, len(unsent)
        for number, payload in enumerate(unsent, 1):
            self.send_on(payload, ended and number == last)
        self._working = working
        self.drained()

    def again(self) -> bool:
        """The upstream refused the stream: let all that was sent wait for another. False when it is not all there."""
        if self.replay is None:
            return False
        self.unsent, self.replay = self.replay + (self.unsent or []), None
        self.unsent_size = sum(map(len, self.unsent))
        return True
