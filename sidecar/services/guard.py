"""What every call passes before its method: proof that the relay sent it, and ours that we are whom it means to reach.

Methods get a context that knows the caller (`internal.called`), and may raise: what callers learn of it, `errors` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from sidecar.errors import SidecarError
from sidecar.internal import mac
from sidecar.internal.called import CalledContext
from sidecar.internal.mac import Caller, SealedCall, SealError
from sidecar.internal.replays import Replays
from sidecar.logs import Log
from sidecar.services.errors import MalformedError, UnknownMethodError, status_of
from sidecar.services.shares import Shares

log = Log("services")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for type checkers only
_MALFORMED: Final = object()  # in place of a request that is no message


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that did not prove itself, for the record. reason: "internal.forged", "internal.replayed", …"""

    reason: str
    method: str


class Guard(grpc.ServerInterceptor):
    """refused: told of each call that did not prove itself, on a thread of grpcio's.  clock: as of `mac`.

    shares: what streams count against, None on the server that has none that last.
    """

    def __init__(
        self,
        key: bytes,
        replays: Replays,
        clock: Callable[[], float],
        refused: Callable[[Refusal], None],
        shares: Shares | None = None,
    ) -> None:
        self._key = key
        self._replays = replays
        self._clock = clock
        self._refused = refused
        self._shares = shares

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Handler | None], details: grpc.HandlerCallDetails
    ) -> Handler:
        try:
            call = self._admit(details)
        except SealError as error:
            self._refused(Refusal(error.why, details.method))
            return _refusing(error)
        proof = mac.prove(self._key, details.method, call.nonce)
        return self._guarded(continuation(details) or _unknown(details.method), call.caller, proof)

    def _admit(self, details: grpc.HandlerCallDetails) -> SealedCall:
        sealed = [value for name, value in details.invocation_metadata if name == mac.CALL_HEADER]
        if len(sealed) != 1:
            raise SealError("internal.missing", f"a call has {len(sealed)} seals, expected 1")
        now = self._clock()
        call = mac.unseal(self._key, details.method, cast(bytes, sealed[0]), now)
        self._replays.admit(call, now)
        return call

    def _guarded(self, handler: Handler, caller: Caller, proof: bytes) -> Handler:
        """`handler`, with what stands around each method."""
        plain: Any = next(
            behaviour
            for behaviour in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if behaviour is not None
        )

        @contextmanager
        def around(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            context.send_initial_metadata(((mac.PROOF_HEADER, proof),))
            try:
                self._count(caller, context)
                result = plain(_readable(request, handler.request_streaming), CalledContext(context, caller))
                yield result
            except grpc.RpcError:
                raise  # the caller is gone, which grpcio tells by it
            except Exception as error:
                if not isinstance(error, SidecarError):
                    log.error("service_defect", error)
                context.abort_with_status(status_of(error))

        def one(request: Any, context: grpc.ServicerContext) -> Any:
            with around(request, context) as response:
                return response

        def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with around(request, context) as responses:
                yield from responses

        return _like(handler, many if handler.response_streaming else one)

    def _count(self, caller: Caller, context: grpc.ServicerContext) -> None:
        shares = self._shares
        if shares is None:
            return
        shares.take(caller)
        if not context.add_callback(lambda: shares.give(caller)):
            shares.give(caller)  # the call is over already


def _like(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    make: Callable[..., Handler] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour, _tolerant(handler.request_deserializer), handler.response_serializer)


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


def _readable(request: Any, streaming: bool) -> Any:
    return map(_checked, request) if streaming else _checked(request)


def _checked(request: Any) -> Any:
    if request is _MALFORMED:
        raise MalformedError("a request message is not what its type says")
    return request


def _unknown(method: str) -> Handler:
    def behaviour(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        raise UnknownMethodError(method)

    return grpc.stream_stream_rpc_method_handler(behaviour)


def _refusing(error: SealError) -> Handler:
    """Without our proof: who has not shown that he is the relay gets nothing made with the key."""

    def behaviour(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.abort_with_status(status_of(error))
        yield  # a generator, as grpcio wants it here; nothing is ever sent

    return grpc.stream_stream_rpc_method_handler(behaviour)
