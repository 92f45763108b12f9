"""Limits as a client of gRPC meets them, through a sidecar that is restarted, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests import sidecars
from tests.certificates import Certificates, Pair
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.processes import ProcessError
from tests.sidecars import guarded

HUNDRED = [{"per": "identity", "rate": "100/day", "name": "daily"}]


@contextmanager
def channel(address: str, certificates: Certificates, who: Pair | None = None) -> Iterator[grpc.Channel]:
    pair = who or certificates.client
    credentials = grpc.ssl_channel_credentials(
        certificates.ca.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
    )
    options = [("grpc.enable_retries", 0)]  # a client that heeds the pushback would wait for 14 minutes
    with grpc.secure_channel(address, credentials, options) as opened:
        yield opened


def limited(certificates: Certificates, upstream: str, limits: list[dict[str, Any]]) -> dict[str, Any]:
    return {**guarded(certificates, upstream), "limits": limits}


def statuses(opened: grpc.Channel, count: int) -> Counter[grpc.StatusCode]:
    """What became of so many calls, 16 at a time."""
    call: Any = opened.unary_unary(UNARY)

    def one(_: int) -> grpc.StatusCode:
        try:
            call(b"m", timeout=30)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(one, range(count)))


def test_the_hundred_and_first_call_is_told_when_to_come_again(tmp_path: Path, certificates: Certificates) -> None:
    with (
        echo() as (handler, upstream),
        sidecars.serve(limited(certificates, upstream, HUNDRED), tmp_path) as sidecar,
        channel(sidecar.address, certificates) as opened,
    ):
        call: Any = opened.unary_unary(UNARY)
        for _ in range(100):
            assert call(b"m", timeout=30) == b"m"
        with pytest.raises(grpc.RpcError) as raised:
            call(b"m", timeout=30)
        error: Any = raised.value
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limit exceeded")
        told = rpc_status.from_call(error)
        assert told is not None
        (detail,) = told.details
        info = error_details_pb2.RetryInfo()
        assert detail.Unpack(info)
        delay_ms = info.retry_delay.ToMilliseconds()
        assert 0 < delay_ms <= 864_000
        trailers = {item.key: item.value for item in error.trailing_metadata()}
        assert trailers["grpc-retry-pushback-ms"] == str(delay_ms)
        assert trailers["ratelimit-policy"] == '"daily";q=100;w=86400;qu="requests"'
        assert trailers["ratelimit"] == f'"daily";r=0;t={-(-delay_ms // 1000)}'
        assert handler.calls == [UNARY] * 100  # what is refused never got there
    (refused,) = [event for event in sidecar.events() if event["kind"] == "call.denied"]
    assert refused["reason"] == "limit.daily"


def test_concurrent_calls_are_counted_exactly_and_a_restart_grants_nothing(
    tmp_path: Path, certificates: Certificates
) -> None:
    granted, refused = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
    with echo() as (_, upstream):
        config = limited(certificates, upstream, HUNDRED)
        with sidecars.serve(config, tmp_path) as sidecar, channel(sidecar.address, certificates) as opened:
            assert statuses(opened, 500) == {granted: 100, refused: 400}
        with sidecars.serve(config, tmp_path) as sidecar, channel(sidecar.address, certificates) as opened:
            assert statuses(opened, 10) == {refused: 10}
        with pytest.raises(ProcessError), sidecars.serve(config, tmp_path) as sidecar:
            os.kill(sidecar.process.pid, signal.SIGKILL)
        with sidecars.serve(config, tmp_path) as sidecar, channel(sidecar.address, certificates) as opened:
            assert statuses(opened, 10) == {refused: 10}


def test_each_message_of_a_stream_counts(tmp_path: Path, certificates: Certificates) -> None:
    limits = [{"per": ["identity", "method"], "rate": "3/day"}]
    with (
        echo() as (_, upstream),
        sidecars.serve(limited(certificates, upstream, limits), tmp_path) as sidecar,
        channel(sidecar.address, certificates) as opened,
    ):
        stream: Any = opened.stream_stream(STREAM)
        answers = stream(iter([b"1", b"2", b"3", b"4"]), timeout=30)
        with pytest.raises(grpc.RpcError) as raised:
            list(answers)
        error: Any = raised.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_damaged_ledger_is_a_clear_refusal_to_start(tmp_path: Path, certificates: Certificates) -> None:
    config = limited(certificates, "127.0.0.1:1", HUNDRED)
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "state" / "limits.bin").write_bytes(b"nonsense")
    (tmp_path / "state" / "limits.bin").chmod(0o600)
    with pytest.raises(ProcessError) as raised, sidecars.serve(config, tmp_path):
        pass
    (line,) = [line for line in str(raised.value).splitlines() if '"refused"' in line]
    assert json.loads(line)["detail"].endswith(
        "limits.bin has 8 bytes, expected 6295552; remove it to start with full buckets"
    )
