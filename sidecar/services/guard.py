"""What every call passes before its method: proof that the relay sent it, and ours that we are whom it means to reach.

Methods get a context that knows the caller (`internal.called`), and may raise: what callers learn of it, `errors` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc

from sidecar.errors import SidecarError
from sidecar.internal import mac
from sidecar.internal.called import CalledContext
from sidecar.internal.mac import Caller, SealedCall, SealError
from sidecar.internal.replays import Replays
from sidecar.logs import Log
from sidecar.services.errors import UnknownMethodError, status_of
from sidecar.services.handlers import Handler, behaviour_of, like, readable
from sidecar.services.shares import Shares

log = Log("services")


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
        handler = continuation(details) or _unknown(details.method)
        proof = mac.prove(self._key, details.method, call.nonce)
        guarded = _Guarded(handler, call.caller, proof, self._shares)
        return like(handler, guarded.many if handler.response_streaming else guarded.one)

    def _admit(self, details: grpc.HandlerCallDetails) -> SealedCall:
        sealed = [value for name, value in details.invocation_metadata if name == mac.CALL_HEADER]
        if len(sealed) != 1:
            raise SealError("internal.missing", f"a call has {len(sealed)} seals, expected 1")
        now = self._clock()
        call = mac.unseal(self._key, details.method, cast(bytes, sealed[0]), now)
        self._replays.admit(call, now)
        return call


class _Guarded:
    """One call that proved itself: what stands around its method."""

    def __init__(self, handler: Handler, caller: Caller, proof: bytes, shares: Shares | None) -> None:
        self._behaviour = behaviour_of(handler)
        self._streaming = handler.request_streaming
        self._caller = caller
        self._proof = proof
        self._shares = shares

    def one(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._around(request, context) as response:
            return response

    def many(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._around(request, context) as responses:
            yield from responses

    @contextmanager
    def _around(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.send_initial_metadata(((mac.PROOF_HEADER, self._proof),))
        try:
            self._count(context)
            yield self._behaviour(readable(request, self._streaming), CalledContext(context, self._caller))
        except grpc.RpcError:
            raise  # the caller is gone, which grpcio tells by it
        except Exception as error:
            if not isinstance(error, SidecarError):
                log.error("service_defect", error)
            context.abort_with_status(status_of(error))

    def _count(self, context: grpc.ServicerContext) -> None:
        shares, caller = self._shares, self._caller
        if shares is None:
            return
        shares.take(caller)
        if not context.add_callback(lambda: shares.give(caller)):
            shares.give(caller)  # the call is over already


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
