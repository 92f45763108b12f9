"""Spans arrive at a real OTLP receiver; a receiver that is away costs the relay nothing and is counted."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from interceptors.events import SpanFact
from sidecar.telemetry.board import Board
from sidecar.telemetry.export_otel import OtelExport, Pace
from sidecar.telemetry.ports import TelemetryError
from tests.telemetry.collector import Collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
QUICK = Pace(interval_s=0.02, timeout_s=5.0)


ALLOWED = SpanFact(
    trace_id=TRACE,
    span_id="b7ad6b7169203331",
    parent_id="00f067aa0ba902b7",
    name="inference.GRPCInferenceService/ModelInfer",
    start=1763899999.25,
    end=1763899999.5,
    status=0,
    principal="spiffe://example.org/team/a",
    model="digits",
    decision="allowed",
)


def fact(**fields: Any) -> SpanFact:
    return dataclasses.replace(ALLOWED, **fields)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def export() -> Iterator[Callable[..., OtelExport]]:
    opened: list[OtelExport] = []

    def make(port: int, pace: Pace = QUICK, scheme: str = "http") -> OtelExport:
        opened.append(OtelExport(f"{scheme}://127.0.0.1:{port}", "sidecar-under-test", board(), pace))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def board() -> Board:
    return Board(os.memfd_create("board"))


def text(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}


def until(condition: Callable[[], object], deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"


def test_a_span_arrives_whole(collector: Collector, export: Callable[..., OtelExport]) -> None:
    sink = export(collector.port)
    sink.offer(fact())
    [span] = collector.wait(1)
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        TRACE,
        "b7ad6b7169203331",
        "00f067aa0ba902b7",
    )
    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1763899999250000000, 1763899999500000000)
    assert text(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "langtrain.principal": "spiffe://example.org/team/a",
        "langtrain.model": "digits",
        "langtrain.decision": "allowed",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert text(collector.received[0].resource.attributes)["service.name"] == "sidecar-under-test"
    assert collector.received[0].scope_spans[0].scope.name == "langtrain-sidecar"


def test_a_root_span_of_an_unknown_caller(collector: Collector, export: Callable[..., OtelExport]) -> None:
    export(collector.port).offer(fact(parent_id="", principal="", model="", status=16, decision="identify:none"))
    [span] = collector.wait(1)
    assert span.parent_span_id == b""
    assert text(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "UNAUTHENTICATED",
        "langtrain.decision": "identify:none",
    }


def test_statuses_that_are_the_servers_fault_are_errors(
    collector: Collector, export: Callable[..., OtelExport]
) -> None:
    sink = export(collector.port)
    for status in (*range(17), 99):
        sink.offer(fact(status=status, name=str(status)))
    spans = sorted(collector.wait(18), key=lambda span: int(span.name))
    failed = [int(span.name) for span in spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert failed == [2, 4, 12, 13, 14, 15, 99]
    errors = {int(span.name): text(span.attributes).get("error.type") for span in spans}
    assert (errors[0], errors[7], errors[14], errors[99]) == (None, None, "UNAVAILABLE", "99")


def test_every_span_arrives_once(collector: Collector, export: Callable[..., OtelExport]) -> None:
    sink = export(collector.port)
    for number in range(1000):
        sink.offer(fact(name=str(number)))
    assert [int(span.name) for span in collector.wait(1000)] == list(range(1000))
    assert sink.dropped == 0


def test_closing_sends_what_is_held(collector: Collector, export: Callable[..., OtelExport]) -> None:
    sink = export(collector.port, Pace(interval_s=3600))
    for _ in range(50):
        sink.offer(fact())
    sink.close()
    sink.close()
    assert len(collector.spans()) == 50
    sink.offer(fact())
    assert sink.dropped == 1


def test_a_collector_that_is_away_costs_a_count(
    export: Callable[..., OtelExport], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        sink = export(
            nobody.getsockname()[1], Pace(interval_s=0.01, batch=128, capacity=100, close_s=0.1, timeout_s=0.5)
        )
        for _ in range(1000):
            sink.offer(fact())
        assert sink.dropped >= 772  # all but the ring and one batch
        sink.close()
        assert sink.dropped == 1000
    assert [r.__dict__["fields"] for r in caplog.records if r.message == "spans_dropped"] == [{"count": 1000}]


def test_a_collector_that_never_answers_does_not_hold_up_closing(export: Callable[..., OtelExport]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = export(silent.getsockname()[1], Pace(interval_s=0.01, close_s=0.1, timeout_s=3600))
        sink.offer(fact())
        connection, _ = silent.accept()
        with connection:
            sink.close()
            until(lambda: sink.dropped == 1)


def test_a_collector_that_comes_back_gets_what_follows(collector: Collector, export: Callable[..., OtelExport]) -> None:
    sink = export(collector.port)
    collector.refusing = grpc.StatusCode.PERMISSION_DENIED
    sink.offer(fact(name="lost"))
    until(lambda: sink.dropped == 1)
    collector.refusing = None
    sink.offer(fact(name="kept"))
    assert [span.name for span in collector.wait(1)] == ["kept"]


def test_what_cannot_be_a_span_is_counted(
    collector: Collector, export: Callable[..., OtelExport], caplog: pytest.LogCaptureFixture
) -> None:
    sink = export(collector.port)
    sink.offer(fact(trace_id="no id"))
    until(lambda: sink.dropped == 1)
    sink.offer(fact())
    collector.wait(1)
    assert "spans_not_exported" in caplog.messages


def test_https_means_tls(tmp_path: Path, export: Callable[..., OtelExport], monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    trusted = tmp_path / "collector.pem"
    trusted.write_bytes(certificate)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trusted))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true")  # the scheme decides, not this
    collector = Collector(grpc.ssl_server_credentials([(secret, certificate)]))
    try:
        sink = export(collector.port, scheme="https")
        sink.offer(fact())
        collector.wait(1)
        sink.close()
    finally:
        collector.stop()


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:4317", "ftp://a:1", "http://", "http://a", "http://a:b", "http://a:1/v1/traces", "http://u:p@a:1"],
)
def test_what_is_no_endpoint_is_refused_unseen(endpoint: str) -> None:
    with pytest.raises(TelemetryError) as refused:
        OtelExport(endpoint, "x", board())
    assert str(refused.value) == "telemetry endpoint: expected http://host:port or https://host:port"


def test_the_sdk_is_imported_only_where_spans_are_exported() -> None:
    script = "import sys, sidecar.telemetry.export_otel; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", script], cwd=Path(__file__).parents[2], text=True).split()
    assert "sidecar.telemetry.export_otel" in modules
    assert not {"grpc", "opentelemetry"} & {module.partition(".")[0] for module in modules}
