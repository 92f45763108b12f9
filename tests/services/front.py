"""The relay's part towards the services process, played by grpcio: routes, seals, and demands the proof.

What the relay does with frames is done here with whole calls, by the same functions.
"""

from __future__ import annotations

import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import grpc

from sidecar.internal import mac
from sidecar.internal.mac import Caller, SealError
from sidecar.relay.routes import Route, Routes
from sidecar.services import catalogue
from sidecar.services.server import CALLS, STREAMS

LONGEST_S = 60.0  # of a call without a deadline, whose time that remains is beyond what a call may be given
ALICE = Caller("spiffe", "spiffe://example.org/team/alice", "default", "192.0.2.7")


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Front(grpc.GenericRpcHandler):
    """A server at `target` before the services in `directory` and a model server."""

    def __init__(self, directory: Path, key: bytes, model_server: str, caller: Caller = ALICE) -> None:
        self._key = key
        self._caller = caller
        self._routes = Routes(catalogue.streams())
        places = {
            Route.CALLS: f"unix:{directory / CALLS}",
            Route.STREAMS: f"unix:{directory / STREAMS}",
            Route.MODEL_SERVER: model_server,
        }
        self._channels = {route: grpc.insecure_channel(place) for route, place in places.items()}
        self._server = grpc.server(ThreadPoolExecutor(100), handlers=[self])
        self.target = f"unix:{directory / 'front.sock'}"
        self._server.add_insecure_port(self.target)
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()
        for channel in self._channels.values():
            channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from self._forward(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    def _forward(self, path: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        route = self._routes.route(path)
        if route is Route.BY_MESSAGE:
            first = next(requests)
            route, requests = self._routes.by_message(path, first), chain((first,), requests)
        nonce = secrets.token_bytes(mac.NONCE_SIZE)
        sealed = mac.seal(self._key, self._caller, path, nonce, boottime())
        metadata = () if route is Route.MODEL_SERVER else ((mac.CALL_HEADER, sealed),)
        method: Any = self._channels[route].stream_stream(path)
        answers = method(requests, metadata=metadata, timeout=min(context.time_remaining() or LONGEST_S, LONGEST_S))
        context.add_callback(lambda: answers.cancel() and None)
        try:
            head = answers.initial_metadata()
            if route is not Route.MODEL_SERVER:
                fields = [(name.encode(), b64encode(value)) for name, value in head if isinstance(value, bytes)]
                mac.verify_reply(self._key, path, nonce, fields)
            yield from answers
        except grpc.RpcError:
            self._fail(answers, context)
        except SealError:
            context.abort(grpc.StatusCode.UNAVAILABLE, "services are not available")
        if answers.code() is not grpc.StatusCode.OK:
            self._fail(answers, context)

    @staticmethod
    def _fail(answers: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(answers.trailing_metadata() or ())
        context.abort(answers.code(), answers.details())
