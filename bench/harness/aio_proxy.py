"""A transparent proxy of grpc.aio, as short as one can be: a peer in benches.

python -m bench.harness.aio_proxy PORT UPSTREAM_PORT [CERTIFICATE KEY CLIENT_CA]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

OPTIONS = (("grpc.max_receive_message_length", 16 << 20), ("grpc.max_concurrent_streams", 1000))
OURS = ("user-agent", "te", "content-type", "grpc-timeout")  # what a channel sends by itself


class Proxy(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def service(self, details: Any) -> Any:
        forward: Any = self._channel.stream_stream(details.method)
        metadata = [(key, value) for key, value in details.invocation_metadata if key not in OURS]

        async def run(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            call = forward(requests, metadata=metadata, timeout=context.time_remaining())
            async for message in call:
                yield message
            context.set_trailing_metadata(await call.trailing_metadata())
            context.set_code(await call.code())
            context.set_details(await call.details())

        return grpc.stream_stream_rpc_method_handler(run)


async def serve(port: int, upstream_port: int, files: list[bytes]) -> None:
    """files: of the certificate, its key and the clients' authority; none for plaintext."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{upstream_port}", OPTIONS) as channel:
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((Proxy(channel),))
        if files:
            certificate, key, authority = files
            credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
            server.add_secure_port(f"127.0.0.1:{port}", credentials)
        else:
            server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), [Path(file).read_bytes() for file in sys.argv[3:]]))
