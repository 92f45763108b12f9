"""Streams are counted, in all and of each caller."""

from __future__ import annotations

import pytest

from sidecar.internal.mac import Caller
from sidecar.services.errors import BusyError
from sidecar.services.shares import Shares

ALICE, BOB, OTHER_ALICE = Caller("cn", "cn:alice"), Caller("cn", "cn:bob"), Caller("cn", "cn:alice", "other")


def test_each_caller_has_a_share_of_the_whole() -> None:
    shares = Shares(total=3, each=2)
    for caller in (ALICE, ALICE, OTHER_ALICE):
        shares.take(caller)
    for caller in (ALICE, BOB):
        with pytest.raises(BusyError):
            shares.take(caller)
    shares.give(ALICE)
    shares.take(BOB)
    with pytest.raises(BusyError, match="'cn:alice' are open, 3 in all"):
        shares.take(ALICE)
