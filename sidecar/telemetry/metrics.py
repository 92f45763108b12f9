"""Every metric: name, kind, meaning, labels, how much room it has, and how workers' values become one.

The single source for the board's layout, the exposition, docs/metrics.md, the dashboard and the alert rules.
Names follow prometheus.io/docs/practices/naming: base units, `_total` for counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

PREFIX: Final = "langtrain_sidecar_"
OTHER: Final = "other"  # label value of what has no row of its own


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"  # says something by its labels; its value is 1


class Merge(Enum):
    """How the gauges of several processes become one."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"
    EACH = "each"  # not at all: each has the label `process`


@dataclass(frozen=True, slots=True)
class Metric:
    """stem: the name without prefix.  rows: label sets with a row of their own; what comes after them is "other".

    bounds: upper bounds of a histogram's buckets, ascending, in the name's unit, without +Inf.
    """

    stem: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    rows: int = 0
    bounds: tuple[float, ...] = ()
    merge: Merge = Merge.SUM

    @property
    def name(self) -> str:
        """As it is scraped, but for what a histogram appends."""
        return PREFIX + self.stem + ("_info" if self.kind is Kind.INFO else "")

    @property
    def width(self) -> int:
        """Numbers in one row: a histogram has its buckets, +Inf included, then the sum of what was observed."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{end}" for end in ("bucket", "count", "sum"))
        return (self.name,)


METHODS: Final = 64  # methods with rows of their own, in each process
REASONS: Final = 64
CALL_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
CHAIN_BOUNDS: Final = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)  # seconds
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds


def _counter(stem: str, text: str, labels: tuple[str, ...] = (), rows: int = 0) -> Metric:
    return Metric(stem + "_total", Kind.COUNTER, text, labels, rows)


def _gauge(
    stem: str, text: str, merge: Merge = Merge.SUM, labels: tuple[str, ...] = (), rows: int = 0
) -> Metric:  # fmt: skip
    return Metric(stem, Kind.GAUGE, text, labels, rows, merge=merge)


def _histogram(stem: str, text: str, bounds: tuple[float, ...], labels: tuple[str, ...] = (), rows: int = 0) -> Metric:
    return Metric(stem, Kind.HISTOGRAM, text, labels, rows, bounds)


def _by_method(stem: str, text: str) -> Metric:
    return _counter(stem, text, ("method",), METHODS)


def _seconds_by_method(stem: str, text: str, bounds: tuple[float, ...] = CALL_BOUNDS) -> Metric:
    return _histogram(stem + "_seconds", text, bounds, ("method",), METHODS)


CALLS: Final = _counter(
    "calls",
    "Calls that ended, by method, gRPC status code, and decision: `allowed`, `denied` or `would_deny`.",
    ("method", "code", "decision"),
    512,
)
CALL_SECONDS: Final = _seconds_by_method("call_duration", "From a call's first header to its end.")
CHAIN_SECONDS: Final = _seconds_by_method(
    "chain_duration", "Part of a call's time that the interceptors took, their questions included.", CHAIN_BOUNDS
)
UPSTREAM_SECONDS: Final = _seconds_by_method(
    "upstream_duration", "From sending a call to the model server to the end of its answer."
)
FIRST_BYTE_SECONDS: Final = _seconds_by_method(
    "upstream_first_byte", "From sending a call to the model server to the first of its answer."
)
REQUEST_BYTES: Final = _by_method("request_bytes", "Bytes of request messages that callers sent.")
RESPONSE_BYTES: Final = _by_method("response_bytes", "Bytes of response messages that the model server sent.")
REQUEST_MESSAGES: Final = _by_method("request_messages", "Request messages that came in.")
RESPONSE_MESSAGES: Final = _by_method("response_messages", "Response messages that came in.")
DENIALS: Final = _counter("denials", "Calls that were denied or refused, by reason.", ("reason",), REASONS)
LIMIT_DENIALS: Final = _counter(
    "limit_denials",
    "Calls that a rate limit or an overload limit ended, by reason.",
    ("reason",),
    REASONS,
)
FAILURES: Final = _counter(
    "call_failures",
    "Calls that the upstream, a deadline or the caller ended early, by cause.",
    ("cause",),
    REASONS,
)
CONNECTIONS: Final = _counter("connections", "Client connections accepted.")
CONNECTIONS_OPEN: Final = _gauge("connections_open", "Client connections open now.")
CALLS_OPEN: Final = _gauge("streams_open", "Calls (HTTP/2 streams) of clients open now.")
TLS_ERRORS: Final = _counter("tls_errors", "TLS handshakes with clients that failed, by reason.", ("reason",), REASONS)
CONNECTION_ERRORS: Final = _counter(
    "connection_errors",
    "Client connections ended for breaking the rules of TLS or HTTP/2, by reason.",
    ("reason",),
    REASONS,
)
ABUSE_CLOSURES: Final = _counter(
    "abuse_closures", "Connections and calls cut for going beyond a limit, by reason.", ("reason",), REASONS
)  # fmt: skip
UPSTREAM_UP: Final = _gauge(
    "upstream_up", "1 where every worker can call this model server endpoint, else 0.", Merge.MIN, ("endpoint",), 64
)
UPSTREAM_CONNECTS: Final = _counter(
    "upstream_connects", "Attempts to connect to a model server, by endpoint and result.", ("endpoint", "result"), 128
)
UPSTREAM_RETRIES: Final = _counter("upstream_retries", "Calls sent to a model server once more.")
UPSTREAM_QUEUE: Final = _gauge("upstream_queue", "Calls that wait for a model server's stream now.")
UPSTREAM_WAITING: Final = _gauge("upstream_waiting", "Calls whose whole request waits for an answer to begin now.")
CONCURRENCY_LIMIT: Final = _gauge(
    "concurrency_limit", "Calls that may wait for an answer to begin; beyond it new calls are refused."
)
BUFFERED: Final = _gauge("buffered_bytes", "Bytes of messages that interceptors must see whole, held now.")
RECORDER_UP: Final = _gauge("recorder_up", "1 where calls can be recorded, 0 where they are refused.", Merge.MIN)
RECORDER_QUEUE: Final = _gauge("recorder_queue", "Audit events that are not on disk yet.")
LAG_SECONDS: Final = _histogram(
    "event_loop_lag_seconds", "How late a worker's event loop came to a timer, four times a second.", LAG_BOUNDS
)
MEMORY: Final = _gauge("resident_memory_bytes", "Resident memory of a process.", Merge.EACH)
STARTED: Final = _gauge("process_start_timestamp_seconds", "When a process began, in Unix seconds.", Merge.EACH)
CERTIFICATE_EXPIRY: Final = _gauge(
    "certificate_expiry_timestamp_seconds",
    "When a certificate of the sidecar's own ends, in Unix seconds.",
    Merge.MIN,
    ("certificate",),
    16,
)
FEED_AGE: Final = _gauge(
    "feed_age_seconds", "Since a worker last heard of the change feed it depends on.", Merge.MAX, ("feed",), 16
)
DRAINING: Final = _gauge("draining", "Processes that finish what they have and take nothing new.")
WORKERS_ALIVE: Final = _gauge("workers_alive", "Workers whose event loop answers.")
WORKERS: Final = _gauge("workers", "Workers there should be.", Merge.MAX)
RELOADS: Final = _counter("config_reloads", "Reloads of the config, by result: `success` or `failure`.", ("result",), 2)
CONFIG: Final = Metric("config", Kind.INFO, "Digest of the config in force.", ("digest",))
BUILD: Final = Metric("build", Kind.INFO, "What runs.", ("version", "python"))
SPANS_EXPORTED: Final = _counter("spans_exported", "Spans that the collector took.")
SPANS_DROPPED: Final = _counter(
    "spans_dropped",
    "Spans that will never arrive: the feed or the queue was full, the collector did not take them, one could not be "
    "converted.",
    ("reason",),
    8,
)
LINES_WRITTEN: Final = _counter("access_log_lines", "Lines written to the access log.")
LINES_DROPPED: Final = _counter(
    "access_log_dropped", "Access-log lines lost: the feed or the queue was full, or writing failed.", ("reason",), 8
)
OVERFLOWS: Final = _counter(
    "label_overflows", "Times that a label set found its metric's rows taken and became `other`.", ("metric",), 64
)

TABLE: Final = (
    CALLS,
    CALL_SECONDS,
    CHAIN_SECONDS,
    UPSTREAM_SECONDS,
    FIRST_BYTE_SECONDS,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    REQUEST_MESSAGES,
    RESPONSE_MESSAGES,
    DENIALS,
    LIMIT_DENIALS,
    FAILURES,
    CONNECTIONS,
    CONNECTIONS_OPEN,
    CALLS_OPEN,
    TLS_ERRORS,
    CONNECTION_ERRORS,
    ABUSE_CLOSURES,
    UPSTREAM_UP,
    UPSTREAM_CONNECTS,
    UPSTREAM_RETRIES,
    UPSTREAM_QUEUE,
    UPSTREAM_WAITING,
    CONCURRENCY_LIMIT,
    BUFFERED,
    RECORDER_UP,
    RECORDER_QUEUE,
    LAG_SECONDS,
    MEMORY,
    STARTED,
    CERTIFICATE_EXPIRY,
    FEED_AGE,
    DRAINING,
    WORKERS_ALIVE,
    WORKERS,
    RELOADS,
    CONFIG,
    BUILD,
    SPANS_EXPORTED,
    SPANS_DROPPED,
    LINES_WRITTEN,
    LINES_DROPPED,
    OVERFLOWS,
)
