"""What administrators revoke, on either database: what may be named, what is in force, what workers are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from interceptors.events import Durability, Event
from sidecar.errors import RequestError
from sidecar.identity import revocations
from sidecar.identity.revocations_desk import RevocationDesk
from sidecar.identity.revocations_keeping import RevocationKeeping
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATE_ID,
    ISSUER,
    NEVER,
    PRINCIPAL,
    SO,
    TOKEN,
    TOKEN_ID,
    TOPIC,
    OtherTenantError,
    Revocation,
    RevocationsFullError,
    Subject,
    decode,
)
from sidecar.identity.revocations_store_sql import SqlRevocationsReading
from sidecar.internal.mac import Caller
from sidecar.state.changes import compact
from sidecar.state.outbox import Outbox
from sidecar.state.ports import StateError
from sidecar.state.store import DatabaseStore
from tests.identity.issuing import ISSUER as URL
from tests.identity.issuing import NOW, claims, token
from tests.waiting import eventually

ADMIN = Caller("spiffe", "spiffe://example.org/admin", "default", "10.0.0.1")
OTHER = Caller("user", "user:login/eve", "acme", "10.0.0.3")
METHOD = "/langtrain.v1.RevocationService/RevokeToken"
ISSUERS = {"login": URL}
DIGEST = "0a" * 32
ONE, TWO = Subject(TOKEN_ID, URL, "1"), Subject(TOKEN_ID, URL, "2")


class Scene:
    def __init__(self, store: DatabaseStore) -> None:
        self.store = store
        self.now = NOW
        self.recorded: list[Event] = []
        self.told: list[tuple[str, str, Any]] = []
        self.desk = RevocationDesk(
            store, Outbox(store, self._record, "of the tests"), lambda: ISSUERS, lambda: self.now
        )
        self.keeping = RevocationKeeping(store, self.desk, self._tell, time.monotonic)

    def _record(self, events: Sequence[Event]) -> None:
        self.recorded += events

    def _tell(self, *changes: tuple[str, str, Any]) -> None:
        self.told += changes

    def revoke(
        self,
        subject: Subject,
        before: float = NEVER,
        expires: float = NEVER,
        caller: Caller = ADMIN,
        reason: str = "",
    ) -> Revocation:
        return self.desk.revoke(caller, METHOD, subject, before, expires, reason)

    def known(self) -> set[Subject]:
        """What a worker makes of all that it was told."""
        found: dict[str, Subject] = {}
        for topic, key, value in list(self.told):
            if topic == TOPIC and value is None:
                found.pop(key, None)
            elif topic == TOPIC:
                found[key] = decode(value).subject
        return set(found.values())


@pytest.fixture
def scene(store: DatabaseStore) -> Iterator[Scene]:
    made = Scene(store)
    yield made
    made.keeping.close()


# --- in force ---------------------------------------------------------------------------------------------------


def test_what_is_revoked_is_recorded_and_listed(scene: Scene) -> None:
    made = scene.revoke(ONE, expires=NOW + 60, reason="stolen")
    (event,) = scene.recorded
    assert (event.kind, event.durability, event.principal, event.method) == (
        "token.revoked",
        Durability.COMMIT,
        ADMIN.name,
        METHOD,
    )
    assert event.reason == f"token 1 of {URL}: stolen"
    assert scene.desk.page(ADMIN, "", 10) == ([made], "")
    assert made == Revocation("default", ONE, NEVER, NOW, NOW + 60, ADMIN.name, "stolen")


def test_the_same_again_does_nothing(scene: Scene) -> None:
    first = scene.revoke(ONE, expires=NOW + 60)
    scene.now += 1
    assert scene.revoke(ONE, expires=NOW + 60) == first
    assert scene.revoke(ONE, expires=NOW + 30, caller=ADMIN) == first
    assert len(scene.recorded) == 1


def test_what_is_revoked_stays_so_for_as_long_as_anybody_said(scene: Scene) -> None:
    alice = Subject(PRINCIPAL, "", "user:login/alice")
    scene.revoke(alice, before=NOW - 100)
    later = scene.revoke(alice, before=NOW, expires=NOW + 60)  # one that ends does not end the other
    assert (later.issued_before, later.expires) == (NOW, NEVER)
    assert scene.revoke(alice, before=NOW - 50) == later
    assert [each.reason for each in scene.recorded] == [
        "tokens of user:login/alice issued before 2027-01-15T07:58:20+00:00",
        "tokens of user:login/alice issued before 2027-01-15T08:00:00+00:00",
    ]


def test_tenants_are_apart_but_for_the_default_one(scene: Scene) -> None:
    ours, theirs = scene.revoke(ONE), scene.revoke(ONE, caller=OTHER)
    assert ours.id != theirs.id
    assert (ours.tenant, theirs.tenant) == ("default", "acme")
    assert scene.desk.page(OTHER, "", 10).revocations == [theirs]
    assert {each.id for each in scene.desk.page(ADMIN, "", 10).revocations} == {ours.id, theirs.id}
    with pytest.raises(OtherTenantError):
        scene.revoke(Subject(CERTIFICATE, "", DIGEST), caller=OTHER)
    assert scene.revoke(Subject(CERTIFICATE, "", DIGEST)).tenant == "default"
    assert scene.recorded[-1].kind == "certificate.revoked"


def test_pages(scene: Scene) -> None:
    made = sorted(scene.revoke(Subject(TOKEN_ID, URL, str(number))).id for number in range(5))
    found: list[str] = []
    after = ""
    while True:
        page = scene.desk.page(ADMIN, after, 2)
        found += [each.id for each in page.revocations]
        if not (after := page.after):
            break
    assert found == made
    with pytest.raises(RequestError, match="page_token"):
        scene.desk.page(ADMIN, "x", 2)


def test_more_than_workers_could_hold_are_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MOST", 2)
    scene.revoke(ONE)
    scene.revoke(TWO)
    with pytest.raises(RevocationsFullError):
        scene.revoke(Subject(TOKEN_ID, URL, "3"))
    scene.revoke(ONE, expires=NOW + 5)  # no further one


def test_no_tenant_leaves_others_nothing_to_revoke_with(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MOST", 5), ("MOST_OF_OTHERS", 4), ("MOST_OF_ONE", 2)):
        monkeypatch.setattr(revocations, name, most, raising=False)

    def revoke(caller: Caller, *numbers: int) -> None:
        for number in numbers:
            scene.revoke(Subject(TOKEN_ID, URL, f"{number}"), caller=caller)

    third = Caller("user", "user:login/mallory", "third")
    revoke(OTHER, 1, 2)
    with pytest.raises(RevocationsFullError, match="of tenant acme"):
        revoke(OTHER, 3)
    revoke(third, 1)
    revoke(ADMIN, 1)
    with pytest.raises(RevocationsFullError, match="tenant third may add to fewer than 4"):
        revoke(third, 2)
    revoke(ADMIN, 2)
    with pytest.raises(RevocationsFullError):
        revoke(ADMIN, 3)


def test_one_goes_once_what_it_revokes_has_ended(scene: Scene) -> None:
    scene.revoke(ONE, expires=NOW + 60)
    kept = scene.revoke(TWO)
    scene.now = NOW + 60 + revocations.GRACE_S - 1
    scene.desk.drop()
    assert len(scene.desk.page(ADMIN, "", 10).revocations) == 2  # another host's clock may be behind
    scene.now += 1
    scene.desk.drop()
    assert scene.desk.page(ADMIN, "", 10).revocations == [kept]


# --- told -------------------------------------------------------------------------------------------------------


def test_workers_are_told_all_before_they_listen_and_then_each_change(scene: Scene) -> None:
    scene.revoke(ONE, expires=NOW + 60)
    scene.keeping.begin(scene._tell)
    assert scene.known() == {ONE}
    scene.keeping.start()
    scene.revoke(TWO)
    scene.keeping.committed(0)
    eventually(lambda: scene.known() == {ONE, TWO}, "told")
    eventually(lambda: scene.told[-1][0] == SO, "and as of when")
    scene.now += 60 + revocations.GRACE_S
    scene.desk.drop()
    eventually(lambda: scene.known() == {TWO}, "told that it is over")


def test_what_another_sidecar_writes_is_found_by_looking(scene: Scene, store: DatabaseStore) -> None:
    scene.keeping.begin(scene._tell)
    scene.keeping.start()
    Scene(store).revoke(ONE)
    eventually(lambda: scene.known() == {ONE}, "told, though nobody said that something was written")


def test_changes_that_are_not_kept_any_more_are_told_anew(scene: Scene) -> None:
    scene.revoke(ONE, expires=NOW + 60)
    scene.keeping.begin(scene._tell)
    scene.revoke(TWO)
    scene.now += 60 + revocations.GRACE_S
    scene.desk.drop()
    scene.store.write(lambda transaction: compact(transaction, 0))
    scene.keeping.start()
    eventually(lambda: scene.known() == {TWO}, "told")


def test_one_that_is_spoilt_keeps_workers_from_being_told_any(scene: Scene, store: DatabaseStore) -> None:
    """Else it would revoke nothing, and nobody would know."""
    made = scene.revoke(ONE)
    store.write(lambda transaction: transaction.run("UPDATE revocations SET kind = 'nothing'"))
    with pytest.raises(StateError, match=f"revocation {made.id} in the state is damaged"):
        scene.keeping.begin(scene._tell)
    assert scene.told == []


def test_what_is_told_outlives_the_process(scene: Scene, store: DatabaseStore) -> None:
    made = scene.revoke(Subject(PRINCIPAL, "", "user:login/ü"), before=NOW, expires=NOW + 60, reason="gone")
    assert store.read(lambda reading: SqlRevocationsReading(reading).get(made.id)) == made


# --- what may be named ------------------------------------------------------------------------------------------


def faults(naming: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(RequestError) as raised:
        naming()
    return dict(raised.value.faults)


def test_a_token_is_known_by_what_is_signed_of_it() -> None:
    text = token(claims())
    subject, expires = revocations.token(text, ISSUERS, NOW)
    assert (subject.kind, expires) == (TOKEN, NOW + 300)
    head, body, _ = text.split(".")
    assert revocations.token(f"{head}.{body}.AAAA", ISSUERS, NOW).subject == subject


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ltk_4Zk2hJm8QwEr_x", "is an API key"),
        ("no token", "is no signed token"),
        ("", "is no signed token"),
        (token(claims(iss="https://else.example")), "is of another issuer"),
        (token(claims(exp=NOW)), "has expired"),
        (token(claims(exp=None)), "does not say when it expires"),
        (token(claims(exp="soon")), "does not say when it expires"),
        (token(claims(exp=1e300)), "does not say when it expires"),
    ],
)
def test_a_token_that_nobody_would_let_in_is_a_fault(text: str, fault: str) -> None:
    assert faults(lambda: revocations.token(text, ISSUERS, NOW))["text"].startswith(fault)


def test_digests() -> None:
    assert revocations.token_digest(DIGEST.upper()) == Subject(TOKEN, "", DIGEST)
    colons = ":".join(DIGEST[at : at + 2] for at in range(0, 64, 2))
    assert revocations.certificate_digest(colons) == Subject(CERTIFICATE, "", DIGEST)
    for text in ("", "0a" * 31, "0g" * 32, DIGEST + "\n", f" {DIGEST}"):
        assert "sha256" in faults(partial(revocations.token_digest, text))
        assert "sha256" in faults(partial(revocations.certificate_digest, text))


def test_ids_of_tokens() -> None:
    assert revocations.token_id(URL, "a b", ISSUERS) == Subject(TOKEN_ID, URL, "a b")
    assert set(faults(lambda: revocations.token_id(URL + "/", "", ISSUERS))) == {"id.issuer", "id.jti"}
    for jti in ("", "a\0", "a\n", "x" * 257):
        assert set(faults(partial(revocations.token_id, URL, jti, ISSUERS))) == {"id.jti"}


def test_principals_and_issuers() -> None:
    assert revocations.principal("user:login/a/b", ISSUERS) == Subject(PRINCIPAL, "", "user:login/a/b")
    for name in ("", "alice", "user:login", "user:login/", "user:else/alice", "key:x", "spiffe://a/b", "user:login/\0"):
        assert "user:login/…" in faults(partial(revocations.principal, name, ISSUERS))["principal"]
    assert revocations.issuer(URL, ISSUERS) == Subject(ISSUER, URL, "")
    assert URL in faults(lambda: revocations.issuer("login", ISSUERS))["issuer"]
    assert "has none" in faults(lambda: revocations.issuer("login", {}))["issuer"]


def test_times_and_reasons() -> None:
    assert revocations.issued_before(NOW + 60, NOW) == NOW + 60
    for wrong in (NOW + 61, 0.0, -1.0):
        assert "issued_before" in faults(partial(revocations.issued_before, wrong, NOW))
    assert revocations.expires(NEVER, NOW) == NEVER
    for wrong in (NOW, -1.0, 1e12):
        assert "expires" in faults(partial(revocations.expires, wrong, NOW))
    assert revocations.reason("stolen, ü") == "stolen, ü"
    for text in ("x" * 257, "a\nb"):
        assert "reason" in faults(partial(revocations.reason, text))


def test_certificates() -> None:
    start = datetime.fromtimestamp(NOW, UTC)
    made = certificate(start, start + timedelta(days=1))
    pem = made.public_bytes(Encoding.PEM).decode()
    ending = revocations.certificate(pem, NOW)
    assert ending.subject == Subject(CERTIFICATE, "", made.fingerprint(hashes.SHA256()).hex())
    assert ending.expires == NOW + 86400
    for wrong in ("", "x", pem + pem, pem[:100], "x" * 100_000):
        assert "pem" in faults(partial(revocations.certificate, wrong, NOW))
    assert faults(lambda: revocations.certificate(pem, NOW + 86400)) == {"pem": "has expired"}


@pytest.mark.parametrize(
    "serial",
    ["0A0b", "a0b", "0x0A0B", "0a:0b", "a:0b", "0a 0b", "00:0A:0B", "serial=0A0B", "2571 (0xa0b)", f" {'0' * 40}a0b "],
)
@pytest.mark.parametrize(
    "issuer",
    ["CN=CA\\, Ltd,O=Example", "CN=CA\\2C Ltd,O=Example", 'o = example, cn = "Ca,  LTD"', "/O=Example/CN=CA, Ltd"],
)
def test_a_number_and_an_issuer_are_known_however_they_are_spelt(serial: str, issuer: str) -> None:
    assert revocations.certificate_id(issuer, serial) == Subject(CERTIFICATE_ID, "CN=ca\\, ltd,O=example", "a0b")


def test_the_longest_number() -> None:
    longest = "00" + ":FF" * 20
    assert revocations.certificate_id("CN=CA", longest).name == "ff" * 20
    assert set(faults(partial(revocations.certificate_id, "CN=CA", f"01{longest[2:]}"))) == {"id.serial"}


def test_what_is_no_number_or_issuer() -> None:
    for serial in (
        "",
        "0",
        "00",
        "-1",
        "xyz",
        "1" * 41,
        "1 2",
        "0a:b",
        "0a:0b 0c",
        "0a::0b",
        "2571 (0xa0c)",
        "0x",
        "x" * 999,
    ):
        assert set(faults(partial(revocations.certificate_id, "CN=CA", serial))) == {"id.serial"}
    for issuer in ("", "CA", "=CA", "CN=", "CN=CA, Ltd", "CN=CA,", "x" * 2000):
        assert set(faults(partial(revocations.certificate_id, issuer, "1"))) == {"id.issuer"}


def certificate(start: datetime, end: datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA, Ltd")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    return builder.serial_number(0xA0B).not_valid_before(start).not_valid_after(end).sign(key, hashes.SHA256())
