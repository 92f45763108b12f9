"""A model server of grpcio's asyncio that says whose connection a call came by: `python -m bench.harness.echo_server`.

It prints its port and serves until it is killed. `/bench.Echo/Stream` answers each message, and every other method of
`bench.Echo` its one, with the caller's address: a worker of the sidecar, for each has connections of its own.
`/bench.Told/Counts` tells how many calls of each method have come, as JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

UNARY, STREAM, COUNTS = "/bench.Echo/Unary", "/bench.Echo/Stream", "/bench.Told/Counts"


class Echo(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def service(self, details: Any) -> Any:
        self._counts[details.method] += 1
        if details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._told if details.method == COUNTS else self._unary)

    async def _unary(self, request: bytes, context: Any) -> bytes:
        return str(context.peer()).encode()

    async def _told(self, request: bytes, context: Any) -> bytes:
        return json.dumps(self._counts).encode()

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield str(context.peer()).encode()


async def serve() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
