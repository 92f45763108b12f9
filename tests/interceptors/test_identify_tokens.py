"""Credentials that come with a call: they alone decide, and they go no further."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import Code, Deny, Peer, RawField
from interceptors.facts import Credential, PeerCertificate, Principal
from interceptors.identify import KEYS_UNAVAILABLE, SCHEME, Identify
from interceptors.tokens import FetchKeys, Finding, KeysWanted, Proven
from tests.playbook import STARTED, Session

ALICE = Proven(Principal("user", "user:login/alice"), Credential("token", STARTED - 1, STARTED + 60))
KEY = Proven(Principal("key", "key:4Zk2hJm8QwEr"), Credential("api_key", 0.0, inf))
BAD = Deny(Code.UNAUTHENTICATED, "identify.token_signature", "token is not valid")
CERTIFICATE = PeerCertificate(
    ("spiffe://example.org/a",), (), "", STARTED + 60, "0a" * 32, frozenset(("example.org",))
)  # fmt: skip


class Known:
    """Tokens by their text; asked: what was asked, in order."""

    def __init__(self, **found: Finding) -> None:
        self.found = found
        self.asked: list[tuple[str, str]] = []

    def identify(self, text: str, fingerprint: str, now: float) -> Finding:
        assert now == STARTED
        self.asked.append((text, fingerprint))
        return self.found.get(text, BAD)


def session(
    tokens: Known, *fields: RawField, certificate: PeerCertificate | None = CERTIFICATE, **more: Any
) -> Session:
    link = Identify(["example.org"], tokens=tokens)
    peer = Peer("192.0.2.1:1", "192.0.2.1", certificate)
    run = Session(Chain([link]), headers=[(b"x", b"y"), *fields], peer=peer, **more)
    run.start()
    return run


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
@pytest.mark.parametrize("found", [ALICE, KEY])
def test_a_good_one_says_who_calls_and_goes_no_further(scheme: bytes, found: Proven) -> None:
    tokens = Known(t1=found)
    run = session(tokens, (b"authorization", scheme + b" t1"))
    assert Proven(run.call.get(Principal), run.call.get(Credential)) == found
    assert run.told.upstream_headers == ((b"x", b"y"),)
    assert tokens.asked == [("t1", CERTIFICATE.fingerprint)]


def test_a_bad_one_is_refused_whatever_the_certificate_says() -> None:
    run = session(Known(), (b"authorization", b"Bearer t1"))
    assert run.told.denied == BAD
    assert run.call.find(Principal) is None


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer ", b"Basic dTpw", b"t1", b"BearerX t1", b" t1"])
def test_another_scheme_is_refused(value: bytes) -> None:
    tokens = Known(t1=ALICE)
    assert session(tokens, (b"authorization", value)).told.denied == SCHEME
    assert tokens.asked == []


def test_without_one_the_certificate_says_who_calls() -> None:
    run = session(Known(t1=ALICE))
    assert run.call.get(Principal) == Principal("spiffe", "spiffe://example.org/a")
    assert run.call.get(Credential) == Credential("certificate", 0.0, CERTIFICATE.not_after)


def test_without_either_nobody_calls() -> None:
    denied = session(Known(), certificate=None).told.denied
    assert denied is not None
    assert (denied.code, denied.reason) == (Code.UNAUTHENTICATED, "identify.no_certificate")


def test_a_bound_token_is_shown_with_the_certificate_of_its_connection() -> None:
    tokens = Known(t1=ALICE)
    session(tokens, (b"authorization", b"Bearer t1"), certificate=None)
    assert tokens.asked == [("t1", "")]


def test_where_no_tokens_are_taken_the_header_is_the_model_servers() -> None:
    link = Identify(["example.org"])
    run = Session(Chain([link]), headers=[(b"authorization", b"Bearer t1")], peer=Peer("a:1", "a", CERTIFICATE))
    run.start()
    assert run.told.upstream_headers == ((b"authorization", b"Bearer t1"),)


def test_a_key_that_is_not_known_is_fetched_once() -> None:
    tokens = Known(t1=KeysWanted("login", BAD))

    def fetch(question: FetchKeys) -> None:
        assert question.issuer == "login"
        tokens.found["t1"] = ALICE

    run = session(tokens, (b"authorization", b"Bearer t1"), answers={FetchKeys: fetch})
    assert run.call.get(Principal) == ALICE.principal
    assert len(run.asked) == 1


def test_a_key_that_the_issuer_does_not_have_is_none() -> None:
    run = session(Known(t1=KeysWanted("login", BAD)), (b"authorization", b"Bearer t1"), answers={FetchKeys: None})
    assert run.told.denied == BAD
    assert len(run.asked) == 1


def test_while_keys_cannot_be_fetched_nobody_is_turned_away_for_good() -> None:
    run = session(Known(t1=KeysWanted("login", BAD)), (b"authorization", b"Bearer t1"))
    assert run.told.denied == KEYS_UNAVAILABLE
    assert KEYS_UNAVAILABLE.code is Code.UNAVAILABLE
