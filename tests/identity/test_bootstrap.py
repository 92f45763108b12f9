"""One-time credentials of first administrators: made, claimed once, and refused in every other case; on either
database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from interceptors.events import Durability, Event
from sidecar.identity import bootstrap_desk, bootstrap_model, keys_hash
from sidecar.identity.api_keys import ApiKey
from sidecar.identity.bootstrap_desk import PER_S, ROLE, TRIES, BootstrapDesk
from sidecar.identity.bootstrap_model import (
    AdministeredError,
    ClaimantError,
    Credential,
    CredentialError,
    Record,
    TriesError,
    new,
    parse,
)
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.internal.mac import Caller
from sidecar.policy.model import Grant, Group, Item, Role
from sidecar.policy.rows import Key
from sidecar.policy.store_sql import PolicyReading, PolicyStore, Stored
from sidecar.services.administrators import GrantedAdministrators
from sidecar.state.outbox import Outbox
from sidecar.state.store import DatabaseStore
from tests.state.engines import Postgres, opened

ALICE = Caller("spiffe", "spiffe://example.org/team/alice", "default", "192.0.2.1")
BOB = Caller("user", "user:login/bob", "default", "192.0.2.2")
OTHER = Caller("user", "user:acme/carol", "acme", "192.0.2.3")
METHOD = "/langtrain.v1.AdministratorService/ClaimAdministrator"
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
HOUR_S = 3600.0
UNRECORDED = ("malformed", "checksum", "unknown")  # as events of their own; the calls are


class Scene:
    """A desk over a store, with the time that it is there, and what it recorded."""

    def __init__(self, store: DatabaseStore, directory: Path) -> None:
        self.store = store
        self.now = NOW
        self.recorded: list[Event] = []
        self.configured: list[Item] = []
        self.key_file = directory / "one-time.key"
        if not self.key_file.exists():
            keys_hash.make(self.key_file)
        self.outbox = Outbox(store, self._record, os.urandom(8).hex())
        self.administrators = GrantedAdministrators(lambda tenant: self.configured)
        self.desk = BootstrapDesk(store, self.outbox, self.administrators, self.key_file, lambda: self.now)

    def make(self, tenant: str = "default", beside: bool = False) -> Credential:
        made = new(os.urandom)
        wanted = Record(made.id, tenant, b"", self.now, self.now + HOUR_S, "root@host", beside)
        hash_key = FileHashKeys(self.key_file).current.key
        bootstrap_desk.make(self.outbox, self.administrators, hash_key, made, wanted)
        self.outbox.settle()
        return made

    def claim(self, credential: Credential, caller: Caller = ALICE) -> Record:
        return self.desk.claim(caller, METHOD, credential.text)

    def refused(self, text: str, caller: Caller = ALICE) -> str:
        """Why it is; nothing is given, and it is recorded where it is of a credential of the tenant's."""
        before, recorded = self.grants(), len(self.recorded)
        with pytest.raises(CredentialError) as raised:
            self.desk.claim(caller, METHOD, text)
        if raised.value.reason in UNRECORDED:
            assert len(self.recorded) == recorded
        else:
            said = f"{text[4:16]}: {raised.value.reason}"
            assert (self.recorded[-1].kind, self.recorded[-1].reason) == ("administrator.refused", said)
        assert self.grants() == before
        return raised.value.reason

    def put(self, *items: Item) -> None:
        def work(transaction: object) -> None:
            for item in items:
                PolicyStore(transaction).put(Stored(item))  # type: ignore[arg-type]

        self.store.write(work)

    def revoke(self, grant: str) -> None:
        self.store.write(lambda transaction: PolicyStore(transaction).remove(Key("grant", "default", grant)))

    def grants(self, tenant: str = "default") -> list[Grant]:
        found = self.store.read(lambda reading: PolicyReading(reading).page(Key("grant", tenant, ""), 100))
        return [stored.item for stored in found if isinstance(stored.item, Grant)]

    def _record(self, events: Sequence[Event]) -> None:
        self.recorded += events


