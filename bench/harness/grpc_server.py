"""A model server of grpcio's that goes wrong on demand: `python -m bench.harness.grpc_server --port 0`.

It prints its port and serves until it is killed. `/faults.Model/Infer` sends the request back after as many seconds as
the request says in ASCII, at most; `/faults.Model/Served` tells how many calls of it have begun. Health checks are
answered with SERVING.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import struct
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc

INFER, SERVED = "/faults.Model/Infer", "/faults.Model/Served"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse { status = 1; }
BEHAVIOURS = ("well", "unavailable", "resets")


class Model(grpc.GenericRpcHandler):
    """behaviour: "well", or "unavailable" for an answer of that status to every call.  places: calls served at once."""

    def __init__(self, behaviour: str, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._behaviour = behaviour
        self._begun = itertools.count(1)
        self._served = 0
        self._never = threading.Event()

    def service(self, details: Any) -> Any:
        methods: dict[str, Callable[[bytes, Any], bytes]] = {
            INFER: self._infer,
            SERVED: self._report,
            HEALTH: lambda request, context: SERVING,
        }
        found = methods.get(details.method)
        return grpc.unary_unary_rpc_method_handler(found) if found else None

    def _infer(self, request: bytes, context: Any) -> bytes:
        self._served = next(self._begun)
        if self._behaviour == "unavailable":
            context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
        with self._places:
            self._never.wait(float(request))
        return request

    def _report(self, request: bytes, context: Any) -> bytes:
        return b"%d" % self._served


def serve(port: int, age_ms: int, behaviour: str, places: int) -> None:
    options: list[tuple[str, int]] = [("grpc.so_reuseport", 0)]
    if age_ms:
        options += [("grpc.max_connection_age_ms", age_ms), ("grpc.max_connection_age_grace_ms", 20_000)]
    server = grpc.server(futures.ThreadPoolExecutor(512), options=options)
    server.add_generic_rpc_handlers((Model(behaviour, places),))
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    server.wait_for_termination()


def reset(port: int) -> None:
    """Accept every connection, and break it with RST as soon as anything comes."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.harness.grpc_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--age-ms", type=int, default=0, help="send connections away after about this time")
    parser.add_argument("--places", type=int, default=256, help="calls served at once; others wait in line")
    parser.add_argument("--behaviour", choices=BEHAVIOURS, default="well")
    arguments = parser.parse_args()
    if arguments.behaviour == "resets":
        reset(arguments.port)
    else:
        serve(arguments.port, arguments.age_ms, arguments.behaviour, arguments.places)


if __name__ == "__main__":
    main()
