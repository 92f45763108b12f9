"""The committed inputs of every target, and a bounded number of others near them."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.corpus import CORPUS, inputs
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

_BENT = 300  # inputs of a target, each a known one with octets changed
_MOST = 400 << 10  # bytes of all committed inputs


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    known = inputs(target)
    assert len(known) >= 4
    for octets in known:
        TARGETS[target](octets)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_the_corpus_holds(target: str) -> None:
    rng = Random(target)
    known = [*inputs(target), *seeds(target)]
    for _ in range(_BENT):
        octets = bytearray(rng.choice(known))
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(octets))
            octets[at : at + rng.choice((0, 1, 1, 1, 2, 8))] = rng.choice((
                rng.randbytes(1), rng.randbytes(4), b"", rng.choice(known)[:40],
            ))  # fmt: skip
        TARGETS[target](bytes(octets))


def test_the_corpus_is_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(len(octets) for target in TARGETS for octets in inputs(target)) <= _MOST