@pytest.fixture
def scene(store: DatabaseStore, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(store, tmp_path)
    yield made
    made.outbox.close()


def test_the_form_is_an_api_keys_under_another_prefix() -> None:
    made = new(os.urandom)
    assert parse(made.text) == made
    key = ApiKey(made.id, made.secret)
    assert (len(made.text), made.text[:4]) == (len(key.text), "lto_")
    assert made.text[-6:] != key.text[-6:]
    wrong = {
        "malformed": [key.text, "", made.text[:-1], made.text + "0", made.text + "\n", made.text.replace("_", "-")],
        "checksum": [
            made.text[:-1] + ("1" if made.text[-1] != "1" else "2"),
            made.text[:20] + made.text[21] + made.text[20] + made.text[22:] if made.text[20] != made.text[21] else "",
        ],
    }
    for reason, texts in wrong.items():
        for text in filter(None, texts):
            with pytest.raises(CredentialError) as raised:
                parse(text)
            assert raised.value.reason == reason


def test_it_becomes_a_grant_for_good(scene: Scene) -> None:
    credential = scene.make()
    claimed = scene.claim(credential)
    (grant,) = scene.grants()
    assert grant == Grant(
        f"administrator-{credential.id}", (ALICE.name,), "builtin.admin", ("**",),
        reason=f"claimed by the one-time credential {credential.id}, made at 2027-01-15T08:00:00+00:00 by root@host",
    )  # fmt: skip
    assert (claimed.grant, claimed.claimant, claimed.claimed) == (grant.id, ALICE.name, NOW)
    made, done = scene.recorded
    assert made == Event(
        "administrator.offered", NOW, Durability.COMMIT, "default",
        reason=f"{credential.id} until 2027-01-15T09:00:00+00:00 by root@host",
    )  # fmt: skip
    assert done == Event(
        "administrator.claimed", NOW, Durability.COMMIT, "default", ALICE.name, ALICE.source, METHOD,
        reason=f"{grant.id}: builtin.admin on ** to {ALICE.name}; by {credential.id} of root@host",
    )  # fmt: skip


def test_it_is_good_for_one_identity(scene: Scene) -> None:
    credential = scene.make()
    first = scene.claim(credential)
    assert scene.claim(credential) == first  # whose answer was lost
    assert len(scene.recorded) == 2
    assert scene.refused(credential.text, BOB) == "used"
    scene.now += 2 * HOUR_S
    assert scene.claim(credential) == first
    scene.revoke(first.grant)
    assert scene.refused(credential.text) == "used"
    assert scene.grants() == []


def test_it_ends_on_the_second(scene: Scene) -> None:
    credential = scene.make()
    scene.now += HOUR_S
    assert scene.refused(credential.text) == "expired"
    scene.now -= 0.001
    assert scene.claim(credential).claimant == ALICE.name


def test_it_is_of_one_tenant(scene: Scene) -> None:
    credential = scene.make("acme")
    assert scene.refused(credential.text, ALICE) == "unknown"
    assert scene.claim(credential, OTHER).tenant == "acme"
    assert scene.grants() == []
    assert [grant.members for grant in scene.grants("acme")] == [(OTHER.name,)]


def test_what_does_not_match_is_refused(scene: Scene, tmp_path: Path) -> None:
    credential = scene.make()
    assert scene.refused(Credential(credential.id, new(os.urandom).secret).text) == "secret"
    assert scene.refused(Credential(new(os.urandom).id, credential.secret).text) == "unknown"
    assert scene.refused(credential.text[:-1]) == "malformed"
    scene.key_file.rename(tmp_path / "elsewhere")
    assert scene.refused(credential.text) == "unknown"
    keys_hash.make(scene.key_file)
    assert scene.refused(credential.text, BOB) == "secret"  # of another key
    (tmp_path / "elsewhere").rename(scene.key_file)
    assert scene.claim(credential, BOB).claimant == BOB.name


@pytest.mark.parametrize(
    "caller",
    [
        Caller("", "", "default"),
        Caller("key", "key:4Zk2hJm8QwEr", "default"),
        Caller("dns", "dns:*.example.org", "default"),
        Caller("user", "user:login/*", "default"),
    ],
)
def test_who_cannot_be_an_administrator(scene: Scene, caller: Caller) -> None:
    """Nobody, a key, whose own permissions say all, and a name that as a member of a grant would reach others."""
    credential = scene.make()
    with pytest.raises(ClaimantError):
        scene.claim(credential, caller)
    assert scene.grants() == []
    assert scene.claim(credential).claimant == ALICE.name


def test_tries_are_few(scene: Scene) -> None:
    credential = scene.make()
    wrong = Credential(credential.id, new(os.urandom).secret).text
    for _ in range(TRIES):
        assert scene.refused(wrong) == "secret"
    recorded = len(scene.recorded)
    with pytest.raises(TriesError):
        scene.claim(credential)
    assert len(scene.recorded) == recorded
    assert scene.refused(wrong, BOB) == "secret"  # others are not held up
    scene.now += PER_S
    assert scene.claim(credential).claimant == ALICE.name


EVERYTHING = ("**",)
OWNER = Role("owner", ("models.*", "grants.write"))
THERE: dict[str, list[Item]] = {
    "an administrator": [Grant("g", (BOB.name,), "builtin.admin", EVERYTHING)],
    "an officer": [Grant("g", (BOB.name,), "builtin.security_officer", ("models/a", "**"))],
    "the tenant by its name": [Grant("g", (BOB.name,), "builtin.admin", ("tenants/default",))],
    "a role of their own": [OWNER, Grant("g", (BOB.name,), "owner", EVERYTHING)],
    "a group": [Group("ops", (BOB.name,)), Grant("g", ("group:ops",), "builtin.admin", EVERYTHING)],
    "one to come": [Grant("g", (BOB.name,), "builtin.admin", EVERYTHING, begins=NOW + 60)],
    "behind many": [
        *(Grant(f"a{number:04}", (BOB.name,), "builtin.admin", ("models/a",)) for number in range(1_001)),
        Grant("z", (BOB.name,), "builtin.admin", EVERYTHING),
    ],
}
NOT_THERE: dict[str, list[Item]] = {
    "of a team": [Grant("g", (BOB.name,), "builtin.admin", ("models/fraud-*",))],
    "an engineer": [Grant("g", (BOB.name,), "builtin.ml_engineer", EVERYTHING)],
    "all but what must be named": [Role("all", ("*",)), Grant("g", (BOB.name,), "all", EVERYTHING)],
    "over": [Grant("g", (BOB.name,), "builtin.admin", EVERYTHING, expires=NOW)],
    "another tenant's": [Grant("g", (OTHER.name,), "builtin.admin", EVERYTHING, tenant="acme")],
    "a role that nobody has": [OWNER],
}


@pytest.mark.parametrize("items", THERE.values(), ids=THERE)
def test_an_administrator_there_is_enough(scene: Scene, items: list[Item]) -> None:
    credential = scene.make()
    scene.put(*items)
    with pytest.raises(AdministeredError):
        scene.claim(credential)
    refused = scene.recorded[-1]
    assert (refused.kind, refused.reason) == ("administrator.refused", f"{credential.id}: administered")
    with pytest.raises(AdministeredError):
        scene.make()
    beside = scene.make(beside=True)
    assert scene.recorded[-1].reason.endswith("by root@host, beside administrators")
    assert scene.claim(beside).claimant == ALICE.name


@pytest.mark.parametrize("items", NOT_THERE.values(), ids=NOT_THERE)
def test_others_are_no_administrators(scene: Scene, items: list[Item]) -> None:
    scene.put(*items)
    assert scene.claim(scene.make()).claimant == ALICE.name


def test_the_configs_administrators_are_there(scene: Scene) -> None:
    credential = scene.make()
    scene.configured = [Grant("config.bootstrap_admins", (BOB.name,), ROLE, EVERYTHING)]
    with pytest.raises(AdministeredError):
        scene.claim(credential)
    with pytest.raises(AdministeredError):
        scene.make()


def test_who_had_one_gets_no_other(scene: Scene) -> None:
    """Else whoever can start `init` only has to wait until the grant is taken back."""
    claimed = scene.claim(scene.make())
    scene.revoke(claimed.grant)
    with pytest.raises(AdministeredError):
        scene.make()
    assert scene.claim(scene.make(beside=True)).claimant == ALICE.name


def test_a_new_one_voids_that_before(scene: Scene) -> None:
    old, other, new_one = scene.make(), scene.make("acme"), scene.make()
    assert scene.refused(old.text) == "unknown"
    assert scene.claim(new_one).claimant == ALICE.name
    assert scene.claim(other, OTHER).claimant == OTHER.name


def test_the_secret_is_kept_nowhere(scene: Scene, tmp_path: Path) -> None:
    credential = scene.make()
    scene.claim(credential)
    texts = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    row = scene.store.read(lambda reading: reading.row("SELECT * FROM bootstrap_credentials"))
    for kept in (*texts, str(row).encode(), str(scene.recorded).encode()):
        assert credential.secret.encode() not in kept
    assert bootstrap_model.keyed_hash(credential, FileHashKeys(scene.key_file).current.key) in row  # type: ignore[operator]


def raced(claims: Sequence[Callable[[], Record]]) -> list[str]:
    """Who of many that claim at once got it; the others were told that it is used."""
    got: list[str] = []
    reasons: list[str] = []
    start = threading.Barrier(len(claims))

    def one(claim: Callable[[], Record]) -> None:
        start.wait(30)
        try:
            got.append(claim().claimant)
        except CredentialError as error:
            reasons.append(error.reason)

    threads = [threading.Thread(target=one, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == ["used"] * (len(claims) - 1)
    return got


def callers(number: int) -> list[Caller]:
    return [Caller("user", f"user:login/{at}", "default", "192.0.2.4") for at in range(number)]


def test_of_many_at_once_one_gets_it(scene: Scene) -> None:
    credential = scene.make()
    (got,) = raced([lambda caller=caller: scene.claim(credential, caller) for caller in callers(16)])  # type: ignore[misc]
    assert [grant.members for grant in scene.grants()] == [(got,)]


def test_of_many_sidecars_one_gives_it(on_postgres: Postgres, tmp_path: Path) -> None:
    with opened(on_postgres) as here, opened(on_postgres) as there:
        scenes = [Scene(here, tmp_path), Scene(there, tmp_path)]
        credential = scenes[0].make()
        (got,) = raced(
            [lambda at=at, caller=caller: scenes[at % 2].claim(credential, caller)  # type: ignore[misc]
             for at, caller in enumerate(callers(8))]
        )  # fmt: skip
        assert [grant.members for grant in scenes[1].grants()] == [(got,)]
        for each in scenes:
            each.outbox.close()
