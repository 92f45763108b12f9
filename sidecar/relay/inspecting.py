"""A direction that some link looks at: whole messages, charged to a budget while they are here.

Window is given back as bytes enter a message, since a message may be larger than the window; once messages wait for
the sink, nothing more is taken from the source.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from interceptors.contract import Code, Deny, Message
from sidecar.relay.grpc_wire import ENCODINGS, Deframer, WireFault, cardinality, frame, unframe
from sidecar.relay.sides import RequestSide, ResponseSide, Side

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

_END = None  # stands in `_todo` for the half-close


class Inspecting(Side):
    """Cuts messages out, gives each to the plan, and sends what the plan gives back."""

    __slots__ = ("_charged", "_deframer", "_todo")
    inspects = True

    def __init__(self, exchange: Exchange, limit: int, unary: bool) -> None:
        super().__init__(exchange, limit, unary)
        self._deframer = Deframer(limit)
        self._todo: deque[bytes | None] = deque()  # messages cut out, and _END
        self._charged = 0

    def take(self, payload: bytes, end: bool) -> None:
        self._cut(payload, end)
        self.catch_up()

    def catch_up(self) -> None:
        """Look at what waits, one message at a time, until a hook asks, the sink stalls, or nothing is left.

        What happens on the way (an answer at once, the sink drained) comes back here and leaves it to this loop.
        """
        if self._working:
            return
        self._working = True
        todo, exchange = self._todo, self.exchange
        while (todo or self._inbox) and not self._busy and not exchange.over and not self.stalled():
            if todo:
                self._look(todo.popleft())
            else:
                assert self._inbox is not None
                self._cut(*self._inbox.popleft())
        self._working = False
        if not exchange.over:
            self._settle()

    def drained(self) -> None:
        if not self._busy:
            self.catch_up()

    def _cut(self, payload: bytes, end: bool) -> None:
        """Take a payload apart into messages."""
        deframer = self._deframer
        try:
            if payload:
                self._charge(len(payload))
                self._todo.extend(deframer.feed(payload))
                self.count = deframer.count
            if end:
                deframer.finish()
                self._todo.append(_END)
            if self.unary:
                cardinality(self.count, end and not self.response)
        except WireFault as fault:
            self.exchange.deny(fault.deny)

    def _look(self, item: bytes | None) -> None:
        """Show one message to the links, or the half-close."""
        exchange = self.exchange
        exchange.call.now = exchange.relay.wall()
        if item is _END:
            self._finish()
            return
        try:
            message = Message(unframe(item, self.encoding, exchange.relay.settings.decompressed))
        except WireFault as fault:
            exchange.deny(self.refusal(fault.deny))
            return
        result = self.hook(message)
        if type(result) is GeneratorType:
            self._busy = True
            exchange.drive(result, partial(self._answered, item, message))
        else:
            self._forward(item, message, result)

    def _answered(self, item: bytes, message: Message, result: Deny | list[Message]) -> None:
        self._busy = False
        self._forward(item, message, result)
        self.catch_up()

    def _forward(self, item: bytes, message: Message, result: Deny | list[Message]) -> None:
        if isinstance(result, Deny):
            self.exchange.deny(result)
            return
        for out in result:
            self.send(item if out is message else frame(out.raw, self.encoding if item[0] else b""), False)

    def _finish(self) -> None:
        """Half-close: the flush hooks, then the sink's end."""
        exchange = self.exchange
        result: Any = exchange.plan.flush(exchange.call, self.response)
        if type(result) is GeneratorType:
            self._busy = True
            exchange.drive(result, self._flushed)
        else:
            self._flushed(result)

    def _flushed(self, result: Deny | list[Message]) -> None:
        self._busy = False
        if isinstance(result, Deny):
            self.exchange.deny(result)
            return
        if result and self.response and not self.exchange.head_sent:
            self.exchange.head_first()
        for message in result:
            self.send(frame(message.raw), False)
        self.finished()

    def _charge(self, count: int) -> None:
        if not self.exchange.relay.charge(count):
            raise WireFault(Code.RESOURCE_EXHAUSTED, "relay.buffered", "too many messages are held for inspection")
        self._charged += count
        self.credit(count)

    def _settle(self) -> None:
        """Give back what is charged for messages that have left."""
        if not self._todo and not self._busy:
            self._keep(self._deframer.have + self.queued())

    def _keep(self, count: int) -> None:
        if count < self._charged:
            self.exchange.relay.uncharge(self._charged - count)
            self._charged = count

    def let_go(self) -> None:
        self._keep(0)

    def queued(self) -> int:
        """Bytes that wait for the sink."""
        raise NotImplementedError

    def refusal(self, deny: Deny) -> Deny:
        """What a message that cannot be read comes to on this side."""
        raise NotImplementedError

    def release(self) -> None:
        self._todo.clear()
        self._inbox = None
        if self._deframer.have:
            self._deframer = Deframer(self.limit)
        self._keep(self.queued())


class InspectedRequest(Inspecting, RequestSide):
    __slots__ = ()

    def stalled(self) -> bool:
        up = self.exchange.up
        if up is None:
            return self.exchange.waiting and bool(self._unsent)
        return up.queue is not None

    def queued(self) -> int:
        up = self.exchange.up
        return self._unsent_size if up is None else up.queued

    def refusal(self, deny: Deny) -> Deny:
        if deny.code is not Code.UNIMPLEMENTED:
            return deny
        # grpc/doc/compression.md: who does not know an encoding says which it does.
        return replace(deny, trailers=((b"grpc-accept-encoding", ENCODINGS),))

    def release(self) -> None:
        self._unsent, self._unsent_size = None, 0
        super().release()


class InspectedResponse(Inspecting, ResponseSide):
    __slots__ = ()

    def stalled(self) -> bool:
        return self.exchange.down.queue is not None

    def queued(self) -> int:
        return self.exchange.down.queued

    def refusal(self, deny: Deny) -> Deny:
        # grpc/doc/compression.md: towards a caller, an encoding that the server should not have used is INTERNAL.
        return replace(deny, code=Code.INTERNAL) if deny.code is Code.UNIMPLEMENTED else deny
