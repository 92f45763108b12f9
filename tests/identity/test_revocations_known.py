"""What a worker makes of what it is told of revocations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interceptors.contract import Code
from interceptors.facts import PeerCertificate
from sidecar.identity.model import Identified
from sidecar.identity.revocations_known import REVOKED, STALE, RevocationsKnown, StaleRevocationsError
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATE_ID,
    ISSUER,
    NEVER,
    PRINCIPAL,
    SO,
    TOKEN,
    TOKEN_ID,
    Revocation,
    Subject,
    encode,
)

STALENESS_S = 5.0
NOW = 1_800_000_000.0
URL = "https://login.example.org"
DIGEST = bytes(range(32))
ALICE = Identified("login", "alice", "default", frozenset(), (), NOW + 300, NOW - 10, "t1", None)
FINGERPRINTS = ("0a" * 32, "0b" * 32)
CLIENT = PeerCertificate(
    ("spiffe://example.org/a",), (), "", NOW, FINGERPRINTS[0], frozenset(("example.org",)),
    (FINGERPRINTS[0], "7f CN=ca", FINGERPRINTS[1], "1 CN=root"),
)  # fmt: skip


class Scene:
    def __init__(self) -> None:
        self.age = 0.0
        self.clock = 1_000.0
        self.changed: list[bool] = []
        self.known = RevocationsKnown(lambda: self.age, self.changed.append, lambda: self.clock)
        self.known.listen_so(SO, self.clock)

    def tell(self, kind: str, issuer: str, name: str, before: float = NEVER, tenant: str = "default") -> str:
        made = Revocation(tenant, Subject(kind, issuer, name), before, NOW, NEVER, "x", "")
        self.known.listen(made.id, encode(made))
        return made.id

    def token(self, who: Identified = ALICE, url: str = URL, digest: bytes = DIGEST) -> bool:
        return self.known.token(who, url, digest, STALENESS_S)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_token_by_its_digest_or_its_id(scene: Scene) -> None:
    assert not scene.token()
    first = scene.tell(TOKEN, "", DIGEST.hex())
    assert scene.token()
    assert not scene.token(digest=bytes(32))
    scene.known.listen(first, None)
    assert not scene.token()
    scene.tell(TOKEN_ID, URL, "t1")
    assert scene.token()
    assert not scene.token(url="https://else.example")  # another issuer's, of the same id
    assert not scene.token(replace(ALICE, token_id="t2"))
    assert not scene.token(replace(ALICE, token_id=""))


@pytest.mark.parametrize(("kind", "issuer", "name"), [(PRINCIPAL, "", "user:login/alice"), (ISSUER, URL, "")])
def test_all_tokens_that_were_issued_before(scene: Scene, kind: str, issuer: str, name: str) -> None:
    scene.tell(kind, issuer, name, before=NOW)
    assert scene.token()
    assert not scene.token(replace(ALICE, issued=NOW))
    assert scene.token(replace(ALICE, issued=0.0))  # nobody knows when
    assert scene.token(replace(ALICE, subject="bob")) is (kind == ISSUER)
    assert not scene.token(replace(ALICE, issuer="other", subject="alice"), url="https://else.example")
    scene.tell(kind, issuer, name, before=NOW + 5)  # in its place
    assert scene.token(replace(ALICE, issued=NOW))


def test_a_tenant_revokes_its_own_and_the_default_one_everyones(scene: Scene) -> None:
    acme = replace(ALICE, tenant="acme")
    scene.tell(TOKEN, "", DIGEST.hex(), tenant="acme")
    assert scene.token(acme)
    assert not scene.token()
    assert not scene.token(replace(ALICE, tenant="globex"))
    scene.tell(TOKEN, "", DIGEST.hex())
    assert all(scene.token(replace(ALICE, tenant=tenant)) for tenant in ("default", "acme", "globex"))


def test_a_certificate_and_those_above_it(scene: Scene) -> None:
    assert scene.known.refuse(CLIENT, STALENESS_S) is None
    for kind, issuer, name in (
        (CERTIFICATE, "", FINGERPRINTS[0]),
        (CERTIFICATE, "", FINGERPRINTS[1]),
        (CERTIFICATE_ID, "CN=CA", "7f"),
        (CERTIFICATE_ID, "CN=root", "1"),
        (CERTIFICATE_ID, "CN=Root", "1"),  # as an earlier version has kept it
    ):
        key = scene.tell(kind, issuer, name)
        assert scene.known.refuse(CLIENT, STALENESS_S) == REVOKED
        scene.known.listen(key, None)
        assert scene.known.refuse(CLIENT, STALENESS_S) is None
    for kind, issuer, name in (
        (CERTIFICATE, "", "0c" * 32),
        (CERTIFICATE_ID, "CN=CA", "7"),
        (CERTIFICATE_ID, "CN=C", "7f"),
    ):
        scene.tell(kind, issuer, name)
    assert scene.known.refuse(CLIENT, STALENESS_S) is None


def test_whoever_is_concerned_is_asked_again(scene: Scene) -> None:
    key = scene.tell(TOKEN, "", DIGEST.hex())
    scene.tell(TOKEN, "", DIGEST.hex())  # told again, as by another process: nothing has changed
    scene.tell(CERTIFICATE, "", FINGERPRINTS[0])
    scene.known.listen(key, None)  # what is over cuts nobody
    assert scene.changed == [False, True]


@pytest.mark.parametrize("what", ["nothing heard", "nothing read", "never told"])
def test_what_may_have_been_revoked_lets_nobody_in(scene: Scene, what: str) -> None:
    if what == "nothing heard":
        scene.age = STALENESS_S + 0.1
    elif what == "nothing read":
        scene.clock += STALENESS_S + 0.1
    else:
        scene.known = RevocationsKnown(lambda: 0.0, scene.changed.append, lambda: scene.clock)
    with pytest.raises(StaleRevocationsError) as raised:
        scene.token()
    assert raised.value.code is Code.UNAVAILABLE
    assert scene.known.refuse(CLIENT, STALENESS_S) == STALE
    scene.age = 0.0
    scene.known.listen_so(SO, None)  # whoever tells has begun anew
    scene.known.listen_so(SO, scene.clock)
    assert not scene.token()
