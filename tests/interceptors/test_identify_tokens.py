"""Credentials that come with a call: they alone decide, and they go no further."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import Code, Deny, Peer, RawField
from interceptors.facts import Credential, PeerCertificate, Principal
from interceptors.identify import KEYS_UNAVAILABLE, PROOFS_UNAVAILABLE, REPLAYED, SCHEME, Identify
from interceptors.ledger import Bucket, Charge, Refusal, Taken
from interceptors.tokens import FetchKeys, Finding, KeysWanted, Once, Proof, Proven, UseProof
from tests.playbook import METHOD, STARTED, Session

ALICE = Proven(Principal("user", "user:login/alice"), Credential("token", STARTED - 1, STARTED + 60))
KEY = Proven(Principal("key", "key:4Zk2hJm8QwEr"), Credential("api_key", 0.0, inf))
BAD = Deny(Code.UNAUTHENTICATED, "identify.token_signature", "token is not valid")
CERTIFICATE = PeerCertificate(
    ("spiffe://example.org/a",), (), "", STARTED + 60, "0a" * 32, frozenset(("example.org",))
)  # fmt: skip


class Known:
    """Tokens by their text; asked: what was asked, in order; shown: with which proofs."""

    def __init__(self, proofs: bool = False, **found: Finding) -> None:
        self.proofs = proofs
        self.found = found
        self.asked: list[tuple[str, str]] = []
        self.shown: list[Proof | None] = []

    def identify(self, text: str, fingerprint: str, now: float, proof: Proof | None = None) -> Finding:
        assert now == STARTED
        self.asked.append((text, fingerprint))
        self.shown.append(proof)
        return self.found.get(text, BAD)


class Used:
    """A ledger that says what it is told to. taken: what was."""

    def __init__(self, *refusals: Refusal) -> None:
        self.refusals = list(refusals)
        self.taken: list[Charge] = []

    def take_all(self, charges: Sequence[Charge]) -> Taken:
        self.taken += charges
        return Taken(self.refusals.pop(0))

    def fold(self, name: bytes, into: int) -> int:
        raise AssertionError("nothing is folded")


def session(
    tokens: Known,
    *fields: RawField,
    certificate: PeerCertificate | None = CERTIFICATE,
    ledger: Used | None = None,
    again: bool = False,
    **more: Any,
) -> Session:
    link = Identify(["example.org"], tokens=tokens, ledger=ledger)
    if again:
        link = link.again()
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


CHARGE = Charge(b"p1", Bucket(1, 120, 1), 1)
SHOWN = ((b"authorization", b"DPoP t1"), (b"dpop", b"p1"))


@pytest.mark.parametrize("scheme", [b"DPoP", b"dpop", b"DPOP"])
def test_a_proof_is_shown_used_and_goes_no_further(scheme: bytes) -> None:
    tokens, ledger = Known(True, t1=Once(ALICE, (CHARGE,))), Used("")
    run = session(tokens, (b"authorization", scheme + b" t1"), (b"dpop", b"p1"), ledger=ledger)
    assert run.call.get(Principal) == ALICE.principal
    assert run.told.upstream_headers == ((b"x", b"y"),)
    assert tokens.shown == [Proof((b"p1",), METHOD.path, False)]
    assert ledger.taken == [CHARGE]


def test_every_header_with_a_proof_is_shown() -> None:
    tokens = Known(True)
    session(tokens, (b"authorization", b"DPoP t1"), (b"dpop", b"p1"), (b"dpop", b"p2"))
    session(tokens, (b"authorization", b"DPoP t1"))
    assert [proof.given for proof in tokens.shown if proof] == [(b"p1", b"p2"), ()]


def test_with_a_bearers_token_a_proof_is_not_shown_nor_sent_on() -> None:
    tokens = Known(True, t1=ALICE)
    run = session(tokens, (b"authorization", b"Bearer t1"), (b"dpop", b"p1"))
    assert tokens.shown == [None]
    assert run.told.upstream_headers == ((b"x", b"y"),)


def test_where_no_proofs_are_taken_the_scheme_is_refused() -> None:
    tokens = Known(t1=ALICE)
    assert session(tokens, *SHOWN).told.denied == SCHEME
    assert tokens.asked == []


@pytest.mark.parametrize(
    ("refusals", "answer", "denied"),
    [
        (["exceeded"], None, REPLAYED),
        (["ledger_full"], None, PROOFS_UNAVAILABLE),
        (["ledger_busy"], Taken("exceeded"), REPLAYED),
        (["ledger_busy"], Taken("ledger_busy"), PROOFS_UNAVAILABLE),
        (["ledger_busy"], None, PROOFS_UNAVAILABLE),
        (["ledger_busy"], Taken(""), None),
    ],
)
def test_a_proof_that_was_used_or_may_have_been_is_refused(
    refusals: list[Refusal], answer: Taken | None, denied: Deny | None
) -> None:
    answers = {} if answer is None else {UseProof: lambda question: answer}
    run = session(Known(True, t1=Once(ALICE, (CHARGE,))), *SHOWN, ledger=Used(*refusals), answers=answers)
    assert run.told.denied == denied
    assert (run.call.find(Principal) is None) == (denied is not None)


def test_without_a_ledger_no_proof_is_taken() -> None:
    assert session(Known(True, t1=Once(ALICE, (CHARGE,))), *SHOWN).told.denied == PROOFS_UNAVAILABLE


def test_a_call_under_way_has_used_its_proof_itself() -> None:
    tokens, ledger = Known(True, t1=ALICE), Used()
    run = session(tokens, *SHOWN, ledger=ledger, again=True)
    assert run.call.get(Principal) == ALICE.principal
    assert tokens.shown == [Proof((b"p1",), METHOD.path, True)]


@pytest.mark.parametrize("refusal", ["", "exceeded", "ledger_busy"])
def test_keys_are_fetched_before_a_proof_is_used(refusal: Refusal) -> None:
    tokens, ledger = Known(True, t1=KeysWanted("login", BAD)), Used(refusal)

    def fetch(question: FetchKeys) -> None:
        tokens.found["t1"] = Once(ALICE, (CHARGE,))

    answers = {FetchKeys: fetch, UseProof: lambda question: Taken("")}
    run = session(tokens, *SHOWN, ledger=ledger, answers=answers)
    assert run.told.denied == (REPLAYED if refusal == "exceeded" else None)
    assert ledger.taken == [CHARGE]
