"""h2load's report: what counts as a run in which every call was answered."""

from __future__ import annotations

import pytest

from bench.harness.errors import BenchError
from bench.harness.h2load import Output, parse

# As nghttp2 1.52 prints it.
GOOD = """\
starting benchmark...
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
progress: 100% done

finished in 7.23ms, 138255.22 req/s, 139.81MB/s
requests: 1000 total, 1000 started, 1000 done, 990 succeeded, 10 failed, 10 errored, 0 timeout
status codes: 980 2xx, 0 3xx, 10 4xx, 0 5xx
traffic: 1.01MB (1060396) total, 3.11KB (3180) headers (space savings 96.07%), 1004.88KB (1029000) data
"""


def test_reads_what_it_says() -> None:
    assert parse(GOOD) == Output(1000, 990, 980, 1_029_000, 0.00723, "TLSv1.3 TLS_AES_128_GCM_SHA256")


@pytest.mark.parametrize(("text", "seconds"), [("308us", 0.000308), ("2.34s", 2.34)])
def test_reads_every_unit_of_time(text: str, seconds: float) -> None:
    assert parse(GOOD.replace("7.23ms", text)).seconds == pytest.approx(seconds)


def test_no_tls_is_told() -> None:
    plain = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(("TLS", "Cipher")))
    assert parse(plain).tls == ""


@pytest.mark.parametrize("line", ["requests:", "status codes:", "traffic:", "finished in"])
def test_a_missing_line_is_an_error(line: str) -> None:
    with pytest.raises(BenchError, match="h2load's output has no line"):
        parse(GOOD.replace(line, ""))


def test_a_client_certificate_that_did_not_load_is_an_error() -> None:
    with pytest.raises(BenchError, match="client certificate"):
        parse("client certificate: load failed\n" + GOOD)
