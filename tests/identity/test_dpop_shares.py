"""The ledger of used proofs, shared by tenants: what one uses up keeps nobody else from his own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from interceptors.chain import Chain
from interceptors.contract import Code, Method
from interceptors.facts import Principal
from interceptors.identify import Identify
from interceptors.ledger import Bucket, Charge
from sidecar.identity import dpop, jwks
from sidecar.identity.credentials import Credentials
from sidecar.identity.dpop import SLOTS, USABLE, Proofs
from sidecar.identity.held import Held, Told
from sidecar.identity.model import Issuer
from sidecar.identity.tokens import Tokens
from sidecar.limits.ledger_mmap import MmapLedger
from tests.identity.issuing import AUDIENCE, ISSUER, claims, jwk, token
from tests.identity.issuing import jwks as key_set
from tests.identity.proving import ORIGIN, PATH, key, proof
from tests.playbook import STARTED, Session

TENANTS = frozenset(("acme", "globex", "initech"))
FEW = 4096  # slots
KEPT_S = 121
METHOD = Method(PATH)
BOOT = bytes(16)


class Scene:
    """A relay's link over a ledger of its own process, on a clock that is turned by hand."""

    def __init__(self, path: Path, shared: bool = True) -> None:
        self.path = path
        self.now_ns = 10**12
        self.troubles: list[str] = []
        self.share = dpop.share(len(TENANTS), KEPT_S, FEW) if shared else None
        self.ledger = self.open()

    def open(self) -> MmapLedger:
        return MmapLedger(
            self.path, self.troubles.append, clock=lambda: self.now_ns, boot=lambda: BOOT, random_bytes=os.urandom,
            slots=FEW,
        )  # fmt: skip

    def link(self) -> Identify:
        issuer = Issuer(
            "login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256",)), tenants=TENANTS, tenant=("tenant",)
        )
        held = Held({"login": jwks.read(key_set(jwk("ES256")))}, {}, Told(lambda: inf), 5.0)
        tokens = Tokens((issuer,), held, lambda who, digest: False)
        reads = Proofs((ORIGIN,), ("ES256",), 60.0)
        return Identify([], tokens=Credentials(tokens, None, 5.0, reads, self.share), ledger=self.ledger)

    def flood(self, tenant: str, number: int, first: int = 0) -> Counter[str]:
        """What becomes of so many uses of a tenant's, each another proof: the charges alone, as the link takes them."""
        found: Counter[str] = Counter()
        for at in range(first, first + number):
            charges = [Charge(f"k\n{tenant}{at}".encode(), Bucket(1, KEPT_S, 1), 1)]
            if self.share is not None:
                charges.append(Charge(f"tenant\n\n{tenant}".encode(), self.share, 1))
            taken = self.ledger.take_all(charges)
            found[f"{taken.refusal}{taken.at or ''}"] += 1
        return found

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "proofs.bin")
    yield made
    made.ledger.close()


def text_of(tenant: str) -> str:
    said = claims(iat=STARTED - 1, exp=STARTED + 300, tenant=tenant, cnf={"jkt": key().thumbprint()})
    return token(said)


def call(link: Identify, tenant: str, proof_id: str) -> Session:
    text = text_of(tenant)
    fields = [(b"authorization", f"DPoP {text}".encode()), (b"dpop", proof(text, STARTED, jti=proof_id).encode())]
    session = Session(Chain([link]), METHOD, fields)
    session.start()
    return session


def test_a_flood_is_refused_within_its_own_share(scene: Scene) -> None:
    """By real tokens and proofs, through the link."""
    share, link = scene.share, scene.link()
    assert share is not None
    used = scene.flood("acme", 3 * FEW)
    assert used == {"": share.burst, "exceeded1": 3 * FEW - share.burst}
    refused = call(link, "acme", "one more").told.denied
    assert refused is not None
    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "identify.token_proofs_share")
    for number in range(50):
        session = call(link, "globex", f"g{number}")
        assert session.told.denied is None
        assert session.call.get(Principal).tenant == "globex"
    replayed = call(link, "globex", "g7").told.denied
    assert replayed is not None
    assert replayed.reason == "identify.token_proof_replayed"
    assert scene.troubles == []


def test_who_keeps_on_flooding_leaves_the_others_all_of_theirs(scene: Scene) -> None:
    """Two tenants take whatever they get, for as long as proofs are kept; the third then has his share, whole."""
    share = scene.share
    assert share is not None
    taken: Counter[str] = Counter()
    for step in range(KEPT_S):
        for tenant in ("acme", "globex"):
            taken[tenant] += scene.flood(tenant, 20, 20 * step)[""]
        scene.pass_s(1)
    for tenant in ("acme", "globex"):
        assert share.burst < taken[tenant] <= share.burst + share.amount
    assert scene.flood("initech", share.burst) == {"": share.burst}
    assert scene.troubles == []


def test_without_shares_one_shuts_the_others_out(tmp_path: Path) -> None:
    """What they are for."""
    scene = Scene(tmp_path / "proofs.bin", shared=False)
    assert scene.flood("acme", 3 * FEW)[""] > FEW * 9 // 10
    assert scene.flood("globex", 200)["ledger_full"] > 100
    scene.ledger.close()


def test_a_replay_takes_nothing_of_the_share(scene: Scene) -> None:
    share, link = scene.share, scene.link()
    assert share is not None
    call(link, "acme", "once")
    for _ in range(20):
        denied = call(link, "acme", "once").told.denied
        assert denied is not None
        assert denied.reason == "identify.token_proof_replayed"
    assert scene.flood("acme", share.burst)[""] == share.burst - 1


def test_it_comes_back_evenly(scene: Scene) -> None:
    share = scene.share
    assert share is not None
    scene.flood("acme", share.burst)
    assert scene.flood("acme", 1, share.burst) == {"exceeded1": 1}
    scene.pass_s(KEPT_S / share.amount * 10 + 0.001)
    assert scene.flood("acme", 20, share.burst) == {"": 10, "exceeded1": 10}


def test_shares_and_proofs_are_kept_when_all_processes_are_killed(scene: Scene) -> None:
    """Who is killed closes nothing: another process opens the file as it is."""
    share = scene.share
    assert share is not None
    scene.flood("acme", share.burst)
    call(scene.link(), "globex", "once")
    left = scene.ledger
    scene.ledger = scene.open()
    try:
        assert scene.flood("acme", 10, share.burst) == {"exceeded1": 10}
        denied = call(scene.link(), "globex", "once").told.denied
        assert denied is not None
        assert denied.reason == "identify.token_proof_replayed"
        assert call(scene.link(), "globex", "twice").told.denied is None
    finally:
        left.close()


@pytest.mark.parametrize("tenants", [2, 3, 10, 1000, 100_000])
def test_all_shares_together_are_within_the_ledger(tenants: int) -> None:
    share = dpop.share(tenants, KEPT_S)
    assert share is not None
    assert share.burst >= 1
    assert share.period_s == KEPT_S
    assert (share.burst + share.amount) * tenants <= max(SLOTS * USABLE, 4 * tenants)
    assert dpop.share(1, KEPT_S) is None
