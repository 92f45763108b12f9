# ruff: noqa: E501  # a fault is told in one line, and stands here in one
"""The `limits` section: what it means, and what is said where it means nothing."""

import pytest

from sidecar.config.units import Size, Throughput
from tests.config.configs import SOUND, faults, load

PLAIN = "listen: {tls: none}\n"
ALL = 'a rate such as "100/second" or "1000/day", or of bytes, such as "10MiB/second"'


def test_what_is_unsaid() -> None:
    (limit,) = load(SOUND + "limits: [{per: identity, rate: 1000/second}]").limits
    assert (limit.title, limit.capacity, limit.weight) == ("identity", 1000, "calls")
    assert load(SOUND).limits == ()


@pytest.mark.parametrize(
    ("limit", "title", "rate", "capacity"),
    [
        ("per: method, rate: 100/day", "method", Throughput(100, 86400.0), 100),
        ("per: [model, identity], rate: 5/minute, burst: 9", "identity-model", Throughput(5, 60.0), 9),
        ("per: source, rate: 10MiB/second, weight: bytes", "source.bytes", Throughput(10 << 20, 1.0, "MiB"), 10 << 20),
        (
            "per: source, rate: 10MB/hour, burst: 1GiB, weight: bytes",
            "source.bytes",
            Throughput(10**7, 3600.0, "MB"),
            1 << 30,
        ),
        ("per: model, rate: 64/second, weight: batch, name: gpu-1", "gpu-1", Throughput(64, 1.0), 64),
    ],
)
def test_limits(limit: str, title: str, rate: Throughput, capacity: int) -> None:
    config = load(f"{SOUND}limits: [{{{limit}}}]")
    (found,) = config.limits
    assert (found.title, found.rate, found.capacity) == (title, rate, capacity)
    (written,) = config.effective()["limits"]
    again = load(f"{SOUND}limits: [{written}]".replace("None", "null").replace("'", '"'))
    assert again.limits == config.limits


def test_sizes_are_written_as_sizes() -> None:
    assert [str(Throughput.parse(text)) for text in ("1024KiB/second", "3MB/day", "7/hour")] == [
        "1MiB/second",
        "3MB/day",
        "7/hour",
    ]
    assert isinstance(
        load(SOUND + "limits: [{per: source, rate: 1MiB/day, burst: 2MiB, weight: bytes}]").limits[0].burst, Size
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{rate: 1/day}", "limits[0].per (line 4): expected a value, came nothing"),
        ("{per: identity, rate: 10}", f"limits[0].rate (line 4): expected {ALL}, came the number 10"),
        ("{per: identity, rate: 0/day}", f"limits[0].rate (line 4): expected {ALL}, came '0/day'"),
        (
            "{per: identity, rate: 1/day, burst: 0}",
            "limits[0].burst (line 4): expected a whole number above 0, or for bytes a size such as \"20MiB\", came the number 0",
        ),
        (
            "{per: identity, rate: 1/day, name: Big_One}",
            'limits[0].name (line 4): expected a name of lower-case letters, digits, "." and "-", such as "free-tier", came \'Big_One\'',
        ),
        (
            "{per: identity, rate: 1/day}, {per: identity, rate: 1/second}",
            "limits[1] (line 4): expected each limit's name once, came 'identity' again; set name, which is yours to choose",
        ),
        (
            "{per: identity, rate: 1/day, name: a}, {per: source, rate: 1/second, name: a}",
            "limits[1].name (line 4): expected each limit's name once, came 'a' again; set name, which is yours to choose",
        ),
        (
            "{per: identity, rate: 1/day, weight: bytes}",
            'limits[0].rate (line 4): expected a rate of bytes, such as "10MiB/second", for weight bytes, came \'1/day\'',
        ),
        (
            "{per: identity, rate: 1MiB/day}",
            'limits[0].rate (line 4): expected a rate without a unit of bytes, such as "100/second", for weight calls, came \'1MiB/day\'',
        ),
        (
            "{per: identity, rate: 1MiB/day, burst: 3, weight: bytes}",
            "limits[0].burst (line 4): expected a size such as \"20MiB\" for weight bytes, came '3'",
        ),
        (
            "{per: identity, rate: 1/day, burst: 367}",
            "limits[0].burst (line 4): expected a bucket that refills within 366 days, came one of 367 days",
        ),
        (
            '{per: source, rate: 1/day, identities: ["spiffe://example.com/*"]}',
            "limits[0].identities[0] (line 4): expected a trust domain of authentication.mtls.trust_domains, came 'spiffe://example.com/*'",
        ),
    ],
)  # fmt: skip
def test_one_fault(text: str, fault: str) -> None:
    assert faults(f"{SOUND}limits: [{text}]") == [fault]


@pytest.mark.parametrize("limit", ["per: model", "per: source, models: [m]", "per: source, weight: batch"])
def test_models_and_batches_need_a_protocol_that_tells_them(limit: str) -> None:
    text = f"limits: [{{{limit}, rate: 1/day}}]\nupstream: {{protocol: opaque"
    assert faults(f"{SOUND}{text}}}") == [
        "limits[0] (line 4): expected no limit by model or batch with upstream.protocol 'opaque', which tells neither, "
        "came one; set the protocol, or model_field of a service in upstream.services"
    ]
    assert load(f"{SOUND}{text}, services: [{{service: a.B, model_field: [1]}}]}}").limits


@pytest.mark.parametrize("limit", ["per: identity", "per: [source, identity]", 'per: source, identities: ["dns:a"]'])
def test_identities_need_certificates(limit: str) -> None:
    assert faults(f"{PLAIN}limits: [{{{limit}, rate: 1/day}}]") == [
        "authentication.mtls: expected a mapping, because limits[0] is about identities; this, authentication.jwt or authentication.api_keys proves them, came nothing"
    ]
    assert load(f"{PLAIN}limits: [{{per: source, rate: 1/day}}]").limits
