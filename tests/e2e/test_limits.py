"""Limits as a client of gRPC meets them, through a sidecar that is restarted, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests import certificates as pki
from tests import sidecars
from tests.certificates import Certificates, Pair
from tests.e2e.clocks import WallClock
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.processes import ProcessError
from tests.sidecars import guarded
from tests.waiting import eventually

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
    # Nor does its end wait for anybody.
    assert "audit_visitors_left" not in str(raised.value)
    assert "child_killed" not in str(raised.value)


def test_steps_of_the_wall_clock_grant_nothing_and_lock_nobody_out(tmp_path: Path) -> None:
    """Of two sidecars with one ledger one sees the clock stepped by an hour, ahead and back, and is restarted so."""
    certificates = pki.make(tmp_path / "certificates", datetime.now(UTC) - timedelta(days=1))
    clock = WallClock(tmp_path)
    limits: list[dict[str, Any]] = [
        {"per": "identity", "rate": "100/day", "name": "daily", "methods": [UNARY]},
        {"per": "identity", "rate": "30/minute", "burst": 2, "name": "often", "methods": [STREAM]},
    ]
    granted, refused = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
    with echo() as (_, upstream), ExitStack() as stack:

        def serve(name: str, **options: Any) -> tuple[sidecars.Sidecar, grpc.Channel]:
            config = limited(certificates, upstream, limits)
            config |= {"workers": 2, "state": {"directory": str(tmp_path / "state")}}
            config["audit"] = {"file": str(tmp_path / f"{name}.jsonl")}
            (tmp_path / name).mkdir()
            sidecar = stack.enter_context(sidecars.serve(config, tmp_path / name, **options))
            return sidecar, stack.enter_context(channel(sidecar.address, certificates))

        steady, stepped = serve("steady")[1], serve("stepped", environment=clock.environment)[1]
        assert statuses(stepped, 50) + statuses(steady, 30) == {granted: 80}
        clock.step(3600)
        assert statuses(stepped, 30) == {granted: 20, refused: 10}
        for step_s in (3600, -3600, 0, -3600):
            clock.step(step_s)
            assert statuses(stepped, 10) + statuses(steady, 10) == {refused: 20}
            assert max(waits(stepped), waits(steady)) <= 864  # seconds in which one is refilled
            eventually(lambda: not streamed(steady), "the other budget is spent")
            eventually(lambda: streamed(stepped), "the other budget refills at its rate")
            assert seen(tmp_path / "stepped.jsonl") == pytest.approx(step_s, abs=120)
            assert seen(tmp_path / "steady.jsonl") == pytest.approx(0, abs=120)
        _, again = serve("again", environment=clock.environment)
        assert statuses(again, 10) == {refused: 10}


def waits(opened: grpc.Channel) -> float:
    """Seconds after which a refused call is told to come again."""
    call: Any = opened.unary_unary(UNARY)
    with pytest.raises(grpc.RpcError) as raised:
        call(b"m", timeout=30)
    error: Any = raised.value
    return float(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) / 1000


def streamed(opened: grpc.Channel) -> bool:
    """Whether a stream of one message is granted."""
    stream: Any = opened.stream_stream(STREAM)
    try:
        return list(stream(iter([b"m"]), timeout=30)) == [b"m"]
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


def seen(file: Path) -> float:
    """How far ahead of the real clock the last event of an audit trail is, in seconds."""
    last = json.loads(file.read_text("utf-8").splitlines()[-1])
    return (datetime.fromisoformat(last["time"]) - datetime.now(UTC)).total_seconds()
