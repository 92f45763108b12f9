"""What a worker makes of what it is told of API keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import pytest

from interceptors.contract import Code, Deny
from interceptors.facts import KeyGrant
from interceptors.ledger import Bucket
from interceptors.limit import OwnBudget
from interceptors.tokens import Proven
from sidecar.identity import keys_known as module
from sidecar.identity.api_keys import ApiKeyError
from sidecar.identity.credentials import Credentials
from sidecar.identity.keys_file import KeyFile
from sidecar.identity.keys_known import KeysKnown, StaleKeysError
from sidecar.identity.keys_model import FILE, SO, HashKey, KeyRecord, encode
from tests.identity.key_files import DATABASE, written
from tests.identity.keyring import HASH_KEY, NOW, OTHER_HASH_KEY, made
from tests.identity.test_keys_lookup import Keyring

STALENESS_S = 5.0


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.age = 0.0
        self.changed: list[Collection[str] | None] = []
        self.clock = 1_000.0
        self.known = KeysKnown(lambda: self.age, self.changed.append, lambda: self.clock)
        self.known.listen_so(SO, (self.clock, 1.0))
        self.known.configure(Keyring(HASH_KEY))

    def tell_file(self, *records: KeyRecord, sequence: int, database: str = DATABASE) -> None:
        written(self.path, records, sequence, database=database).close()
        self.known.listen_file(FILE, (str(self.path), sequence, database))

    def tell(self, sequence: int, record: KeyRecord) -> None:
        self.known.listen(record.key_id, (sequence, encode(record)))

    def reason(self, text: str) -> str:
        try:
            self.known.identify(text, NOW, STALENESS_S)
        except ApiKeyError as error:
            return error.reason
        return ""

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what a thread does has no event here
                await asyncio.sleep(0.005)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Files that were tried to be opened, again and again without a pause: of three tries two have ended."""
    tried: list[object] = []
    opened = module._opened

    def noted(wanted: tuple[str, int, str], hash_key: HashKey) -> KeyFile:
        tried.append(wanted)
        return opened(wanted, hash_key)

    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "_opened", noted)
    return tried


def play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Scene(tmp_path / "api-keys.bin"))

    asyncio.run(run())


def test_keys_of_the_file_and_those_that_changed_since(tmp_path: Path) -> None:
    (one, one_record), (two, two_record) = made(1), made(2)

    async def scene(at: Scene) -> None:
        assert at.reason(one.text) == "identify.key_stale"  # nothing was told yet
        at.tell(9, two_record)  # before the file is open
        at.tell_file(one_record, sequence=7)
        await at.until(lambda: at.reason(one.text) == "")
        assert at.reason(two.text) == ""
        at.tell(10, one_record._replace(revoked=NOW))
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        assert at.reason(two.text) == ""
        assert at.known.used.take() == {one.key_id: NOW, two.key_id: NOW}

    play(tmp_path, scene)


def test_another_file_takes_over_what_was_told(tmp_path: Path) -> None:
    (one, one_record), (two, two_record) = made(1), made(2)
    revoked = one_record._replace(revoked=NOW)

    async def scene(at: Scene) -> None:
        at.tell_file(one_record, sequence=7)
        await at.until(lambda: at.reason(one.text) == "")
        at.tell(8, revoked)
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        at.tell_file(revoked, two_record, sequence=9)
        at.known.listen(one.key_id, None)  # the file has it
        await at.until(lambda: at.reason(two.text) == "")
        assert at.reason(one.text) == "identify.key_revoked"

    play(tmp_path, scene)


def test_it_is_told_whose_keys_have_changed(tmp_path: Path) -> None:
    """Of calls that are open nobody else's are asked about again."""
    (one, record), (two, _) = made(1), made(2)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=7)
        await at.until(lambda: at.reason(one.text) == "")
        assert at.changed[-1] is None  # whatever was known before
        at.tell(8, record._replace(revoked=NOW))
        at.tell(9, record._replace(key_id=two.key_id))  # its successor, who goes by its name
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        assert at.changed[-1] == {f"key:{one.key_id}"}
        before = len(at.changed)
        at.tell_file(record._replace(revoked=NOW), sequence=9)
        at.known.listen_so(SO, (at.clock, 2.0))
        await at.until(lambda: len(at.changed) > before)
        assert at.changed[before:] == [None]

    play(tmp_path, scene)


