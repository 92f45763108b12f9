"""The ledger that all workers of a host share: buckets in a memory-mapped file, guarded by locks on parts of it.

A bucket lives in one of the 64 slots of the set that a keyed hash of its name picks, so nobody can aim at another's
set. A slot whose bucket is full says nothing that is not said by its absence, and only such a one is given to another:
whoever fills the ledger gains nothing by it, and takes nothing from those who are in it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from interceptors.bounded import Bounded
from interceptors.ledger import TAKEN, Charge, Refusal, Taken
from sidecar.limits.gcra import SECOND, UNITS, Pace, pace, spend
from sidecar.limits.ledger_file import FLOOR, KEY, LedgerFile, boot_clock, boot_id
from sidecar.limits.locks_ofd import SPIN_NS, Stripes

SLOTS: Final = 1 << 18  # buckets that are not full, at most; 6 MiB
SET: Final = 64  # slots
STRIPES: Final = 64
FIRST_STRIPE: Final = 64  # byte of the file; those before it are LedgerFile's
TELL_EVERY: Final = 10 * SECOND
MOST_PLACES: Final = 8192  # remembered; one for each key


class Place(NamedTuple):
    """Where a key's bucket may lie. begin: of its set, in slots."""

    digest: bytes
    begin: int
    stripe: int


@mypyc_attr(native_class=False)  # others cannot be referred to weakly
class _Owner:
    """Whose the locks are: not a fork's child's, who has the parent's open file, and with it the same locks."""

    def __init__(self, stripes: Stripes) -> None:
        self.stripes = stripes


class MmapLedger:
    """An `interceptors.ledger.Ledger`. One for each process and used on one thread; a fork's child opens its own."""

    def __init__(
        self,
        path: Path,
        trouble: Callable[[str], None],
        *,
        clock: Callable[[], int] = boot_clock,
        boot: Callable[[], bytes] = boot_id,
        random_bytes: Callable[[int], bytes] = os.urandom,
        slots: int = SLOTS,
    ) -> None:
        """trouble: told "ledger_full" or "ledger_busy" when calls come to be refused for it, at most every 10 s.

        clock: nanoseconds that never go back while the host is up, the same in every process.  boot: names the time
        for which that holds.  slots: a multiple of 64, the same for every process.  Raises LedgerError.
        """
        self._trouble = trouble
        self._clock = clock
        self._file = file = LedgerFile(path, slots, clock() * UNITS, boot(), random_bytes)
        self._words = file.words
        self._mapped = file.mapped
        self._stripes = Stripes(file.fd, FIRST_STRIPE, STRIPES, monotonic_ns)
        self._places: Bounded[bytes, Place] = Bounded(MOST_PLACES)
        self._told: dict[str, int] = {}
        self._owner = _Owner(self._stripes)
        os.register_at_fork(after_in_child=partial(_disown, weakref.ref(self._owner)))

    def take_all(self, charges: Sequence[Charge], *, spin_ns: int = SPIN_NS) -> Taken:
        """spin_ns: for which a lock that another process holds is tried again."""
        places = [self._place(charge.key) for charge in charges]
        paces = [pace(charge.bucket) for charge in charges]
        stripes = _stripes(places)
        if not self._stripes.lock(stripes, spin_ns):
            return Taken("ledger_busy")
        try:
            return self._settle(charges, places, paces)
        finally:
            self._stripes.unlock(stripes)

    def stripes(self, charges: Sequence[Charge]) -> list[int]:
        """The locks that charges need, ascending."""
        return _stripes([self._place(charge.key) for charge in charges])

    def give_up(self) -> None:
        """The lock that kept the last take is not waited for any more, until it is got again."""
        self._stripes.given_up.add(self._stripes.met)
        self._tell("ledger_busy")

    def stopped(self, stripes: Iterable[int]) -> bool:
        """Whether one of them was given up, and not got since."""
        return not self._stripes.given_up.isdisjoint(stripes)

    def fold(self, name: bytes, into: int) -> int:
        return int.from_bytes(self._digest(name)) % into

    def close(self) -> None:
        self._words = memoryview(b"")
        self._file.close(self._clock() * UNITS)

    def _settle(self, charges: Sequence[Charge], places: Sequence[Place], paces: Sequence[Pace]) -> Taken:
        """Under the locks: look at every bucket, then write every one, or none."""
        words, times = self._words, self._file.times
        now, floor = self._clock() * UNITS, words[FLOOR]
        found = [self._find(place) for place in places]
        after: list[int] = []
        worst, longest, left = -1, 0, 0
        for at, charge in enumerate(charges):
            paced, full_at = paces[at], 0
            if found[at] >= 0:
                full_at = words[times + found[at]]
                if full_at > now + paced.depth:  # emptied at a slower rate, which the config has changed since
                    words[times + found[at]] = full_at = now + paced.depth
            full_at, wait, remaining = spend(max(full_at, floor + paced.depth), now, paced, charge.cost)
            if wait and charge.cost > charge.bucket.burst:
                return Taken("too_large", at)
            if wait > longest:
                worst, longest, left = at, wait, remaining
            after.append(full_at)
        if worst >= 0:
            return Taken("exceeded", worst, longest / SECOND, left)
        return self._write(places, found, after, now)

    def _write(self, places: Sequence[Place], found: list[int], after: Sequence[int], now: int) -> Taken:
        fresh = [at for at, slot in enumerate(found) if slot < 0]
        for at in fresh:
            found[at] = self._free(places[at], now, found)
            if found[at] < 0:
                return self._tell("ledger_full")
        for at, full_at in enumerate(after):
            # One 8-byte store. Killed between this and the key, the slot's former owner, whose bucket was full, pays.
            self._words[self._file.times + found[at]] = full_at
        for at in fresh:
            begin = self._file.keys + found[at] * KEY
            self._mapped[begin : begin + KEY] = places[at].digest
        return TAKEN

    def _find(self, place: Place) -> int:
        """The slot of a bucket, or -1."""
        begin = self._file.keys + place.begin * KEY
        end = begin + SET * KEY
        at = self._mapped.find(place.digest, begin, end)
        while at >= 0 and (at - begin) % KEY:
            at = self._mapped.find(place.digest, at + 1, end)
        return at if at < 0 else place.begin + (at - begin) // KEY

    def _free(self, place: Place, now: int, claimed: Sequence[int]) -> int:
        """A slot of the set that nobody needs, or -1."""
        begin = self._file.times + place.begin
        for slot, full_at in enumerate(self._words[begin : begin + SET].tolist(), place.begin):
            if full_at <= now and slot not in claimed:
                return slot
        return -1

    def _place(self, key: bytes) -> Place:
        known = self._places.get(key)
        if known is None:
            digest = self._digest(key)
            number = int.from_bytes(digest[:8]) % (self._file.slots // SET)
            known = self._places.keep(key, Place(digest, number * SET, number % STRIPES))
        return known

    def _digest(self, text: bytes) -> bytes:
        return blake2b(text, digest_size=KEY, key=self._file.secret).digest()

    def _tell(self, refusal: Refusal) -> Taken:
        now = self._clock() * UNITS
        if now >= self._told.get(refusal, now):
            self._told[refusal] = now + TELL_EVERY
            self._trouble(refusal)
        return Taken(refusal)


def _stripes(places: Sequence[Place]) -> list[int]:
    return [places[0].stripe] if len(places) == 1 else sorted({place.stripe for place in places})


def _disown(owner: weakref.ref[_Owner]) -> None:
    known = owner()
    if known is not None:
        known.stripes.disown()
