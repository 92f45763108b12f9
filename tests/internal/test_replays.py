"""Nonces: once each, for as long as they could be used again, in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from sidecar.internal.mac import LIFE_S, Caller, SealedCall, SealError
from sidecar.internal.replays import KEPT_S, Replays

BEGAN = 1000.0
NOBODY = Caller("", "")


def call(nonce: bytes, sealed_at: float = BEGAN) -> SealedCall:
    return SealedCall(NOBODY, nonce, sealed_at + LIFE_S)


def why(replays: Replays, again: SealedCall, now: float) -> str:
    with pytest.raises(SealError) as error:
        replays.admit(again, now)
    return error.value.why


def test_a_nonce_passes_once() -> None:
    replays = Replays(BEGAN)
    replays.admit(call(b"a"), BEGAN)
    replays.admit(call(b"b"), BEGAN)
    assert why(replays, call(b"a"), BEGAN) == "internal.replayed"


def test_no_nonce_is_forgotten_while_it_holds() -> None:
    """Whenever the sets change: random times over many of their turns."""
    chance = Random(7)
    replays, now = Replays(BEGAN), BEGAN
    for number in range(300):
        now += chance.uniform(0, KEPT_S)
        sealed = call(number.to_bytes(2, "big"), now)
        replays.admit(sealed, now)
        assert why(replays, sealed, now + chance.uniform(0, LIFE_S)) == "internal.replayed"


def test_memory_is_bounded_and_a_full_one_refuses() -> None:
    replays = Replays(BEGAN, most=3)
    for nonce in (b"a", b"b", b"c"):
        replays.admit(call(nonce), BEGAN)
    assert why(replays, call(b"d"), BEGAN) == "internal.full"
    later = BEGAN + 2 * KEPT_S
    replays.admit(call(b"d", later), later)


def test_a_new_process_takes_nothing_that_was_sealed_for_the_one_before() -> None:
    assert why(Replays(BEGAN), call(b"a", BEGAN - 0.001), BEGAN) == "internal.replayed"


def test_of_many_at_once_one_passes() -> None:
    replays = Replays(BEGAN)

    def admit(_: int) -> bool:
        try:
            replays.admit(call(b"a"), BEGAN)
        except SealError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(admit, range(400))) == 1
