"""What the `limit` link needs from the outside: a ledger that takes from buckets, all of them or none.

A key is whatever names a bucket; who may choose parts of it is the link's business, where it is kept the ledger's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from interceptors.contract import Ask


class Bucket(NamedTuple):
    """Holds `burst` and refills evenly by `amount` each `period_s` seconds; all whole and above 0."""

    amount: int
    period_s: int
    burst: int


class Charge(NamedTuple):
    """Take `cost`, from 1, from the bucket `key`."""

    key: bytes
    bucket: Bucket
    cost: int


Refusal: TypeAlias = Literal["", "exceeded", "too_large", "ledger_full", "ledger_busy"]


class Taken(NamedTuple):
    """refusal: "" where everything was taken; else why nothing was.

    exceeded      the bucket holds too little now; retry_after_s says when it will hold enough
    too_large     the cost is above the bucket's burst: it never will
    ledger_full   there is no room to remember one more bucket
    ledger_busy   another process keeps the ledger locked

    at: which charge was refused.  remaining: what its bucket holds.
    """

    refusal: Refusal
    at: int = 0
    retry_after_s: float = 0.0
    remaining: int = 0


TAKEN: Final = Taken("")


class TakeAll(Ask[Taken]):
    """Take as `Ledger.take_all` does, and wait for a ledger that is busy, within bounds.

    A call that ends meanwhile may have been charged.
    """

    def __init__(self, charges: Sequence[Charge]) -> None:
        self.charges = charges


class Ledger(Protocol):
    """Called on the event loop's thread, so it answers in microseconds; its clock is its own."""

    def take_all(self, charges: Sequence[Charge]) -> Taken:
        """Take every charge, or nothing at all. charges: one or more, of distinct keys.

        "ledger_busy" says nothing yet: `TakeAll` asks for the same with patience.
        """

    def fold(self, name: bytes, into: int) -> int:
        """A number below `into` for `name`: the same in every process of the ledger, and not to be foreseen."""


class NoLedger:
    """Of a chain that is built only to see whether it can be: it keeps nothing, so it allows nothing."""

    def take_all(self, charges: Sequence[Charge]) -> Taken:
        return Taken("ledger_busy")

    def fold(self, name: bytes, into: int) -> int:
        return 0
