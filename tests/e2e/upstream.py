"""A model server of one generic service, in this process, that remembers whether it was called."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

UNARY = "/e2e.Echo/Unary"
STREAM = "/e2e.Echo/Stream"


class Echo(grpc.GenericRpcHandler):
    """Sends messages back. calls: methods called so far."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def service(self, details: Any) -> Any:
        self.calls.append(details.method)
        if details.method == UNARY:
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        if details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: iter(requests))
        return None


@contextmanager
def echo(at: str = "127.0.0.1:0") -> Iterator[tuple[Echo, str]]:
    """The service and its address. at: "host:port", port 0 for a free one."""
    handler = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(32))  # a thread for each open stream
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port(at)
    server.start()
    try:
        yield handler, f"{at.rpartition(':')[0]}:{port}"
    finally:
        server.stop(None).wait()
