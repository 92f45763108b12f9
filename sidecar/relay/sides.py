"""One direction of one call: from a source stream, through the message hooks of the plan, to a sink stream.

Where no link looks at messages, payloads stream through (`Passage`) and window is given back as they leave. Where
one does, messages are cut out (`Deframer`), charged to a budget while they are here, and given to the plan.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from interceptors.contract import Code, Deny, Message, View
from sidecar.relay.grpc_wire import HOLD, Deframer, Passage, WireFault, frame, unframe

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

_END = None  # stands in `_todo` for the half-close


class Side:
    """What both directions share; subclasses know their streams and hooks."""

    __slots__ = (
        "_busy", "_charged", "_deframer", "_inbox", "_passage", "_todo", "encoding", "ended", "exchange", "unary",
    )  # fmt: skip
    response: bool

    def __init__(self, exchange: Exchange, view: View, limit: int, unary: bool) -> None:
        self.exchange = exchange
        self.unary = unary
        self.encoding = b""
        self.ended = False
        self._busy = False  # a hook asked something and waits
        self._charged = 0
        self._inbox: deque[tuple[bytes, bool]] | None = None  # payloads not yet looked at, their window not returned
        self._todo: deque[bytes | None] | None = None  # messages cut out, and _END
        self._passage: Passage | None = None
        self._deframer: Deframer | None = None
        if view is View.METADATA:
            self._passage = Passage(limit)
        else:
            self._deframer = Deframer(limit)

    @property
    def count(self) -> int:
        """Messages that came in."""
        counter = self._passage or self._deframer
        assert counter is not None
        return counter.count

    def wait(self) -> None:
        """Keep what comes until `go`."""
        self._busy = True

    def go(self) -> None:
        self._busy = False
        self._catch_up()

    def data(self, payload: bytes, end: bool) -> None:
        """A payload from the source."""
        if self._busy or self._inbox or self.stalled():
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append((payload, end))
        else:
            self._take(payload, end)

    def drained(self) -> None:
        """What waited in the sink has left."""
        if self._inbox and not self._busy:
            self._catch_up()

    def _catch_up(self) -> None:
        if self._todo:
            self._work()
        inbox = self._inbox
        while inbox and not self._busy and not self.exchange.over and not self.stalled():
            self._take(*inbox.popleft())

    def _take(self, payload: bytes, end: bool) -> None:
        try:
            if self._passage is not None:
                ready = self._passage.feed(payload) if payload else payload
                if end:
                    self._passage.finish()
                self._check_count(self._passage.count, end)
                if end:
                    self.ended = True
                    self._close(ready)
                elif ready:
                    self.send(ready, False)
                return
            assert self._deframer is not None
            if self._todo is None:
                self._todo = deque()
            if payload:
                self._charge(len(payload))
                self._todo.extend(self._deframer.feed(payload))
            if end:
                self._deframer.finish()
            self._check_count(self._deframer.count, end)
            if end:
                self.ended = True
                self._todo.append(_END)
        except WireFault as fault:
            self.exchange.deny(fault.deny)
            return
        self._work()

    def _close(self, last: bytes) -> None:
        """The last payload of a side that streams through, which no link flushes."""
        raise NotImplementedError

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

    def _work(self) -> None:
        todo, exchange = self._todo, self.exchange
        assert todo is not None
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
            self._catch_up()

    def _forward(self, item: bytes, message: Message, result: Deny | list[Message]) -> None:
        if isinstance(result, Deny):
            self.exchange.deny(result)
            return
        for out in result:
            self.send(item if out is message else frame(out.raw, self.encoding if item[0] else b""), False)

    def _check_count(self, count: int, end: bool) -> None:
        """grpc/doc/statuscodes.md: a cardinality violation is UNIMPLEMENTED."""
        if self.unary and count > 1:
            raise WireFault(Code.UNIMPLEMENTED, "message.cardinality", "a second message on a unary side")

    def _charge(self, count: int) -> None:
        if not self.exchange.relay.charge(count):
            raise WireFault(Code.RESOURCE_EXHAUSTED, "relay.buffered", "too many messages are held for inspection")
        self._charged += count
        self.credit(count)

    def _uncharge(self) -> None:
        """Give back what is charged for messages that have left for the sink."""
        have = self._deframer.have if self._deframer is not None else 0
        self.exchange.relay.uncharge(self._charged - have)
        self._charged = have

    def adopt(self, earlier: Side) -> None:
        """Take over what came before the plan was deepened; nothing of it has been looked at."""
        self._inbox, earlier._inbox = earlier._inbox, None

    def release(self) -> None:
        """The call is over: nothing is held any more."""
        self.exchange.relay.uncharge(self._charged)
        self._charged = 0
        self._inbox = self._todo = None

    @property
    def by_messages(self) -> bool:
        return self._deframer is not None

    def stalled(self) -> bool:
        """Whether messages already cut out still wait for the sink."""
        raise NotImplementedError

    def hook(self, message: Message) -> Any:
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
    """From the client to the model server."""

    __slots__ = ("_unsent", "_unsent_size", "replay")
    response = False

    def __init__(self, exchange: Exchange, view: View, limit: int, unary: bool) -> None:
        super().__init__(exchange, view, limit, unary)
        self._unsent: list[tuple[bytes, bool]] = []  # waits for the upstream stream
        self._unsent_size = 0
        # Sent and kept, so that a stream the upstream refused can be opened again; None once too long or answered.
        self.replay: list[tuple[bytes, bool]] | None = []

    def stalled(self) -> bool:
        if self._deframer is None:
            return False
        up = self.exchange.up
        return bool(self._unsent) if up is None else up.queue is not None

    def hook(self, message: Message) -> Any:
        return self.exchange.plan.request(self.exchange.call, message)

    def credit(self, count: int) -> None:
        self.exchange.credit_request(count)

    def _check_count(self, count: int, end: bool) -> None:
        super()._check_count(count, end)
        if self.unary and end and not count:
            raise WireFault(Code.UNIMPLEMENTED, "message.cardinality", "no message on a unary side")

    def send(self, payload: bytes, end: bool) -> None:
        exchange = self.exchange
        up = exchange.up
        if up is None:
            self._unsent.append((payload, end))
            self._unsent_size += len(payload)
            # A unary request that is not whole, or is followed by more, never reaches the model server: it is
            # opened upstream when its side has ended, or when it is too long to be kept.
            if end or not self.unary or self._unsent_size > HOLD:
                exchange.open_upstream()
            return
        if self.replay is not None:
            self._keep(payload, end)
        assert exchange.up_wire is not None
        if exchange.up_wire.connection.send_data(up, payload, end) and self._passage is not None:
            exchange.credit_request(len(payload))
        exchange.up_wire.touch()

    def _keep(self, payload: bytes, end: bool) -> None:
        assert self.replay is not None
        self._unsent_size += len(payload)
        if self._unsent_size > 4 * HOLD:
            self.replay = None
        else:
            self.replay.append((payload, end))

    def _close(self, last: bytes) -> None:
        self.send(last, True)

    def finished(self) -> None:
        if self._unsent and not self._unsent[-1][1]:
            payload, _ = self._unsent.pop()
            self._unsent_size -= len(payload)
            self.send(payload, True)
        else:
            self.send(b"", True)

    def opened(self) -> None:
        """The upstream stream is there: send what waited."""
        unsent, self._unsent, self._unsent_size = self._unsent, [], 0
        for payload, end in unsent:
            self.send(payload, end)
        self.drained()

    def again(self) -> None:
        """The upstream refused the stream: everything sent so far waits for another."""
        assert self.replay is not None
        self._unsent, self.replay = self.replay + self._unsent, []
        self._unsent_size = sum(len(payload) for payload, _ in self._unsent)


class ResponseSide(Side):
    """From the model server to the client."""

    __slots__ = ()
    response = True

    def stalled(self) -> bool:
        return self._deframer is not None and self.exchange.down.queue is not None

    def hook(self, message: Message) -> Any:
        return self.exchange.plan.response(self.exchange.call, message)

    def credit(self, count: int) -> None:
        self.exchange.credit_response(count)

    def send(self, payload: bytes, end: bool) -> None:
        exchange = self.exchange
        if exchange.connection.send_data(exchange.down, payload, end) and self._passage is not None:
            exchange.credit_response(len(payload))

    def _close(self, last: bytes) -> None:
        if last:
            self.send(last, False)
        self.exchange.response_finished()

    def finished(self) -> None:
        self.exchange.response_finished()
