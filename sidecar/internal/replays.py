"""Nonces that came already. Bounded in memory; a full memory refuses rather than forgets.

What a process before this one took is not known here, so a call sealed before this one began is refused as well: the
relay seals when it opens a stream, and by then whom it calls is there.
"""

from __future__ import annotations

import threading
from typing import Final

from sidecar.internal.mac import LIFE_S, SealedCall, SealError

KEPT_S: Final = LIFE_S + 2.0  # beyond the latest expiry that `mac.unseal` takes
MOST: Final = 200_000  # nonces within KEPT_S: about 25 MB


class Replays:
    """Two sets by turns, each for KEPT_S: a nonce is forgotten with its set, never before it expires.

    began: when this process did; times as in `mac`.
    """

    def __init__(self, began: float, most: int = MOST) -> None:
        self._began = began
        self._most = most
        self._lock = threading.Lock()
        self._fresh: set[bytes] = set()
        self._older: set[bytes] = set()
        self._turned = began

    def admit(self, call: SealedCall, now: float) -> None:
        """Remember a call that proved itself. Raises SealError where it came before, or where no more can be kept."""
        if call.expires - LIFE_S < self._began:
            raise SealError("internal.replayed", "a sealed call is older than the process it reached")
        with self._lock:
            self._turn(now)
            if call.nonce in self._fresh or call.nonce in self._older:
                raise SealError("internal.replayed", "a sealed call came twice")
            if len(self._fresh) + len(self._older) >= self._most:
                raise SealError("internal.full", f"more than {self._most} internal calls within {KEPT_S:g} s")
            self._fresh.add(call.nonce)

    def _turn(self, now: float) -> None:
        since = now - self._turned
        if since >= KEPT_S:
            self._older = self._fresh if since < 2 * KEPT_S else set()
            self._fresh = set()
            self._turned = now
