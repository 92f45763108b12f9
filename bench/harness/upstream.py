"""The echo upstream behind every proxy: gRPC over plaintext HTTP/2, cheap enough not to be the bottleneck."""

from __future__ import annotations

import socket

from bench.harness import builds
from bench.harness.processes import Process, Processes, free_port
from bench.harness.proxies import Peer


def start(processes: Processes) -> Peer:
    """Start it, and give it once it listens, as what calls meet without a proxy. Raises BenchError when it does not."""
    port = free_port()
    process = processes.start("upstream", [str(builds.echo()), str(port)])
    wait_until_open(process, port)
    return Peer("no proxy", process, port)


def wait_until_open(process: Process, port: int) -> None:
    """Wait until `process` accepts connections on `port`. Raises BenchError when it ends or takes too long."""

    def connects() -> bool | None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return None
        return True

    process.wait_for(connects, f"listen on port {port}")
