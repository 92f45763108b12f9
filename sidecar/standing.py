"""Calls that are open, asked again: whether they would be let in now, as they were."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from interceptors.chain import Chain
from interceptors.contract import Call, Code, Deny, Headers, Peer
from interceptors.decided import Decided
from interceptors.facts import Principal
from interceptors.permits import Permit

CHANGED: Final = Deny(Code.PERMISSION_DENIED, "authorize.changed", "permission denied")
UNDECIDED: Final = Deny(Code.UNAVAILABLE, "authorize.undecided", "permission cannot be decided at the moment")


class Standing:
    """Whether an open call would be let in now, as it was. chain: identifies and authorizes.  wall: Unix seconds."""

    def __init__(self, chain: Chain, wall: Callable[[], float]) -> None:
        self._chain = chain
        self._wall = wall

    def __call__(self, call: Call, peer: Peer) -> Deny | None:
        probe = Call(call.method, Headers(call.headers.given), peer, self._wall(), None, call.codec)
        verdict: Any = self._chain.plan(call.method).start(probe)
        if isinstance(verdict, Generator):
            verdict.close()
            return UNDECIDED
        if verdict is not None:
            return verdict  # type: ignore[no-any-return]
        before, now = call.find(Permit), probe.find(Permit)
        # Its messages go on being checked by what it was let in with: where that is not the same, it begins anew.
        same = now is None or now.keeps(before)
        if not same or call.find(Principal) != probe.find(Principal):
            return CHANGED
        if self._chain.observe_only:
            return None
        decided, decided_now = call.find(Decided), probe.find(Decided)
        if decided is None or decided_now is None:
            return None if decided is decided_now else CHANGED
        return decided.again(call, self._wall()) if decided.access is decided_now.access else CHANGED
