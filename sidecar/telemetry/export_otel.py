"""Exports spans with the OpenTelemetry SDK over OTLP/gRPC, on a thread of the telemetry process.

Whoever offers pays one append to a bounded ring, whatever becomes of the collector. Sampling is not decided here:
whoever offers a span wants it exported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from interceptors.events import SpanFact
from sidecar.logs import Log
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.ports import TelemetryError
from sidecar.telemetry.ring import Ring

log = Log("telemetry")
QUEUE_FULL: Final = ("queue_full",)
COLLECTOR: Final = ("collector",)
INVALID: Final = ("invalid",)
Send: TypeAlias = Callable[[Sequence[SpanFact]], bool]  # True if the collector has taken them


@dataclass(frozen=True, slots=True)
class Pace:
    """How spans gather. interval_s: the longest that a span waits for others.

    batch: spans in one request; encoding takes about 25 us each.  capacity: spans that may wait.
    timeout_s: for one request with its repeats.  close_s: the longest that `close` takes, about.
    """

    interval_s: float = 1.0
    batch: int = 256
    capacity: int = 8192
    timeout_s: float = 10.0
    close_s: float = 3.0


class OtelExport:
    """endpoint: "http://host:port" (plaintext) or "https://host:port" (TLS). service_name: the resource's.

    board: where spans are counted, the process's own.
    Raises TelemetryError where the endpoint is neither. A collector that is away is no error.
    """

    def __init__(self, endpoint: str, service_name: str, board: Board, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._board = board
        for why in (QUEUE_FULL, COLLECTOR, INVALID):
            board.row(metrics.SPANS_DROPPED, why)  # both threads count, and only one may make rows
        self._send, self._shut_down = otlp(endpoint, service_name, self._pace.timeout_s)
        self._ring: Ring[SpanFact] = Ring(self._pace.capacity)
        self._endpoint = endpoint
        self._answers = True
        self._unsent = 0  # written by the exporting thread, as are the cells it counts in
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that found no room, could not be converted, or that the collector did not take."""
        return self._ring.dropped + self._unsent

    def offer(self, fact: SpanFact) -> None:
        """Take one span, or count it as dropped where there is no room."""
        if self._closing.is_set():
            self._lose(1)
        elif self._ring.put((fact,)):
            self._board.count(metrics.SPANS_DROPPED, QUEUE_FULL)
        elif len(self._ring) == self._pace.batch:
            self._wake.set()

    def close(self) -> None:
        """Send what is held, within a bounded time; a request under way is given up when it is over."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._thread.join(self._pace.close_s)
        self._shut_down()  # ends a request under way, and its repeats
        self._thread.join(self._pace.close_s)
        self._lose(len(self._ring.take(self._pace.capacity)))
        if self.dropped:
            log.warning("spans_dropped", count=self.dropped)

    def _lose(self, count: int) -> None:
        """Count spans that closing left no time for."""
        self._ring.dropped += count
        self._board.count(metrics.SPANS_DROPPED, QUEUE_FULL, count)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._pace.interval_s)
            self._wake.clear()
            while facts := self._ring.take(self._pace.batch):
                if not self._export(facts):
                    self._unsent += len(facts)
                    if self._closing.is_set():
                        return

    def _export(self, facts: list[SpanFact]) -> bool:
        try:
            sent = self._send(facts)
            why = COLLECTOR
        except Exception as error:  # whatever a collector or the SDK does, the loss is counted and the next is tried
            log.error("spans_not_exported", error, count=len(facts))
            sent, why = False, INVALID
        if sent != self._answers:
            self._answers = sent
            log.warning("collector_back" if sent else "collector_away", endpoint=self._endpoint)
        if sent:
            self._board.count(metrics.SPANS_EXPORTED, by=len(facts))
        else:
            self._board.count(metrics.SPANS_DROPPED, why, len(facts))
        return sent


def otlp(endpoint: str, service_name: str, timeout_s: float) -> tuple[Send, Callable[[], None]]:
    """What sends facts to `endpoint`, and what ends that. Imports the SDK, which nobody else needs.

    Raises TelemetryError where the endpoint is not one.
    """
    secure = is_secure(endpoint)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace.export import SpanExportResult

    from sidecar.telemetry.spans import span

    # It says so of every request and repeat, which a collector that is away for an hour makes thousands.
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not secure, timeout=timeout_s)
    resource = Resource.create({SERVICE_NAME: service_name})

    def send(facts: Sequence[SpanFact]) -> bool:
        return exporter.export([span(fact, resource) for fact in facts]) is SpanExportResult.SUCCESS

    return send, exporter.shutdown


def is_secure(endpoint: str) -> bool:
    """True for https, False for http. Raises TelemetryError unless `endpoint` is "http(s)://host:port"."""
    try:
        parts = urlsplit(endpoint)
        usual = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        usual = False
    # Said without the endpoint: one that is not usual may hold a password.
    if not usual or parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise TelemetryError("telemetry endpoint: expected http://host:port or https://host:port")
    return parts.scheme == "https"
