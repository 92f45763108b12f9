"""The echo upstream behind every proxy: gRPC over plaintext HTTP/2, cheap enough not to be the bottleneck."""

from __future__ import annotations

import socket

from bench.harness import builds
from bench.harness.processes import Process, Processes, free_port


def start(processes: Processes) -> int:
    """Start it, and give its port on loopback once it answers. Raises BenchError when it does not."""
    port = free_port()
    process = processes.start("upstream", [str(builds.upstream()), str(port)])
    wait_until_open(process, port)
    return port


def wait_until_open(process: Process, port: int) -> None:
    """Wait until `process` accepts connections on `port`. Raises BenchError when it ends or takes too long."""

    def connects() -> bool | None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return None
        return True

    process.wait_for(connects, f"listen on port {port}")
