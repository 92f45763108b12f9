"""The upstream of these tests, a grpcio server in a process of its own:

    python -m tests.peers.interop_server [--port N] [--streams N] [--socket PATH]
                                         [--ca FILE --certificate FILE --key FILE]

It listens on free loopback ports, in plaintext and (with a certificate) for clients that present one of the CA,
and on a Unix socket; one JSON line on stdout names them: {"plain": "127.0.0.1:1", "mtls": "127.0.0.1:2"}. Server
reflection tells what it serves.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_reflection.v1alpha import reflection

from tests.peers import echo_service, interop_service, messages
from tests.peers.compressed import WATCHED

OPTIONS = [
    WATCHED,
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.http.overload_protection", 0),  # refuses streams at random once their number has reached the most
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
]
THREADS = 1100  # one for each of 1,000 open streams, and some to answer meanwhile


def credentials(ca: Path, certificate: Path, key: Path) -> grpc.ServerCredentials:
    pair = (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], ca.read_bytes(), require_client_auth=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--socket", "--ca", "--certificate", "--key"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--port", type=int, default=0, help="of plaintext, a free one unless said")
    parser.add_argument("--streams", type=int, default=1 << 20, help="most at once on a connection")
    arguments = parser.parse_args()
    calls = echo_service.OpenCalls()
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        options=[*OPTIONS, ("grpc.max_concurrent_streams", arguments.streams)],
        interceptors=[calls],
    )
    server.add_generic_rpc_handlers((interop_service.handler(), *echo_service.handlers(calls)))
    reflection.enable_server_reflection((messages.SERVICE, reflection.SERVICE_NAME), server, pool=messages.POOL)
    ports = {"plain": f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{arguments.port}')}"}
    if arguments.certificate:
        secure = credentials(arguments.ca, arguments.certificate, arguments.key)
        ports["mtls"] = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', secure)}"
    if arguments.socket:
        server.add_insecure_port(f"unix://{arguments.socket}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    server.start()
    print(json.dumps(ports), flush=True)
    stop.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    main()
