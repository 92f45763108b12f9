"""Nonces that proofs of possession carry: when they are good, and what a caller is told."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import Code, Deny, Method
from interceptors.identify import Identify
from interceptors.ledger import TAKEN, Charge, Taken
from interceptors.nonces import Nonces as TellNonces
from sidecar.identity import jwks
from sidecar.identity.credentials import Credentials
from sidecar.identity.dpop import Proofs
from sidecar.identity.dpop_nonces import NonceError, Nonces
from sidecar.identity.held import Held, Told
from sidecar.identity.model import Issuer
from sidecar.identity.tokens import Tokens
from tests.identity.issuing import AUDIENCE, ISSUER, claims, jwk, token
from tests.identity.issuing import jwks as key_set
from tests.identity.proving import ORIGIN, PATH, key, proof
from tests.playbook import STARTED, Session

KEY = bytes(range(32))
SPAN_S = 60.0
BEGIN = STARTED - STARTED % SPAN_S  # of the span that STARTED is in


def given(nonces: Nonces, now: float) -> str:
    """What whoever has none is told."""
    with pytest.raises(NonceError) as raised:
        nonces.check(None, now)
    return raised.value.nonce


def test_it_is_good_in_its_span_and_the_next() -> None:
    nonces = Nonces(KEY, SPAN_S)
    first = given(nonces, BEGIN)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", first)
    assert nonces.check(first, BEGIN + 59.999) == ""
    second = nonces.check(first, BEGIN + 60)
    assert second not in ("", first)
    assert nonces.check(second, BEGIN + 60) == ""
    assert nonces.check(first, BEGIN + 119.999) == second
    with pytest.raises(NonceError) as raised:
        nonces.check(first, BEGIN + 120)
    assert nonces.check(raised.value.nonce, BEGIN + 120) == ""
    with pytest.raises(NonceError):
        nonces.check(second, BEGIN + 59)  # one of a span to come


def test_it_is_the_same_of_all_that_have_the_key() -> None:
    assert given(Nonces(KEY, SPAN_S), BEGIN) == given(Nonces(KEY, SPAN_S), BEGIN + 30)
    assert given(Nonces(KEY[::-1], SPAN_S), BEGIN) != given(Nonces(KEY, SPAN_S), BEGIN)
    with pytest.raises(ValueError, match="31 bytes"):
        Nonces(KEY[1:], SPAN_S)


@pytest.mark.parametrize("said", [None, "", 7, True, ["x"], {"a": 1}, "x" * 22, "ü", "\ud800", "x" * 10_000])
def test_whatever_else_is_none(said: Any) -> None:
    with pytest.raises(NonceError):
        Nonces(KEY, SPAN_S).check(said, BEGIN)


def test_neighbours_are_none() -> None:
    nonces = Nonces(KEY, SPAN_S)
    good = given(nonces, BEGIN)
    for other in (good[:-1], good + "A", good.swapcase(), f" {good}", good + "="):
        with pytest.raises(NonceError):
            nonces.check(other, BEGIN)


class Empty:
    """A ledger in which nothing was used."""

    def take_all(self, charges: Any) -> Taken:
        assert all(isinstance(each, Charge) for each in charges)
        return TAKEN

    def fold(self, name: bytes, into: int) -> int:
        return 0


def call(nonces: Nonces | None, *, again: bool = False, bound: bool = True, **changed: Any) -> Session:
    """By the links that the relay has, at STARTED."""
    issuer = Issuer("login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256",)))
    held = Held({"login": jwks.read(key_set(jwk("ES256")))}, {}, Told(lambda: inf), 5.0)
    tokens = Tokens((issuer,), held, lambda who, digest: False)
    credentials = Credentials(tokens, None, 5.0, Proofs((ORIGIN,), ("ES256",), SPAN_S, nonces))
    text = token(claims(iat=STARTED - 1, exp=STARTED + 300, cnf={"jkt": key().thumbprint()} if bound else None))
    fields = [(b"authorization", f"DPoP {text}".encode()), (b"dpop", proof(text, STARTED, **changed).encode())]
    links = [Identify([], tokens=credentials, ledger=Empty(), again=again), TellNonces()]
    session = Session(Chain(links), Method(PATH), fields)
    session.start()
    return session


def denied(session: Session) -> Deny:
    found = session.told.denied
    assert found is not None
    return found


def test_who_has_none_is_told_one() -> None:
    nonces = Nonces(KEY, SPAN_S)
    refused = denied(call(nonces))
    assert (refused.code, refused.reason) == (Code.UNAUTHENTICATED, "identify.token_proof_nonce")
    assert refused.trailers == (
        (b"dpop-nonce", given(nonces, STARTED).encode()), (b"www-authenticate", b'DPoP error="use_dpop_nonce"'),
    )  # fmt: skip
    assert call(nonces, nonce=refused.trailers[0][1].decode()).told.denied is None


def test_the_next_is_told_while_the_last_is_good() -> None:
    nonces = Nonces(KEY, SPAN_S)
    for nonce, told in (
        (given(nonces, STARTED), ()),
        (given(nonces, STARTED - SPAN_S), ((b"dpop-nonce", given(nonces, STARTED).encode()),)),
    ):
        session = call(nonces, nonce=nonce)
        session.response_headers((b"content-type", b"application/grpc"))
        assert session.told.client_headers == ((b"content-type", b"application/grpc"), *told)


def test_a_nonce_stands_for_the_clients_clock() -> None:
    nonces = Nonces(KEY, SPAN_S)
    good = given(nonces, STARTED)
    for issued in (STARTED - 86400, STARTED + 86400):
        assert call(nonces, nonce=good, iat=int(issued)).told.denied is None
        assert denied(call(None, nonce=good, iat=int(issued))).reason == "identify.token_proof_time"
    assert denied(call(nonces, nonce=good, iat=None)).reason == "identify.token_proof_time"


def test_nothing_else_is_forgiven() -> None:
    nonces = Nonces(KEY, SPAN_S)
    good = given(nonces, STARTED)
    assert denied(call(nonces, nonce=good, signer=key(1))).reason == "identify.token_proof_signature"
    assert denied(call(nonces, nonce=good, htu=f"{ORIGIN}/other")).reason == "identify.token_proof_uri"
    assert denied(call(nonces, nonce=good, bound=False)).reason == "identify.token_unbound"


def test_a_call_under_way_needs_none_anew() -> None:
    nonces = Nonces(KEY, SPAN_S)
    assert call(nonces, again=True, nonce=given(nonces, STARTED - 10 * SPAN_S)).told.denied is None


def test_where_none_is_asked_for_one_is_no_fault() -> None:
    assert call(None, nonce="whatever").told.denied is None
