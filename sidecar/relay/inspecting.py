"""A direction that some link looks at: whole messages, charged to a budget while they are here.

Window is given back as bytes enter a message, since a message may be larger than the window; once messages wait for
the sink, nothing more is taken from the source. What would keep the event loop is not done on it: long messages are
inflated and packed in a thread, and many short ones give way to other calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from interceptors.contract import Code, Deny, Message
from sidecar.logs import Log
from sidecar.relay import responding
from sidecar.relay.aside import Job
from sidecar.relay.directions import Direction
from sidecar.relay.grpc_wire import PREFIX, Deframer, WireFault, cardinality, frame, unframe
from sidecar.relay.sides import Side

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

T = TypeVar("T")
_log = Log("relay")
_END = None  # stands in `_todo` for the half-close
_AT_ONCE: Final = 128 << 10  # bytes inflated on the loop: below a millisecond
_PACKED_AT_ONCE: Final = 16 << 10  # bytes packed on the loop: the same, for packing takes ten times as long
_EVENTS: Final = 64  # that links have emitted: a call that never ends must not keep them all
_TURN: Final = 64  # messages looked at before others have their turn
_BUFFERED: Final = Deny(Code.RESOURCE_EXHAUSTED, "relay.buffered", "too many messages are held for inspection")
_DEFECT: Final = Deny(Code.INTERNAL, "relay.defect", "internal error")


def _inflate(item: bytes, encoding: bytes, limit: int) -> bytes | Deny:
    """A message inflated, or what is wrong with it: raised, it would come back with the frames that it passed."""
    try:
        raw = unframe(item, encoding, limit)
    except WireFault as fault:
        return fault.deny
    if raw is None:
        public = f"message inflates beyond {limit} bytes"
        return Deny(Code.RESOURCE_EXHAUSTED, "message.decompressed_too_large", public)
    return raw


class Inspecting(Side):
    """Cuts messages out, gives each to the plan, and sends what the plan gives back."""

    __slots__ = ("_charged", "_deframer", "_job", "_kept", "_todo")

    def __init__(self, exchange: Exchange, direction: Direction, limit: int, unary: bool) -> None:
        super().__init__(exchange, direction, limit, unary)
        self.inspects = True
        self._deframer = Deframer(limit)
        self._todo: deque[bytes | None] = deque()  # messages cut out, and _END
        self._job: Job | None = None  # what is done aside
        self._charged = 0
        self._kept = 0  # bytes of messages in a row for which links gave nothing: they may hold them

    def take(self, payload: bytes, end: bool) -> None:
        if not (end and self.unary and self._straight(payload)):
            self._cut(payload, end)
            self.catch_up()

    def _straight(self, payload: bytes) -> bool:
        """The usual request: one plain message that comes with its end, before which nothing came.

        It is looked at and sent on in one go, and so is never held. False where the payload is something else.
        """
        size, exchange = len(payload) - PREFIX, self.exchange
        if (
            self.count
            or self._working
            or size < 0
            or payload[0]
            or int.from_bytes(payload[1:PREFIX], "big") != size
            or size > self.limit
            or self._deframer.have
            or self.direction.response
            or exchange.plan.request_flushes
        ):
            return False
        self.count = 1
        self.credit(PREFIX + size)
        self._working = True
        message = Message(payload[PREFIX:])
        result = self._shown(message)
        if type(result) is list and len(result) == 1 and result[0] is message:
            self.direction.close(self, payload)
            self._working = False
        else:
            self._working = False
            if self._hold(len(payload)):
                self._todo.append(_END)
                self._judged(payload, message, result)
                self.catch_up()
        if not exchange.over:
            self._settle()
        return True

    def catch_up(self) -> None:
        """Look at what waits, one message at a time, until a hook asks, the sink stalls, or nothing is left.

        What happens on the way (an answer at once, the sink drained) comes back here and leaves it to this loop.
        """
        if self._working:
            return
        self._working = True
        todo, exchange = self._todo, self.exchange
        looked, dear = 0, False
        while (todo or self._inbox) and not self._busy and not exchange.over and not self.stalled():
            if looked == _TURN or (dear and exchange.front.late()):
                self.wait()
                exchange.front.later(self.go)
            elif todo:
                looked += 1
                item = todo.popleft()
                dear = item is not None and item[0] > 0  # it is inflated, and perhaps packed
                self._look(item)
            else:
                assert self._inbox is not None
                payload = self._inbox.popleft()
                self._cut(payload, self._inbox_ends and not self._inbox)
        self._working = False
        if not exchange.over:
            self._settle()

    def go(self) -> None:
        self._busy = False
        self.catch_up()

    def drained(self) -> None:
        if not self._busy:
            self.catch_up()

    def stalled(self) -> bool:
        return self.direction.stalled(self)

    @property
    def partial(self) -> bool:
        return self._deframer.have > 0

    def _cut(self, payload: bytes, end: bool) -> None:
        """Take a payload apart into messages."""
        deframer = self._deframer
        try:
            if payload:
                if not self._hold(len(payload)):
                    return
                self.credit(len(payload))
                self._todo.extend(deframer.feed(payload))
                self.count = deframer.count
            if end:
                deframer.finish()
                self._todo.append(_END)
            if self.unary:
                cardinality(self.count, end and not self.direction.response)
        except WireFault as fault:
            self.misused(fault.deny)

    def _look(self, item: bytes | None) -> None:
        """Show one message to the links, or the half-close."""
        if item is _END:
            self._finish()
            return
        settings = self.exchange.relay.settings
        try:
            raw = unframe(item, self.encoding, min(settings.decompressed, _AT_ONCE) if item[0] else 0)
        except WireFault as fault:
            self.misused(self.direction.refusal(fault.deny))
            return
        if raw is None:
            self._aside(partial(_inflate, item, self.encoding, settings.decompressed), partial(self._inflated, item))
        else:
            self._show(item, raw)

    def _aside(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run `work` in a thread and go on with `done`, unless the call has ended meanwhile."""
        exchange = self.exchange

        def back(future: asyncio.Future[T]) -> None:
            self._busy = False
            self._job = None
            try:
                done(future.result())
                self.catch_up()
            except Exception as error:
                # A defect of ours, or no memory: what was not looked at does not pass.
                _log.error("relay_defect", error, method=exchange.call.method.path)
                error.__traceback__ = None  # it holds the message
                exchange.deny(_DEFECT)

        self._busy = True
        self._job = exchange.relay.aside.run(exchange.front, work, back)

    def _inflated(self, item: bytes, raw: bytes | Deny) -> None:
        if isinstance(raw, Deny):
            self.misused(self.direction.refusal(raw))
            return
        if self._hold(len(raw)):
            self._show(item, raw)

    def _show(self, item: bytes, raw: bytes) -> None:
        """Give a message to the links."""
        message = Message(raw)
        self._judged(item, message, self._shown(message))

    def _shown(self, message: Message) -> Any:
        """What the links make of a message."""
        exchange = self.exchange
        relay = exchange.relay
        exchange.call.now = relay.wall()
        began = relay.timer()
        result = self.direction.hook(exchange, message)
        exchange.chain_s += relay.timer() - began
        if len(exchange.call.events) >= _EVENTS:
            exchange.publish()
        return result

    def _judged(self, item: bytes, message: Message, result: Any) -> None:
        if isinstance(result, Generator):
            self._busy = True
            self.exchange.drive(result, partial(self._answered, item, message))
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
        self._kept = 0 if result else self._kept + len(message.raw)
        encoding = self.encoding if item[0] else b""
        size = sum([len(out.raw) for out in result if out is not message]) if encoding else 0
        if size > _PACKED_AT_ONCE:
            # What was inflated aside is charged already.
            charged = size + len(message.raw) if len(message.raw) <= _AT_ONCE else 0
            if self._hold(charged):
                work = partial(self._packed, item, message, result, encoding)
                self._aside(work, partial(self._send_packed, charged))
        else:
            self._send_all(self._packed(item, message, result, encoding))

    @staticmethod
    def _packed(item: bytes, message: Message, result: list[Message], encoding: bytes) -> list[bytes]:
        return [item if out is message else frame(out.raw, encoding) for out in result]

    def _send_packed(self, charged: int, frames: list[bytes]) -> None:
        self._keep(self._charged - charged)
        self._send_all(frames)

    def _send_all(self, frames: list[bytes]) -> None:
        for each in frames:
            self.send(each, False)

    def _finish(self) -> None:
        """Half-close: the flush hooks, then the sink's end."""
        exchange = self.exchange
        exchange.call.now = exchange.relay.wall()
        result: Any = exchange.plan.flush(exchange.call, self.direction.response)
        if isinstance(result, Generator):
            self._busy = True
            exchange.drive(result, self._flushed)
        else:
            self._flushed(result)

    def _flushed(self, result: Deny | list[Message]) -> None:
        self._busy = False
        if isinstance(result, Deny):
            self.exchange.deny(result)
            return
        self._kept = 0
        if result and self.direction.response and not self.exchange.head_sent:
            responding.head_first(self.exchange)
        for message in result:
            self.send(frame(message.raw), False)
        self.direction.finished(self)

    def _hold(self, count: int) -> bool:
        """Charge for `count` bytes of messages; where there is no memory for them the call is over, and it is False."""
        if not self.exchange.relay.charge(self.exchange.front, count):
            self.exchange.deny(_BUFFERED)
            return False
        self._charged += count
        return True

    def _settle(self) -> None:
        """Give back what is charged for messages that have left, and charge what links have added or keep."""
        if not self._todo and not self._busy:
            self._keep(self._deframer.have + self._kept + self.direction.queued(self))

    def _keep(self, count: int) -> None:
        if count < self._charged:
            self.exchange.relay.uncharge(self.exchange.front, self._charged - count)
            self._charged = count
        elif count > self._charged:
            self._hold(count - self._charged)

    def let_go(self) -> None:
        self._keep(0)

    def release(self) -> None:
        if self._job is not None:
            self.exchange.relay.aside.drop(self._job)
            self._job = None
        self.unsent, self.unsent_size = None, 0
        self._todo.clear()
        self._inbox = None
        if self._deframer.have:
            self._deframer = Deframer(self.limit)
        self._keep(min(self._charged, self.direction.queued(self)))
