"""A gRPC server that answers as it is told: what clients do about answers that a sidecar seldom gives."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from langtrain.calls import FILES

Answer: TypeAlias = Callable[[Any, grpc.ServicerContext], Message]


class Heard(NamedTuple):
    """peer: the connection."""

    name: str
    request: Any
    metadata: dict[str, str | bytes]
    peer: str


class Answering(grpc.GenericRpcHandler):
    """heard: every call so far.  answers: by the method's name."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self._heard: list[Heard] = []
        self._lock = threading.Lock()
        self._requests = {
            method.name: GetMessageClass(method.input_type)
            for file in FILES
            for service in file.services_by_name.values()
            for method in service.methods
        }

    @property
    def heard(self) -> list[Heard]:
        with self._lock:
            return list(self._heard)

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]

        def answer(request: Any, context: grpc.ServicerContext) -> Message:
            with self._lock:
                self._heard.append(Heard(name, request, dict(details.invocation_metadata), context.peer()))
            return self.answers[name](request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=self._requests[name].FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )


@contextmanager
def answering(answers: dict[str, Answer], tls: grpc.ServerCredentials | None = None) -> Iterator[tuple[Answering, str]]:
    """The server and its endpoint: a Unix socket, or with `tls` a port."""
    handler = Answering(answers)
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((handler,))
    with tempfile.TemporaryDirectory(prefix="lt") as directory:  # a Unix socket's path has 107 bytes
        if tls is None:
            endpoint = f"unix:{directory}/s"
            server.add_insecure_port(endpoint)
        else:
            endpoint = f"localhost:{server.add_secure_port('localhost:0', tls)}"
        server.start()
        try:
            yield handler, endpoint
        finally:
            server.stop(0).wait()


def failing(code: grpc.StatusCode, times: int, then: Message) -> Answer:
    """`code` so many times, and `then` from there on."""
    left = iter(range(times))

    def answer(_: Any, context: grpc.ServicerContext) -> Message:
        if next(left, None) is not None:
            context.abort(code, "not now")
        return then

    return answer
