"""Who asks again is answered the same; who asks something else under the same key is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from sidecar.errors import RequestError
from sidecar.state.idempotency import LARGEST, IdempotencyError, Scope, forget, recall, remember
from sidecar.state.ports import Transaction
from sidecar.state.store import DatabaseStore

SCOPE = Scope("default", "user:corp/ada", "/langtrain.v1.KeyService/CreateKey", "one")
REQUEST = sha256(b"request").digest()
OTHER = sha256(b"other request").digest()
NOW = 1_000_000.0


def answer(transaction: Transaction, scope: Scope = SCOPE, digest: bytes = REQUEST, now: float = NOW) -> bytes:
    """What a service does: number its answers."""
    known = recall(transaction, scope, digest, now)
    if known is not None:
        return known
    response = b"answer %d" % transaction.change("test", "answer", scope.key, b"")
    remember(transaction, scope, digest, response, now, keep_s=60.0)
    return response


def test_the_same_is_done_once(store: DatabaseStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: store.write(answer, 60.0), range(20))) == {b"answer 1"}


def test_another_request_under_the_same_key_is_refused(store: DatabaseStore) -> None:
    store.write(answer)
    with pytest.raises(IdempotencyError):
        store.write(lambda transaction: answer(transaction, digest=OTHER))
    assert store.write(answer) == b"answer 1"


@pytest.mark.parametrize("field", Scope._fields)
def test_a_key_is_its_caller_s_for_one_method(store: DatabaseStore, field: str) -> None:
    store.write(answer)
    other = SCOPE._replace(**{field: "another"})
    assert store.write(lambda transaction: answer(transaction, other, OTHER)) == b"answer 2"


def test_an_answer_is_kept_for_its_time(store: DatabaseStore) -> None:
    store.write(answer)
    assert store.write(lambda transaction: answer(transaction, now=NOW + 59)) == b"answer 1"
    assert store.write(lambda transaction: answer(transaction, digest=OTHER, now=NOW + 60)) == b"answer 2"
    assert store.write(lambda transaction: forget(transaction, NOW + 100)) == 0
    assert store.write(lambda transaction: forget(transaction, NOW + 120)) == 1
    assert store.read(lambda reading: reading.rows("SELECT * FROM idempotency")) == []


def test_what_fails_after_its_answer_is_kept_is_not_answered(store: DatabaseStore) -> None:
    def fail(transaction: Transaction) -> None:
        answer(transaction)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it is the very one that was raised
        store.write(fail)
    assert store.read(lambda reading: recall(reading, SCOPE, REQUEST, NOW)) is None


@pytest.mark.parametrize("key", ["", "x" * 129, "é", "a\n", "\x00"])
def test_keys_of_another_form_are_refused(store: DatabaseStore, key: str) -> None:
    with pytest.raises(RequestError, match="idempotency_key: expected 1 to 128 printable"):
        store.read(lambda reading: recall(reading, SCOPE._replace(key=key), REQUEST, NOW))


def test_an_answer_that_is_too_large_is_refused(store: DatabaseStore) -> None:
    with pytest.raises(ValueError, match="has 65537 bytes, expected at most 65536"):
        store.write(lambda transaction: remember(transaction, SCOPE, REQUEST, bytes(LARGEST + 1), NOW))
