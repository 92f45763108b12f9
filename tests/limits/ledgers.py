"""Ledgers for tests: small ones, with a clock that is turned by hand and a host that can be rebooted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from interceptors.ledger import Bucket, Charge, Taken
from sidecar.limits.ledger_mmap import SET, MmapLedger

DAY_S = 86400
HUNDRED_A_DAY = Bucket(100, DAY_S, 100)


def charge(key: str = "k", bucket: Bucket = HUNDRED_A_DAY, cost: int = 1) -> Charge:
    return Charge(key.encode(), bucket, cost)


@dataclass
class Host:
    """boot: changes with `reboot`.  now_ns: since then."""

    now_ns: int = 10**15
    boot: bytes = b"first boot's id."
    troubles: list[str] = field(default_factory=list)

    def ledger(self, path: Path, slots: int = 16 * SET) -> MmapLedger:
        return MmapLedger(
            path,
            self.troubles.append,
            clock=lambda: self.now_ns,
            boot=lambda: self.boot,
            random_bytes=bytes,
            slots=slots,
        )

    def reboot(self) -> None:
        self.now_ns, self.boot = 30 * 10**9, b"another boot's id"[:16]

    def passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def drain(ledger: MmapLedger, key: str = "k", bucket: Bucket = HUNDRED_A_DAY) -> int:
    """Take one after the other until refused: how many were granted."""
    for count in range(100_000):
        taken = ledger.take_all([charge(key, bucket)])
        if taken.refusal:
            assert taken.refusal == "exceeded"
            return count
    raise AssertionError("refused nothing")


def refusal(ledger: MmapLedger, *charges: Charge) -> str:
    taken: Taken = ledger.take_all(charges)
    return taken.refusal