def test_what_may_have_changed_is_not_relied_upon(tmp_path: Path) -> None:
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=7)
        await at.until(lambda: at.reason(one.text) == "")
        at.age = STALENESS_S + 0.001
        with pytest.raises(StaleKeysError) as raised:
            at.known.identify(one.text, NOW, STALENESS_S)
        assert raised.value.code is Code.UNAVAILABLE

    play(tmp_path, scene)


def test_that_somebody_tells_is_not_that_they_could_read(tmp_path: Path) -> None:
    """The services process is there, and its database is not."""
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=7)
        await at.until(lambda: at.reason(one.text) == "")
        at.clock += STALENESS_S + 0.001
        assert at.reason(one.text) == "identify.key_stale"
        at.known.listen_so(SO, None)
        assert at.reason(one.text) == "identify.key_stale"
        at.known.listen_so(SO, (at.clock, 1.0))
        assert at.reason(one.text) == ""

    play(tmp_path, scene)


@pytest.mark.parametrize("spoilt", [b"", b"x" * 4_096])
def test_a_file_that_cannot_be_used_is_tried_again(tmp_path: Path, tries: list[object], spoilt: bytes) -> None:
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.path.touch(0o600)
        at.path.write_bytes(spoilt)
        at.known.listen_file(FILE, (str(at.path), 7, DATABASE))
        await at.until(lambda: len(tries) >= 3)
        assert at.reason(one.text) == "identify.key_stale"
        written(at.path, [record]).close()
        await at.until(lambda: at.reason(one.text) == "")

    play(tmp_path, scene)


def test_a_file_of_another_hash_key_lets_nobody_in(tmp_path: Path, tries: list[object]) -> None:
    one, record = made(1, OTHER_HASH_KEY)

    async def scene(at: Scene) -> None:
        written(at.path, [record], hash_key=OTHER_HASH_KEY).close()
        at.known.listen_file(FILE, (str(at.path), 7, DATABASE))
        await at.until(lambda: len(tries) >= 3)
        assert at.reason(one.text) == "identify.key_stale"

    play(tmp_path, scene)


def test_the_chain_is_told_who_holds_it_and_what_it_permits(tmp_path: Path) -> None:
    one, record = made(1)
    successor, after = made(2)

    async def scene(at: Scene) -> None:
        at.tell_file(record, after._replace(line=record.line, rate=""), sequence=7)
        credentials = Credentials(None, at.known, STALENESS_S)
        await at.until(lambda: isinstance(credentials.identify(one.text, "", NOW), Proven))
        found = credentials.identify(one.text, "", NOW)
        assert isinstance(found, Proven)
        assert (found.principal.kind, found.principal.name) == ("key", f"key:{one.key_id}")
        grant = KeyGrant(("models.inference",), ("models/fraud-*",))
        own = OwnBudget.of("api-key", Bucket(1000, 3600, 1000), "default", one.key_id)
        assert found.also == (grant, own)
        later = credentials.identify(successor.text, "", NOW)
        assert isinstance(later, Proven)
        assert (later.principal.name, later.also) == (f"key:{one.key_id}", (grant,))
        wrong = credentials.identify(one.text[:-1] + "!", "", NOW)
        assert wrong == Deny(Code.UNAUTHENTICATED, "identify.key_malformed", "API key is not valid")
        assert credentials.identify("eyJ.a.b", "", NOW) == no_token("identify.token_issuer")

    play(tmp_path, scene)


def no_token(reason: str) -> Deny:
    return Deny(Code.UNAUTHENTICATED, reason, "token is not valid")


def test_where_no_keys_are_taken_one_is_unknown() -> None:
    found = Credentials(None, None, STALENESS_S).identify(made(1)[0].text, "", NOW)
    assert found == Deny(Code.UNAUTHENTICATED, "identify.key_unknown", "API key is not valid")


