"""Who a certificate names, and who it does not."""

from __future__ import annotations

from typing import Any

import pytest

from interceptors.certificates import MOST_REMEMBERED
from interceptors.chain import Chain
from interceptors.contract import Call, Code, Deny, Headers, Peer
from interceptors.facts import PeerCertificate, Principal
from interceptors.identify import Identify
from interceptors.tokens import Proof
from tests.playbook import METHOD, STARTED, Session


def certificate(**fields: Any) -> PeerCertificate:
    known = {"uris": (), "dns": (), "common_name": "", "not_after": STARTED + 60, "fingerprint": "00"}
    return PeerCertificate(**{**known, "trust_domains": frozenset({"example.org"}), **fields})


def identified(presented: object, link: Identify | None = None) -> Principal | Deny | None:
    link = link or Identify(["example.org", "example.com"])
    session = Session(Chain([link]), peer=Peer("192.0.2.1:1", "192.0.2.1", presented))
    session.start()
    return session.told.denied or session.call.find(Principal)


SPIFFE = "spiffe://example.org/team/a"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"uris": (SPIFFE,)}, Principal("spiffe", SPIFFE)),
        ({"uris": (SPIFFE,), "dns": ("a.example.org", "b.example.org")}, Principal("spiffe", SPIFFE)),
        ({"uris": (SPIFFE,), "common_name": "root"}, Principal("spiffe", SPIFFE)),
        ({"dns": ("a.example.org",)}, Principal("dns", "dns:a.example.org")),
        ({"dns": ("A.Example.org",)}, Principal("dns", "dns:a.example.org")),
        ({"dns": ("a.example.org",), "common_name": "a"}, Principal("dns", "dns:a.example.org")),
    ],
)
def test_names(fields: dict[str, Any], expected: Principal) -> None:
    assert identified(certificate(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"uris": (SPIFFE, "spiffe://example.org/team/b")}, "several_uris"),
        ({"uris": (SPIFFE, SPIFFE)}, "several_uris"),
        ({"uris": (SPIFFE, "https://example.org/"), "dns": ("a.example.org",)}, "several_uris"),
        ({"uris": ("https://example.org/team/a",), "dns": ("a.example.org",)}, "spiffe_id"),
        ({"uris": ("spiffe://example.org/",)}, "spiffe_id"),
        ({"uris": ("spiffe://example.org/team/../a",)}, "spiffe_id"),
        ({"uris": ("spiffe://other.org/team/a",)}, "trust_domain"),  # nobody's
        ({"uris": ("spiffe://example.com/team/a",)}, "trust_domain"),  # ours, but vouched for by another's CA
        ({"uris": (SPIFFE,), "trust_domains": frozenset()}, "trust_domain"),
        ({"uris": (SPIFFE,), "trust_domains": frozenset({"other.org"})}, "trust_domain"),
        ({"dns": ("a.example.org",), "trust_domains": frozenset()}, "trust_domain"),
        ({"dns": ("a.example.org",), "trust_domains": frozenset({"other.org"})}, "trust_domain"),
        ({"dns": ("a.example.org", "b.example.org")}, "no_name"),
        ({"dns": ("*.example.org",)}, "dns_name"),
        ({"dns": ("a.example.org/x",)}, "dns_name"),
        ({"dns": ("",)}, "dns_name"),
        ({"common_name": "a"}, "no_name"),
        ({}, "no_name"),
        ({"uris": (SPIFFE,), "not_after": STARTED}, "expired"),
    ],
)
def test_refusals(fields: dict[str, Any], reason: str) -> None:
    denial = identified(certificate(**fields))
    assert denial == Deny(Code.UNAUTHENTICATED, f"identify.{reason}", "client identity required")


@pytest.mark.parametrize("presented", [None, "a certificate", object()])
def test_no_certificate(presented: object) -> None:
    assert identified(presented) == Deny(Code.UNAUTHENTICATED, "identify.no_certificate", "client identity required")


@pytest.mark.parametrize(
    ("common_name", "allowed"),
    [
        ("a", True),
        (SPIFFE, True),
        ("Ärztin 7", True),
        ("", False),
        ("a\nb", False),
        ("a\x00", False),
        ("a" * 257, False),
    ],
)
def test_common_names_where_they_are_enabled(common_name: str, allowed: bool) -> None:
    who = identified(certificate(common_name=common_name), Identify(["example.org"], allow_common_name=True))
    if allowed:
        assert who == Principal("cn", f"cn:{common_name}")  # one that spells a SPIFFE ID is still a common name
    else:
        assert isinstance(who, Deny)
        assert who.reason == "identify.no_name"


def test_a_common_name_needs_a_trust_domains_ca_too() -> None:
    link = Identify(["example.org"], allow_common_name=True)
    denial = identified(certificate(common_name="a", trust_domains=frozenset()), link)
    assert isinstance(denial, Deny)
    assert denial.reason == "identify.trust_domain"


def test_a_certificate_is_read_once_and_its_expiry_every_time() -> None:
    link = Identify(["example.org"])
    mine = certificate(uris=(SPIFFE,))
    first = identified(mine, link)
    assert identified(mine, link) is first
    late = Call(METHOD, Headers(()), Peer("", "", mine), mine.not_after)
    verdict = link.on_start(late)
    assert isinstance(verdict, Deny)
    assert verdict.reason == "identify.expired"


def test_what_is_remembered_is_bounded() -> None:
    link = Identify(["example.org"])
    for _ in range(MOST_REMEMBERED + 10):
        link.on_start(Call(METHOD, Headers(()), Peer("", "", certificate(uris=(SPIFFE,))), STARTED))
    assert len(link._certificates._known) == MOST_REMEMBERED


def test_who_has_proven_a_revoked_certificate_is_nobody() -> None:
    """Whatever else comes with the call: it would be looked at only after."""
    revoked, good = certificate(uris=(SPIFFE,), fingerprint="01"), certificate(uris=(SPIFFE,), fingerprint="02")
    refusal = Deny(Code.UNAUTHENTICATED, "identify.certificate_revoked", "client identity required")
    link = Identify(
        ["example.org"], tokens=Unreachable(), refuse=lambda peer: refusal if peer.fingerprint == "01" else None
    )
    assert identified(revoked, link) == refusal
    assert identified(good, link) == Principal("spiffe", SPIFFE)
    session = Session(
        Chain([link]), headers=((b"authorization", b"Bearer x"),), peer=Peer("192.0.2.1:1", "192.0.2.1", revoked)
    )
    session.start()
    assert session.told.denied == refusal


class Unreachable:
    proofs = False

    def identify(self, text: str, fingerprint: str, now: float, proof: Proof | None = None) -> Deny:
        raise AssertionError("asked of a caller who is nobody")
