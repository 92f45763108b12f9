"""Services of our own beside TestService: bytes echoed, calls ended as asked, open calls counted.

Messages are plain bytes. A call's `x-peers-ending-bin` metadata tells how it shall end.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tests.peers.statuses import FIELD, Ending

SERVICE = "peers.Echo"
CENTURY = 100 * 365 * 86400.0  # seconds; grpcio tells the lack of a deadline as more than this


def _code(ending: Ending) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == ending.code)


def _end(context: grpc.ServicerContext, ending: Ending) -> None:
    context.set_trailing_metadata(ending.trailers())
    context.set_code(_code(ending))
    if ending.message:
        context.set_details(ending.message)


def _asked(context: grpc.ServicerContext) -> Ending | None:
    value = dict(context.invocation_metadata()).get(FIELD)
    return Ending.read(value) if isinstance(value, bytes) else None


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    ending = _asked(context)
    if ending is not None:
        _end(context, ending)
        if ending.bare and ending.code:
            context.abort(_code(ending), ending.message)
    return request


def bidi(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    ending = _asked(context)
    if ending is None:
        yield from requests
        return
    if not ending.bare:
        next(requests)
    for number in range(ending.after):
        yield b"%d" % number
    _end(context, ending)


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer only when the call has gone: by deadline or cancellation."""
    gone = threading.Event()
    if context.add_callback(gone.set):
        gone.wait(60)
    return b""


def remaining(request: bytes, context: grpc.ServicerContext) -> bytes:
    """The seconds until the call's deadline as the server sees it, or nothing where it has none."""
    left = context.time_remaining()
    return b"" if left is None or left > CENTURY else b"%.6f" % left


def metadata(request: bytes, context: grpc.ServicerContext) -> bytes:
    """The request's metadata as JSON, binary values in hex; headers and trailers return what begins with x-peers-."""
    fields = [(key, value) for key, value in context.invocation_metadata()]
    own = tuple(field for field in fields if field[0].startswith("x-peers-"))
    context.send_initial_metadata(own)
    context.set_trailing_metadata(own)
    return json.dumps([(key, value.hex() if isinstance(value, bytes) else value) for key, value in fields]).encode()


class OpenCalls(grpc.ServerInterceptor):
    """Counts, by method, the calls that the server has begun and those that have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()

    def report(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            return json.dumps({"open": dict(+self._open), "begun": dict(self._begun)}).encode()

    def _began(self, method: str, context: grpc.ServicerContext) -> None:
        def ended() -> None:
            with self._lock:
                self._open[method] -= 1

        with self._lock:
            self._begun[method] += 1
            self._open[method] += 1
        if not context.add_callback(ended):
            ended()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        method: str = details.method
        if handler is None or method.startswith("/peers.State/"):
            return handler
        name = "_".join(
            ("stream" if streams else "unary") for streams in (handler.request_streaming, handler.response_streaming)
        )
        behaviour = getattr(handler, name)

        def counted(request: Any, context: grpc.ServicerContext) -> Any:
            self._began(method, context)
            return behaviour(request, context)

        make = getattr(grpc, f"{name}_rpc_method_handler")
        return make(counted, handler.request_deserializer, handler.response_serializer)


class Flood:
    """Streams that one side floods while the other does not read; `sent` counts what this side could send."""

    SIZE = 1 << 16  # bytes of a message
    MOST = 8192  # messages: half a gigabyte, more than anyone may hold

    def __init__(self) -> None:
        self.sent = 0

    def pour(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Numbered messages, as fast as the client takes them."""
        for number in range(self.MOST):
            yield b"%08d" % number + bytes(self.SIZE - 8)
            self.sent = number + 1

    def report(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        return b"%d" % self.sent

    def ignore(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Reads nothing until the call has gone."""
        yield b"listening"
        wait(b"", context)


def handlers(calls: OpenCalls) -> tuple[grpc.GenericRpcHandler, ...]:
    one, many = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    flood = Flood()
    echo: dict[str, Any] = {
        "Unary": one(unary),
        "Bidi": many(bidi),
        "Wait": one(wait),
        "Remaining": one(remaining),
        "Metadata": one(metadata),
    }
    echo |= {"Pour": grpc.unary_stream_rpc_method_handler(flood.pour), "Ignore": many(flood.ignore)}
    return (
        grpc.method_handlers_generic_handler(SERVICE, echo),
        grpc.method_handlers_generic_handler("peers.State", {"Calls": one(calls.report), "Poured": one(flood.report)}),
    )
