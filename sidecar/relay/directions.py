"""What requests and responses do not have in common: both ends' streams, and what their faults mean.

A direction has no state: that of a call is its sides'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from interceptors.contract import Code, Deny, Message
from sidecar.relay import responding
from sidecar.relay.grpc_wire import ENCODINGS, HOLD
from sidecar.relay.http2.fields import TrailerBlock
from sidecar.relay.sides import Side, gather

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange


class Direction:
    response = False

    def on_trailers(self, exchange: Exchange, trailers: TrailerBlock) -> None:
        raise NotImplementedError

    def on_reset(self, exchange: Exchange, code: int, reason: str) -> None:
        raise NotImplementedError

    def on_refused(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def on_sent(self, exchange: Exchange, count: int) -> None:
        raise NotImplementedError

    def misused(self, exchange: Exchange, deny: Deny) -> None:
        raise NotImplementedError

    def hook(self, exchange: Exchange, message: Message) -> Any:
        """The plan's hook for a message on this side."""
        raise NotImplementedError

    def credit(self, exchange: Exchange, count: int) -> None:
        raise NotImplementedError

    def send(self, side: Side, payload: bytes, end: bool) -> None:
        raise NotImplementedError

    def send_view(self, side: Side, payload: memoryview) -> bool:
        """Send what is not the last, and give its window back, if it may go at once; else False."""
        raise NotImplementedError

    def finished(self, side: Side) -> None:
        """Every message has been sent: end the sink's side."""
        raise NotImplementedError

    def close(self, side: Side, last: bytes) -> None:
        """The last payload of a side whose links have held nothing back."""
        raise NotImplementedError

    def blocked(self, side: Side) -> bool:
        """Whether something waits for the sink."""
        raise NotImplementedError

    def stalled(self, side: Side) -> bool:
        """Whether so much waits for the sink that messages are to wait where they are."""
        raise NotImplementedError

    def queued(self, side: Side) -> int:
        """Bytes that wait for the sink."""
        raise NotImplementedError

    def refusal(self, deny: Deny) -> Deny:
        """What a message that cannot be read comes to."""
        raise NotImplementedError


class Requests(Direction):
    """From the client to the model server; the side owns the client's stream."""

    def on_trailers(self, exchange: Exchange, trailers: TrailerBlock) -> None:
        # PROTOCOL-HTTP2.md, "Request": a request is headers, messages and END_STREAM; nothing travels in trailers.
        deny = Deny(Code.INVALID_ARGUMENT, "request.trailers", "a request has trailers, expected none")
        self.misused(exchange, deny)

    def on_reset(self, exchange: Exchange, code: int, reason: str) -> None:
        exchange.on_client_gone(code, reason)

    def on_refused(self, exchange: Exchange) -> None:
        exchange.on_client_gone()

    def on_sent(self, exchange: Exchange, count: int) -> None:
        exchange.on_response_sent(count)

    def misused(self, exchange: Exchange, deny: Deny) -> None:
        exchange.blamed = True
        exchange.deny(deny)

    def hook(self, exchange: Exchange, message: Message) -> Any:
        if exchange.pool is None and (denied := exchange.route_by(message.raw)) is not None:
            return denied
        return exchange.plan.request(exchange.call, message)

    def credit(self, exchange: Exchange, count: int) -> None:
        exchange.credit_request(count)

    def send(self, side: Side, payload: bytes, end: bool) -> None:
        exchange = side.exchange
        if end:
            exchange.asked()
        if exchange.up is not None:
            side.send_on(payload, end)
        elif end and side.unsent is None and exchange.open_at_once():
            side.replay = []
            side.send_on(payload, end)
        else:
            if side.unsent is None:
                side.unsent = []
            gather(side.unsent, payload)
            side.unsent_size += len(payload)
            side.ended = end
            # A unary request that is not whole, or is followed by more, never reaches the model server: its
            # stream is opened when the side has ended, or when it is too long to be kept; one that is looked at is
            # kept whole already.
            if end or not side.unary or (side.unsent_size > HOLD and not side.inspects):
                exchange.open_upstream()

    def send_view(self, side: Side, payload: memoryview) -> bool:
        exchange = side.exchange
        wire, up = exchange.up_wire, exchange.up
        if wire is None or up is None or side.replay is not None or not wire.connection.send_view(up, payload):
            return False
        exchange.credit_request(len(payload))
        wire.hasten()
        return True

    def finished(self, side: Side) -> None:
        unsent = side.unsent
        if unsent:
            payload = unsent.pop()
            side.unsent_size -= len(payload)
            self.send(side, payload, True)
        else:
            self.send(side, b"", True)

    def close(self, side: Side, last: bytes) -> None:
        self.send(side, last, True)

    def blocked(self, side: Side) -> bool:
        up = side.exchange.up
        return side.exchange.waiting if up is None else up.queue is not None

    def stalled(self, side: Side) -> bool:
        up = side.exchange.up
        if up is None:
            return side.exchange.waiting and bool(side.unsent)
        return up.queue is not None

    def queued(self, side: Side) -> int:
        up = side.exchange.up
        return side.unsent_size if up is None else up.queued

    def refusal(self, deny: Deny) -> Deny:
        if deny.code is not Code.UNIMPLEMENTED:
            return deny
        # grpc/doc/compression.md: who does not know an encoding says which it does.
        return replace(deny, trailers=((b"grpc-accept-encoding", ENCODINGS),))


class Responses(Direction):
    """From the model server to the client; the side owns the stream towards the model server."""

    response = True

    def on_trailers(self, exchange: Exchange, trailers: TrailerBlock) -> None:
        if not exchange.over:
            responding.on_trailers(exchange, trailers)

    def on_reset(self, exchange: Exchange, code: int, reason: str) -> None:
        exchange.on_upstream_reset(code, reason)

    def on_refused(self, exchange: Exchange) -> None:
        exchange.on_upstream_refused()

    def on_sent(self, exchange: Exchange, count: int) -> None:
        exchange.on_request_sent(count)

    def misused(self, exchange: Exchange, deny: Deny) -> None:
        exchange.deny(deny)

    def hook(self, exchange: Exchange, message: Message) -> Any:
        return exchange.plan.response(exchange.call, message)

    def credit(self, exchange: Exchange, count: int) -> None:
        exchange.credit_response(count)

    def send(self, side: Side, payload: bytes, end: bool) -> None:
        exchange = side.exchange
        if exchange.connection.send_data(exchange.down, payload, end) and not side.inspects:
            exchange.credit_response(len(payload))
        if not exchange.front.dirty:
            exchange.front.touch()

    def send_view(self, side: Side, payload: memoryview) -> bool:
        exchange = side.exchange
        if not exchange.connection.send_view(exchange.down, payload):
            return False
        exchange.credit_response(len(payload))
        exchange.front.hasten()
        return True

    def finished(self, side: Side) -> None:
        responding.finish(side.exchange)

    def close(self, side: Side, last: bytes) -> None:
        if last:
            self.send(side, last, False)
        responding.finish(side.exchange)

    def blocked(self, side: Side) -> bool:
        return side.exchange.down.queue is not None

    def stalled(self, side: Side) -> bool:
        return side.exchange.down.queue is not None

    def queued(self, side: Side) -> int:
        return side.exchange.down.queued

    def refusal(self, deny: Deny) -> Deny:
        # grpc/doc/compression.md: towards a caller, an encoding that the server should not have used is INTERNAL.
        return replace(deny, code=Code.INTERNAL) if deny.code is Code.UNIMPLEMENTED else deny


REQUESTS: Final = Requests()
RESPONSES: Final = Responses()
