"""A sink for spans: an OTLP/gRPC trace collector on loopback that counts them, and how a benchmark reads the count.

python -m bench.harness.collector PORT
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse as Response

from bench.harness.processes import Process, Processes, free_port
from bench.harness.upstream import wait_until_open

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True, slots=True)
class Collector:
    """A running collector."""

    process: Process
    port: int

    def spans(self) -> int:
        """Spans taken so far."""
        counts = [line for line in self.process.output().splitlines() if line.isdigit()]
        return int(counts[-1]) if counts else 0


def start(processes: Processes, name: str) -> Collector:
    """Start one, and give it once it listens. Raises BenchError when it does not."""
    port = free_port()
    process = processes.start(name, [sys.executable, "-m", "bench.harness.collector", str(port)])
    wait_until_open(process, port)
    return Collector(process, port)


class _Count:
    """Prints the sum after each request."""

    def __init__(self) -> None:
        self._spans = 0

    def export(self, request: Request, context: grpc.ServicerContext) -> Response:
        self._spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        print(self._spans, flush=True)
        return Response()


def main() -> None:
    export = grpc.unary_unary_rpc_method_handler(
        _Count().export, request_deserializer=Request.FromString, response_serializer=Response.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": export}),))
    server.add_insecure_port(f"127.0.0.1:{int(sys.argv[1])}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
