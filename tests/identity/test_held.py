"""Keys that were told of: whose they are, and how long they are relied upon."""

from __future__ import annotations

from math import inf

import pytest

from sidecar.identity import jwks
from sidecar.identity.held import Followed, Held, Told
from sidecar.identity.tokens import StaleKeysError
from tests.identity.issuing import NOW, jwk
from tests.identity.issuing import jwks as key_set

LONGEST_S = 3_600.0
STALENESS_S = 5.0


class Scene:
    def __init__(self) -> None:
        self.age = 0.0
        self.changes = 0
        self.told = Told(lambda: self.age, self._changed)
        followed = {
            "login": Followed("source", frozenset(("ES256",)), LONGEST_S),
            "other": Followed("elsewhere", frozenset(("ES256",)), LONGEST_S),
        }
        self.held = Held({"file": jwks.read(key_set(jwk("RS256", "f")))}, followed, self.told, STALENESS_S)

    def _changed(self) -> None:
        self.changes += 1

    def ids(self, issuer: str, now: float = NOW) -> list[str]:
        return [key.key_id for key in self.held.of(issuer, now).keys]


def test_each_issuer_has_what_its_own_source_says() -> None:
    scene = Scene()
    assert scene.ids("login") == []
    scene.told.listen("source", (key_set(jwk("ES256", "k1"), jwk("RS256", "r")), NOW))
    assert scene.ids("login") == ["k1"]  # RS256 is none of its algorithms
    assert scene.ids("other") == []
    assert scene.ids("file") == ["f"]
    assert scene.ids("nobody") == []
    scene.told.listen("source", (key_set(jwk("ES256", "k2")), NOW))
    assert scene.ids("login") == ["k2"]
    scene.told.listen("source", None)
    assert scene.ids("login") == []


@pytest.mark.parametrize("age", [STALENESS_S + 0.001, inf])
def test_what_nobody_says_still_holds_is_not_relied_upon(age: float) -> None:
    scene = Scene()
    scene.told.listen("source", (key_set(jwk("ES256")), NOW))
    scene.age = STALENESS_S
    assert scene.ids("login") == ["k1"]
    scene.age = age
    with pytest.raises(StaleKeysError):
        scene.ids("login")
    assert scene.ids("file") == ["f"]  # nobody has to be there for it


def test_what_calls_rest_on_is_asked_about_again_where_keys_are_others_than_before() -> None:
    scene, one, other = Scene(), key_set(jwk("ES256", "k1")), key_set(jwk("ES256", "k2"))
    scene.told.listen("source", (one, NOW))
    scene.told.listen("source", (one, NOW + 600))
    scene.told.listen("source", None)  # another services process, which has not fetched them yet
    scene.told.listen("source", (one, NOW + 700))
    assert scene.changes == 0
    scene.told.listen("source", (other, NOW + 800))
    assert scene.changes == 1
    scene.told.listen("source", None)
    scene.told.listen("source", (one, NOW + 900))
    assert scene.changes == 2


def test_keys_that_were_fetched_again_and_are_the_same_are_not_read_again() -> None:
    """Whoever brings tokens of unknown keys has them fetched every few seconds, and reading many takes long."""
    scene = Scene()
    octets = key_set(jwk("ES256", "k1"))
    scene.told.listen("source", (octets, NOW))
    before = scene.held.of("login", NOW)
    scene.told.listen("source", (bytes(bytearray(octets)), NOW + 5))
    assert scene.held.of("login", NOW + LONGEST_S) is before  # and in force for as long again


def test_keys_that_cannot_be_fetched_again_end() -> None:
    scene = Scene()
    scene.told.listen("source", (key_set(jwk("ES256")), NOW))
    assert scene.ids("login", NOW + LONGEST_S - 1) == ["k1"]
    with pytest.raises(StaleKeysError):
        scene.ids("login", NOW + LONGEST_S)


def test_a_set_without_a_key_of_use_is_none() -> None:
    scene = Scene()
    scene.told.listen("source", (key_set(jwk("RS256")), NOW))
    assert scene.ids("login") == []


def test_where_keys_are_asked_for() -> None:
    held = Scene().held
    assert (held.source("login"), held.source("file"), held.source("nobody")) == ("source", None, None)
