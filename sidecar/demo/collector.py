"""A collector of traces in this process: it receives the sidecar's spans over OTLP and keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True, slots=True)
class Span:
    """Ids in hex, as W3C writes them."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    milliseconds: float
    attributes: dict[str, str]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """address: what `telemetry.otlp` names."""

    def __init__(self) -> None:
        self.address = ""
        self._spans: list[Span] = []

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self._spans += [
                    Span(
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        name=span.name,
                        milliseconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                        attributes={pair.key: _text(pair.value) for pair in span.attributes},
                    )
                    for span in scope.spans
                ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> Span | None:
        """The first span of this trace that arrived."""
        return next((span for span in tuple(self._spans) if span.trace_id == trace_id), None)


def _text(value: AnyValue) -> str:
    which = value.WhichOneof("value")
    held = getattr(value, which) if which is not None else ""
    return f"{held:.6f}" if isinstance(held, float) else str(held)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free loopback port, for as long as the block runs."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait()
