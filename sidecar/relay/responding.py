"""How a model server's answer travels on: its head, its trailers, and what links make of them.

The messages between are `sides`'; resets, refusals and second attempts are `driver`'s. No state here: it is the call's.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from interceptors.contract import Code, Deny, Headers, Trailers
from sidecar.internal.mac import SealError
from sidecar.relay.answer import answer_of, as_trailers, edited_block, taken_apart
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import ResponseHead, TrailerBlock
from sidecar.relay.internal_calls import PUBLIC

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange

_UNAVAILABLE: Final = int(Code.UNAVAILABLE)


def begin(exchange: Exchange, head: ResponseHead, end: bool) -> None:
    """The model server answers; with `end` by trailers only."""
    relay, response = exchange.relay, exchange.response
    assert response is not None
    if exchange.nonce and head.status >= 200:
        assert relay.own is not None
        try:
            head = relay.own.proved(exchange.call, exchange.nonce, head)
        except SealError as error:
            exchange.fail(Code.UNAVAILABLE, error.why, PUBLIC)
            return
    answer = answer_of(head)
    if head.status < 200:
        exchange.connection.send_informational(exchange.down, answer.block)
        exchange.front.touch()
        return
    if end and answer.status == _UNAVAILABLE and exchange.tried_again(answer.fields):
        return
    exchange.responding = True
    exchange.first_s = relay.timer() - exchange.opened
    exchange.request_side.replay = None
    if end:
        exchange.last = head
        response.data(b"", True)
        return
    if head.status != 200:
        _not_grpc(exchange, head)
        return
    if exchange.asked_s > 0.0:
        exchange.asks_no_more(True)
    response.encoding = answer.encoding
    if not exchange.plan.edits_headers:
        _send_head(exchange, answer.block)
        return
    headers = Headers(answer.fields)
    exchange.call.now = relay.wall()
    result: Any = exchange.plan.headers(exchange.call, headers)
    if isinstance(result, Generator):
        response.wait()
        exchange.drive(result, lambda denied: _begun(exchange, denied, head, headers, True))
    else:
        _begun(exchange, result, head, headers, False)


def _begun(exchange: Exchange, denied: Deny | None, head: ResponseHead, headers: Headers, waited: bool) -> None:
    if exchange.over:
        return
    if denied is not None:
        exchange.deny(denied)
        return
    block = answer_of(head).block
    if headers.changed:
        block = encode(((b":status", b"%d" % head.status), *headers.fields))
    _send_head(exchange, block)
    if waited:
        assert exchange.response is not None
        exchange.response.go()


def _not_grpc(exchange: Exchange, head: ResponseHead) -> None:
    """An answer from something else than a gRPC server: its body holds no messages, its head says it all."""
    assert exchange.up is not None
    assert exchange.up_wire is not None
    exchange.up_wire.connection.reset(exchange.up, ErrorCode.CANCEL)
    exchange.last = head
    finish(exchange)


def _send_head(exchange: Exchange, block: bytes) -> None:
    exchange.head_sent = True
    exchange.connection.send_head(exchange.down, block, False)
    if not exchange.front.dirty:
        exchange.front.touch()


def head_first(exchange: Exchange) -> None:
    """Links release messages of their own in an answer that was trailers only: it gets a head."""
    assert isinstance(exchange.last, ResponseHead)
    block, exchange.last = taken_apart(exchange.last)
    _send_head(exchange, block)


def on_trailers(exchange: Exchange, trailers: TrailerBlock) -> None:
    response = exchange.response
    assert response is not None
    exchange.last = trailers
    if response.idle:
        finish(exchange)
    else:
        response.data(b"", True)


def finish(exchange: Exchange) -> None:
    """Every message of the response has gone to the client: trailers next."""
    last = exchange.last
    if last is None:
        # DATA with END_STREAM ended the response: there is no status, which the client is left to see.
        exchange.conclude(int(Code.UNKNOWN), b"")
        return
    answer = answer_of(last)
    if not exchange.plan.edits_trailers:
        exchange.conclude(answer.status, answer.block)
        return
    trailers = as_trailers(last)
    exchange.call.now = exchange.relay.wall()
    result: Any = exchange.plan.trailers(exchange.call, trailers)
    if isinstance(result, Generator):
        exchange.drive(result, lambda denied: _finished(exchange, denied, last, trailers))
    else:
        _finished(exchange, result, last, trailers)


def _finished(exchange: Exchange, denied: Deny | None, last: ResponseHead | TrailerBlock, trailers: Trailers) -> None:
    if exchange.over:
        return
    if denied is not None:
        exchange.deny(denied)
        return
    answer = answer_of(last)
    if trailers.changed or trailers.headers.changed:
        exchange.conclude(int(trailers.status), edited_block(last, trailers))
    else:
        exchange.conclude(answer.status, answer.block)
