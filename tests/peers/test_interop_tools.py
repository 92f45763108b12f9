"""`buf curl` and nghttp, which are clients of their own making, through the sidecar: what people try a server with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts import require
from tests.peers import interop_requests as r
from tests.peers import messages as m
from tests.peers.conftest import H2C, MTLS
from tests.peers.targets import Target, Upstream

RUNS = (1, pytest.param(20, marks=pytest.mark.slow))
DEADLINE_S = 60


@pytest.fixture(scope="module", params=(H2C, MTLS), ids=str)
def target(request: pytest.FixtureRequest, through: Any) -> Iterator[Target]:
    with through(request.param) as opened:
        yield opened


def url(target: Target, path: str = "") -> str:
    return f"{'https' if target.certificates else 'http'}://{target.address}{path}"


def answers(text: str) -> list[Any]:
    """JSON values one after another, as `buf curl` prints the messages of a stream."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def buf_curl(target: Target, *options: str) -> subprocess.CompletedProcess[str]:
    """It learns the messages from the sidecar, by server reflection."""
    command = [str(Path(sys.executable).with_name("buf")), "curl", "--protocol", "grpc"]
    if target.certificates:
        pair = target.certificates.client
        command += ["--cacert", str(target.certificates.ca), "--cert", str(pair.certificate), "--key", str(pair.key)]
    else:
        command += ["--http2-prior-knowledge"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def call(target: Target, method: str, *requests: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    data = "\n".join(map(json.dumps, requests))
    return buf_curl(target, "--data", data, url(target, f"/{m.SERVICE}/{method}"))


ZEROS = {"payload": {"body": "AAAA"}}  # three of them, base64
TWO = {"responseParameters": [{"size": 3}, {"size": 3}]}
GOOD: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "EmptyCall": ([{}], [{}]),
    "UnaryCall": ([{"responseSize": 3} | ZEROS], [ZEROS]),
    "StreamingInputCall": ([ZEROS, ZEROS, ZEROS], [{"aggregatedPayloadSize": 9}]),
    "StreamingOutputCall": ([TWO], [ZEROS, ZEROS]),
    "FullDuplexCall": ([TWO, TWO], [ZEROS] * 4),
}


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("method", GOOD)
def test_buf_curl_calls(method: str, runs: int, target: Target, upstream: Upstream) -> None:
    requests, expected = GOOD[method]
    for _ in range(runs):
        ran = call(target, method, *requests)
        assert (ran.returncode, answers(ran.stdout)) == (0, expected), ran.stderr
    upstream.wait_quiet()


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("method", ["UnaryCall", "FullDuplexCall"])
def test_buf_curl_is_told_the_status(method: str, runs: int, target: Target, upstream: Upstream) -> None:
    status = {"code": r.STATUS_CODE, "message": r.SPECIAL_MESSAGE}
    for _ in range(runs):
        ran = call(target, method, {"responseStatus": status})
        assert ran.returncode != 0
        (told,) = answers(ran.stderr)
        assert (told["code"], told["message"]) == ("unknown", r.SPECIAL_MESSAGE)
    upstream.wait_quiet()


def test_buf_curl_lists_the_services_of_both_sides(target: Target) -> None:
    ran = buf_curl(target, "--list-services", url(target))
    assert {m.SERVICE, "langtrain.v1.SidecarService"} <= set(ran.stdout.split()), ran.stderr


def test_nghttp_calls_twenty_times_on_one_connection(target: Target, upstream: Upstream, tmp_path: Path) -> None:
    require(shutil.which("nghttp") is not None, "nghttp is not installed (Debian package nghttp2-client)")
    request, response = m.SimpleRequest(response_size=3), m.SimpleResponse(payload=m.Payload(body=bytes(3)))
    body = tmp_path / "request"
    body.write_bytes(framed(request))
    command = ["nghttp", "--multiply=20", f"--data={body}", "-Hte: trailers", "-Hcontent-type: application/grpc"]
    if target.certificates:
        pair = target.certificates.client
        command += [f"--cert={pair.certificate}", f"--key={pair.key}"]
    address = url(target, f"/{m.SERVICE}/UnaryCall")
    ran = subprocess.run([*command, address], capture_output=True, timeout=DEADLINE_S, check=True)
    assert ran.stdout == framed(response) * 20
    told = subprocess.run([*command, "--verbose", address], capture_output=True, timeout=DEADLINE_S, check=True)
    assert told.stdout.count(b"grpc-status: 0") == 20, told.stdout.decode(errors="replace")
    upstream.wait_quiet()


def framed(message: Any) -> bytes:
    """With gRPC's prefix: not compressed, its length."""
    raw: bytes = message.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw
