"""The file of all keys: each is found, and nothing but what was written is ever taken for one."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.identity.keys_file import HEADER, KeyFile, KeyFileError, build
from sidecar.identity.keys_model import KeyRecord
from sidecar.state.ports import Head, StateError
from tests.identity.key_files import DATABASE, written
from tests.identity.keyring import HASH_KEY, OTHER_HASH_KEY, made

EACH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.bin"


@EACH
@given(st.integers(0, 150), st.integers(0, 1 << 20))
def test_each_is_found_and_no_other(path: Path, count: int, seed: int) -> None:
    records = [made(seed + number)[1] for number in range(count)]
    file = written(path, records)
    assert (file.keys, file.sequence, file.database) == (count, 7, DATABASE)
    assert [file.find(record.key_id) for record in records] == records
    assert file.find(made(seed + count)[0].key_id) is None
    assert file.find("0" * 12) is None
    assert file.find("z" * 12) is None
    file.close()


def test_it_is_ours_alone_and_replaced_at_once(path: Path) -> None:
    one, two = made(1)[1], made(2)[1]
    before = written(path, [one])
    after = written(path, [two], sequence=8)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.find(record.key_id) for file in (before, after) for record in (one, two)] == [one, None, None, two]
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_file_as_it_was(path: Path) -> None:
    records = sorted(made(seed)[1] for seed in range(3))
    before = written(path, records).path.read_bytes()
    for bad, count in ((records[::-1], 3), ([records[0]] * 2, 2), (records, 4), (records, 2)):
        with pytest.raises(KeyFileError, match=r"came"):
            build(path, bad, count, Head(DATABASE, 9, 0), HASH_KEY)
    with pytest.raises(ZeroDivisionError):
        build(path, (records[1 // zero] for zero in (0,)), 1, Head(DATABASE, 9, 0), HASH_KEY)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def found(path: Path, records: list[KeyRecord]) -> list[KeyRecord | None]:
    """What a file says of keys; where it is refused, that it says nothing."""
    try:
        file = KeyFile(path, HASH_KEY)
    except (KeyFileError, StateError):
        return []
    said = []
    for record in records:
        try:
            said.append(file.find(record.key_id))
        except KeyFileError:
            said.append(None)
    file.close()
    return said


def test_any_octet_changed_makes_no_other_record_of_one(path: Path) -> None:
    records = sorted(made(seed)[1] for seed in range(4))
    whole = written(path, records).path.read_bytes()
    chance = Random(3)
    refused = lost = 0
    for at in range(len(whole)):
        octets = bytearray(whole)
        octets[at] ^= 1 << chance.randrange(8)
        path.write_bytes(octets)
        said = found(path, records)
        assert all(each in (None, record) for each, record in zip(said, records, strict=False))
        refused += not said
        lost += None in said
    directory = len(whole) - HEADER - sum(len(part) for part in parts(whole, records))
    assert refused >= 160 + directory  # the header but for its padding, and the directory
    assert refused + lost >= len(whole) - 110  # all of it but that padding


def parts(whole: bytes, records: list[KeyRecord]) -> list[bytes]:
    """The records as they lie there: from 20 octets before each id to those of the next."""
    begins = [whole.index(record.key_id.encode()) - 20 for record in records]
    return [whole[begin:end] for begin, end in zip(begins, [*begins[1:], len(whole)], strict=True)]


def test_a_file_cut_short_or_longer_is_refused(path: Path) -> None:
    whole = written(path, [made(seed)[1] for seed in range(4)]).path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(KeyFileError):
            KeyFile(path, HASH_KEY)
    path.write_bytes(whole + b"\0")
    with pytest.raises(KeyFileError, match=f"has {len(whole) + 1} bytes, expected {len(whole)}"):
        KeyFile(path, HASH_KEY)


def test_a_file_that_is_cut_while_it_is_open_says_so(path: Path) -> None:
    record = made(1)[1]
    file = written(path, [record])
    os.truncate(path, HEADER + 8)
    with pytest.raises(KeyFileError, match="was cut short"):
        file.find(record.key_id)


def test_another_s_file_is_refused(path: Path) -> None:
    written(path, [made(1)[1]], hash_key=OTHER_HASH_KEY)
    with pytest.raises(KeyFileError, match="was made with another hash key, or has a damaged header"):
        KeyFile(path, HASH_KEY)
    octets = bytearray(path.read_bytes())
    octets[8] += 1
    path.write_bytes(octets)
    with pytest.raises(KeyFileError, match="is of version 2, expected 1"):
        KeyFile(path, HASH_KEY)
    path.write_bytes(b"SQLite format 3\0" * 100)
    with pytest.raises(KeyFileError, match="is no file of API keys"):
        KeyFile(path, HASH_KEY)
    path.chmod(0o644)
    with pytest.raises(StateError, match="is open to others"):
        KeyFile(path, HASH_KEY)


def test_a_record_of_an_older_file_is_not_taken(path: Path) -> None:
    """As it was before it was revoked, for one: of the same length, under the same hash key."""
    good = made(1)[1]
    revoked = good._replace(revoked=1.0)
    older = written(path, [good._replace(revoked=0.0)]).path.read_bytes()
    file = written(path, [revoked], sequence=8)
    newer = path.read_bytes()
    assert len(newer) == len(older)
    begin = newer.index(good.key_id.encode()) - 20
    with path.open("r+b") as octets:
        octets.seek(begin)
        octets.write(older[begin:])
    with pytest.raises(KeyFileError, match="has a damaged record"):
        file.find(good.key_id)


def test_a_bucket_that_holds_many_is_searched_to_its_end(path: Path) -> None:
    """Ids that are not random, as none of ours is."""
    records = [made(1)[1]._replace(key_id=f"AAAA{number:08}") for number in range(500)]
    file = written(path, records)
    assert [file.find(record.key_id) for record in records] == records
    assert file.find("AAAA00000500") is None
    assert file.find("AAAB00000000") is None