def test_a_database_that_was_put_back_takes_over_with_another_services_process(tmp_path: Path) -> None:
    """Its changes have numbers that were others' before, and what was known of these is not so any more."""
    (one, one_record), (two, two_record) = made(1), made(2)

    async def scene(at: Scene) -> None:
        at.tell_file(one_record, two_record, sequence=50)
        await at.until(lambda: at.reason(one.text) == "")
        at.tell(60, two_record._replace(revoked=NOW))
        await at.until(lambda: at.reason(two.text) == "identify.key_revoked")
        at.known.listen_so(SO, None)
        at.known.listen(two.key_id, None)
        at.tell_file(one_record, two_record, sequence=50)
        at.tell(51, one_record._replace(revoked=NOW))
        at.known.listen_so(SO, (at.clock, 2.0))
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        assert at.reason(two.text) == ""

    play(tmp_path, scene)


def test_another_services_process_does_not_take_revocations_back(tmp_path: Path) -> None:
    """It tells what was so at the file's time first, and then all that has changed."""
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=50)
        await at.until(lambda: at.reason(one.text) == "")
        at.tell(60, record._replace(revoked=NOW))
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        at.known.listen_so(SO, None)
        at.known.listen(one.key_id, None)
        at.tell(51, record._replace(title="before"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert at.reason(one.text) == "identify.key_revoked"
        at.tell(60, record._replace(revoked=NOW))
        at.known.listen_so(SO, (at.clock, 2.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert at.reason(one.text) == "identify.key_revoked"

    play(tmp_path, scene)


def test_nothing_is_taken_back_before_another_file_is_open(tmp_path: Path) -> None:
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=50)
        await at.until(lambda: at.reason(one.text) == "")
        at.tell(60, record._replace(revoked=NOW))
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        at.known.listen_so(SO, None)
        at.known.listen(one.key_id, None)
        at.path.unlink()
        at.known.listen_file(FILE, (str(at.path), 70, DATABASE))
        at.known.listen_so(SO, (at.clock, 2.0))
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert at.reason(one.text) == "identify.key_revoked"

    play(tmp_path, scene)


@pytest.mark.parametrize(("sequence", "database"), [(40, DATABASE), (60, "0192f0c0-0000-7000-8000-000000000001")])
def test_the_file_of_another_database_or_an_earlier_one_ends_what_was_known(
    tmp_path: Path, sequence: int, database: str
) -> None:
    (one, one_record), (two, two_record) = made(1), made(2)

    async def scene(at: Scene) -> None:
        at.tell_file(one_record, sequence=50)
        await at.until(lambda: at.reason(one.text) == "")
        at.tell(sequence + 1, two_record)
        at.tell_file(one_record._replace(revoked=NOW), sequence=sequence, database=database)
        assert at.reason(one.text) == "identify.key_stale"
        at.known.listen_so(SO, (at.clock, 2.0))
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")
        assert at.reason(two.text) == ""

    play(tmp_path, scene)


def test_a_file_that_nobody_wants_any_more_once_it_is_open_is_not_used(tmp_path: Path) -> None:
    one, record = made(1)

    async def scene(at: Scene) -> None:
        at.tell_file(record, sequence=50)
        at.tell_file(record._replace(revoked=NOW), sequence=40)  # before the event loop has heard of the other
        await at.until(lambda: at.reason(one.text) != "identify.key_stale")
        assert at.reason(one.text) == "identify.key_revoked"

    play(tmp_path, scene)


def test_a_file_that_is_not_the_one_that_was_told_of_is_not_used(tmp_path: Path, tries: list[object]) -> None:
    one, record = made(1)

    async def scene(at: Scene) -> None:
        written(at.path, [record], 6).close()  # somebody has kept one in which nothing was revoked yet
        at.known.listen_file(FILE, (str(at.path), 7, DATABASE))
        await at.until(lambda: len(tries) >= 3)
        assert at.reason(one.text) == "identify.key_stale"
        at.tell_file(record._replace(revoked=NOW), sequence=7)
        await at.until(lambda: at.reason(one.text) == "identify.key_revoked")

    play(tmp_path, scene)
