"""The keys of a config's issuers, in a worker: of files, and those that the services process fetches and tells of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.identity import jwks
from sidecar.identity.jwks import KeySet, KeySetError
from sidecar.identity.tokens import StaleKeysError
from sidecar.logs import Log

log = Log("identity")

NO_KEYS: Final = KeySet(())


@dataclass(frozen=True, slots=True)
class Followed:
    """key: of KeySource, under which an issuer's keys are told.  algorithms: that its tokens may be signed by.

    longest_s: for which keys stay in force that cannot be fetched again.
    """

    key: str
    algorithms: frozenset[str]
    longest_s: float


class Told:
    """What was told of keys, whichever config's. age: seconds since it was known to be so.

    changed: told when an issuer's keys are others than they were. That they were fetched again changes nothing, nor
    that they are not here for a while, as when whoever fetches them has begun anew.
    """

    def __init__(self, age: Callable[[], float], changed: Callable[[], None] = lambda: None) -> None:
        self.age = age
        self._changed = changed
        self._sets: dict[str, tuple[bytes, float]] = {}
        self._last: dict[str, bytes] = {}  # what each set was, gone or not

    def listen(self, key: str, value: Any) -> None:
        """value: a key set as it is published and when it was fetched, Unix seconds; None where it is gone."""
        if value is None:
            self._sets.pop(key, None)
            return
        octets, fetched = value
        before = self._last.get(key)
        if before == octets:
            octets = before  # so that whoever has read it does not read it again
        self._last[key] = octets
        self._sets[key] = octets, float(fetched)
        if before not in (None, octets):
            self._changed()

    def find(self, key: str) -> tuple[bytes, float] | None:
        return self._sets.get(key)


class Held:
    """The Keys of one config. files: by an issuer's title its keys.  followed: by title, those that `told` has.

    max_staleness_s: beyond which what was told is not relied upon.
    """

    def __init__(
        self, files: Mapping[str, KeySet], followed: Mapping[str, Followed], told: Told, max_staleness_s: float
    ) -> None:
        self._files = dict(files)
        self._followed = dict(followed)
        self._told = told
        self._max_staleness_s = max_staleness_s
        self._read: dict[str, tuple[bytes, KeySet]] = {}  # by title, of which octets

    def of(self, issuer: str, now: float) -> KeySet:
        """As of Keys."""
        given = self._files.get(issuer)
        if given is not None:
            return given
        followed = self._followed.get(issuer)
        found = None if followed is None else self._told.find(followed.key)
        if followed is None or found is None:
            return NO_KEYS
        octets, fetched = found
        if self._told.age() > self._max_staleness_s or now >= fetched + followed.longest_s:
            raise StaleKeysError
        known = self._read.get(issuer)
        if known is None or known[0] is not octets:
            known = self._read[issuer] = octets, _keys(issuer, octets, followed.algorithms)
        return known[1]

    def source(self, issuer: str) -> str | None:
        """The key under which an issuer's keys are told; None where they are a file's."""
        followed = self._followed.get(issuer)
        return None if followed is None else followed.key


def _keys(issuer: str, octets: bytes, algorithms: frozenset[str]) -> KeySet:
    try:
        return jwks.read(octets, algorithms)
    except KeySetError as error:
        log.warning("keys_of_no_use", issuer=issuer, detail=str(error))
        return NO_KEYS
