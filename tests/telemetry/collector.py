"""A real OTLP receiver on loopback: grpcio, opentelemetry-proto's TraceService."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector(service.TraceServiceServicer):
    """Keeps what it is sent. refusing: the status it answers with instead, or None."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        self.received: list[ResourceSpans] = []
        self.refusing: grpc.StatusCode | None = None
        self._came = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:
        if self.refusing is not None:
            context.abort(self.refusing, "not now")
        with self._came:
            self.received.extend(request.resource_spans)
            self._came.notify_all()
        return pb.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        return [span for one in self.received for scope in one.scope_spans for span in scope.spans]

    def wait(self, spans: int, deadline_s: float = 20.0) -> list[Span]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.spans()) >= spans, deadline_s), "spans did not come in time"
            return self.spans()

    def stop(self) -> None:
        self._server.stop(None).wait()
