"""A direction that some link looks at: whole messages, charged to a budget while they are here.

Window is given back as bytes enter a message, since a message may be larger than the window; once messages wait for
the sink, nothing more is taken from the source.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from interceptors.contract import Code, Deny, Message
from sidecar.relay.grpc_wire import Deframer, WireFault, cardinality, frame, unframe
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
            return
        self._work()

    def catch_up(self) -> None:
        if self._todo:
            self._work()
        super().catch_up()

    def _work(self) -> None:
        todo, exchange = self._todo, self.exchange
        while todo and not self._busy and not exchange.over:
            item = todo.popleft()
            if item is _END:
                self._finish()
                return
            try:
                message = Message(unframe(item, self.encoding, exchange.relay.settings.decompressed))
            except WireFault as fault:
                exchange.deny(fault.deny)
                return
            result = self.hook(message)
            if type(result) is GeneratorType:
                self._busy = True
                exchange.drive(result, partial(self._answered, item, message))
            else:
                self._forward(item, message, result)
        if not self._busy and not todo:
            self._uncharge()

    def _answered(self, item: bytes, message: Message, result: Deny | list[Message]) -> None:
        self._busy = False
        if not self.exchange.over:
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
        exchange = self.exchange
        if exchange.over:
            return
        if isinstance(result, Deny):
            exchange.deny(result)
            return
        for message in result:
            self.send(frame(message.raw), False)
        self._uncharge()
        self.finished()

    def _charge(self, count: int) -> None:
        if not self.exchange.relay.charge(count):
            raise WireFault(Code.RESOURCE_EXHAUSTED, "relay.buffered", "too many messages are held for inspection")
        self._charged += count
        self.credit(count)

    def _uncharge(self) -> None:
        """Give back what is charged for messages that have left for the sink."""
        have = self._deframer.have
        self.exchange.relay.uncharge(self._charged - have)
        self._charged = have

    def release(self) -> None:
        self.exchange.relay.uncharge(self._charged)
        self._charged = 0
        self._todo.clear()
        self._inbox = None


class InspectedRequest(Inspecting, RequestSide):
    __slots__ = ()

    def stalled(self) -> bool:
        up = self.exchange.up
        return bool(self._unsent) if up is None else up.queue is not None


class InspectedResponse(Inspecting, ResponseSide):
    __slots__ = ()

    def stalled(self) -> bool:
        return self.exchange.down.queue is not None
