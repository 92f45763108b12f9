"""grpcio's method handlers, of four shapes, taken apart and put together around another behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from sidecar.services.errors import MalformedError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for type checkers only
_MALFORMED: Final = object()  # in place of a request that is no message


def behaviour_of(handler: Handler) -> Callable[..., Any]:
    """What the service wrote for the method."""
    shapes = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    found: Callable[..., Any] = next(each for each in shapes if each is not None)
    return found


def like(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    """Of the same shape. What `behaviour` gets as request, or as requests, must pass `readable` first."""
    make: Callable[..., Handler] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour, _tolerant(handler.request_deserializer), handler.response_serializer)


def readable(request: Any, streaming: bool) -> Any:
    """The request, or an iterator of them. Raises MalformedError where one is no message of its type."""
    return map(_checked, request) if streaming else _checked(request)


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Where grpcio fails to read a request it answers by itself, without our proof: let us answer."""
    if deserialize is None:
        return None

    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            return _MALFORMED

    return read


def _checked(request: Any) -> Any:
    if request is _MALFORMED:
        raise MalformedError("a request message is not what its type says")
    return request
