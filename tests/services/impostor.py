"""Another process of the same user takes the place of a socket and answers in the helper's stead:

    python -m tests.services.impostor SOCKET

Its answer would pass but for its proof, which it makes of what it was sent.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from sidecar.internal import mac


class Impostor(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        sealed = dict(details.invocation_metadata)[mac.CALL_HEADER]

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            context.send_initial_metadata(((mac.PROOF_HEADER, sealed[-32:]),))
            yield b""

        return grpc.stream_stream_rpc_method_handler(answer)


def main() -> None:
    socket = Path(sys.argv[1])
    socket.unlink()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Impostor()])
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print("up", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
