"""SpanFact → the OpenTelemetry SDK's ReadableSpan. Imported only where spans are exported.

Names follow the semantic conventions for gRPC server spans (opentelemetry.io/docs/specs/semconv/rpc/grpc, 1.40):
`rpc.system.name`, `rpc.method` with its service and `rpc.response.status_code` as text replace the earlier
`rpc.system`, `rpc.service` and `rpc.grpc.status_code`.
"""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from interceptors.contract import Code
from interceptors.events import CallDetail, SpanFact

SCHEMA = "https://opentelemetry.io/schemas/1.40.0"
SCOPE = InstrumentationScope("langtrain-sidecar", schema_url=SCHEMA)
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# Statuses that are the server's fault ("Server Span", rpc.response.status_code); others leave the span unset.
ERRORS = frozenset(
    (Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS)
)
NAMES = {int(code): code.name for code in Code}
UNSET = Status(StatusCode.UNSET)
ERROR = Status(StatusCode.ERROR)


def span(fact: SpanFact, resource: Resource) -> ReadableSpan:
    """Raises ValueError where an id is not hexadecimal."""
    trace_id = int(fact.trace_id, 16)
    # Peers may send a status outside the table (gRPC reads it as UNKNOWN): it is written as its number.
    status = NAMES.get(fact.status, str(fact.status))
    attributes: dict[str, str | int | float] = {
        "rpc.system.name": "grpc",
        "rpc.method": fact.name,
        "rpc.response.status_code": status,
        "langtrain.decision": fact.decision,
    }
    if fact.principal:
        attributes["langtrain.principal"] = fact.principal
    if fact.model:
        attributes["langtrain.model"] = fact.model
    if fact.detail is not None:
        attributes.update(detailed(fact.detail))
    failed = fact.status in ERRORS or fact.status not in NAMES
    if failed:
        attributes["error.type"] = status
    parent = SpanContext(trace_id, int(fact.parent_id, 16), True, SAMPLED) if fact.parent_id else None
    return ReadableSpan(
        name=fact.name,
        context=SpanContext(trace_id, int(fact.span_id, 16), False, SAMPLED),
        parent=parent,
        resource=resource,
        attributes=attributes,
        kind=SpanKind.SERVER,
        status=ERROR if failed else UNSET,
        start_time=nanoseconds(fact.start),
        end_time=nanoseconds(fact.end),
        instrumentation_scope=SCOPE,
    )


def detailed(detail: CallDetail) -> dict[str, str | int | float]:
    """Where the call came from, what it moved, and where its time went; durations in seconds."""
    attributes: dict[str, str | int | float] = {
        "client.address": detail.source,
        "langtrain.request.messages": detail.requests,
        "langtrain.request.bytes": detail.request_bytes,
        "langtrain.response.messages": detail.responses,
        "langtrain.response.bytes": detail.response_bytes,
        "langtrain.chain.duration": detail.chain_s,
    }
    if detail.upstream_s >= 0.0:
        attributes["langtrain.upstream.duration"] = detail.upstream_s
    if detail.first_byte_s >= 0.0:
        attributes["langtrain.upstream.first_byte"] = detail.first_byte_s
    return attributes


def nanoseconds(moment: float) -> int:
    """Unix seconds as Unix nanoseconds, to the microsecond: a float of today's size holds no more."""
    return round(moment * 1e6) * 1000
