from __future__ import annotations

import pytest

from interceptors.contract import Code
from sidecar.relay.upstream.health import Standing, Verdict, request, verdict


def test_the_request_is_protobuf() -> None:
    """HealthCheckRequest{service} of health.proto: field 1, length-delimited; the default is left out."""
    assert request("") == b"\0\0\0\0\0"
    assert request("a.B") == b"\0\0\0\0\5\x0a\3a.B"


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (0, b"\0\0\0\0\2\x08\x01", Verdict.SERVING),
        (0, b"\0\0\0\0\2\x08\x02", Verdict.NOT_SERVING),
        (0, b"\0\0\0\0\0", Verdict.NOT_SERVING),  # UNKNOWN
        (0, b"\1\0\0\0\2\x08\x01", Verdict.NOT_SERVING),  # compressed, which nobody asked for
        (0, b"", Verdict.NOT_SERVING),
        (Code.UNIMPLEMENTED, b"", Verdict.UNIMPLEMENTED),
        (Code.NOT_FOUND, b"", Verdict.UNKNOWN_SERVICE),
        (Code.UNAVAILABLE, b"", Verdict.SILENT),
        (-1, b"", Verdict.SILENT),
    ],
)
def test_what_answers_say(status: int, body: bytes, found: Verdict) -> None:
    assert verdict(status, body) is found


S, N, U, Q = Verdict.SERVING, Verdict.NOT_SERVING, Verdict.UNIMPLEMENTED, Verdict.SILENT


@pytest.mark.parametrize(
    ("heard", "well"),
    [
        ([S], True), ([U], True), ([N], False), ([Q], False),
        ([S, Q], True), ([S, Q, Q], False), ([S, Q, S, Q], True), ([S, N], False),
        ([S, Q, Q, S], True), ([N, Q], False),
    ],
)  # fmt: skip
def test_standing(heard: list[Verdict], well: bool) -> None:
    standing = Standing(asked=True, failures=2)
    assert not standing.known
    for found in heard:
        standing.hear(found)
    assert standing.known
    assert (standing.reason == "") is well
    standing.forget()
    assert not standing.known


def test_nobody_asks() -> None:
    standing = Standing(asked=False, failures=2)
    assert standing.known
    standing.forget()
    assert standing.known
