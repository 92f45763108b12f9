"""SPIFFE IDs: SPIFFE-ID.md sections 2.1 to 2.3 and X509-SVID.md section 5.2, each rule with one that breaks it."""

from __future__ import annotations

import pytest

from interceptors.spiffe import SpiffeError, trust_domain

LONG = "spiffe://example.org/" + "a" * (2048 - len("spiffe://example.org/"))


@pytest.mark.parametrize(
    ("uri", "domain"),
    [
        ("spiffe://example.org/team/a", "example.org"),
        ("spiffe://k8s-west.example.com/ns/staging/sa/default", "k8s-west.example.com"),
        ("spiffe://example.com/9eebccd2-12bf-40a6-b262-65fe0487d453", "example.com"),
        ("spiffe://a_b-c.d/X.y_z-0", "a_b-c.d"),
        ("spiffe://10.0.0.1/a", "10.0.0.1"),
        ("spiffe://example.org/...", "example.org"),  # three dots are a name
        ("spiffe://example.org/.a/a.", "example.org"),
        (f"spiffe://{'a' * 255}/a", "a" * 255),
        (LONG, "example.org"),
    ],
)
def test_valid(uri: str, domain: str) -> None:
    assert trust_domain(uri) == domain


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe:///a",  # no trust domain
        "spiffe://example.org",  # no path: a signing authority, not a workload
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org//a",
        "spiffe://example.org/a//b",
        "spiffe://example.org/./a",
        "spiffe://example.org/a/..",
        "spiffe://example.org/../a",
        "spiffe://Example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://example.org:/a",
        "spiffe://user@example.org/a",
        "spiffe://user:word@example.org/a",
        "spiffe://example.org/a?b=c",
        "spiffe://example.org/a?",
        "spiffe://example.org/a#b",
        "spiffe://example.org/a#",
        "spiffe://example.org/%61",
        "spiffe://ex%61mple.org/a",
        "spiffe://[::1]/a",
        "spiffe://exämple.org/a",
        "spiffe://example.org/ä",
        "spiffe://example.org/a b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/a\x00",
        "spiffe://example.org/a*",
        "spiffe://example.org\\a",
        " spiffe://example.org/a",
        "SPIFFE://example.org/a",
        "Spiffe://example.org/a",
        "https://example.org/a",
        "spiffe:/example.org/a",
        "spiffe:example.org/a",
        "example.org/a",
        f"spiffe://{'a' * 256}/a",
        LONG + "a",
    ],
)
def test_invalid(uri: str) -> None:
    with pytest.raises(SpiffeError):
        trust_domain(uri)
