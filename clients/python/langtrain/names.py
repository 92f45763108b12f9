"""How callers name whoever and whenever is meant, as the protocol has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

KINDS: Final = ("spiffe://", "dns:", "cn:", "user:", "key:")
GROUP: Final = "group:"


def identity(who: str) -> str:
    """An identity, or a pattern of them, as rules name it; who is given without a kind is a user.

    "login/alice", whom issuer "login" knows as alice, is "user:login/alice". Raises ValueError for nobody.
    """
    if not who:
        raise ValueError('expected an identity such as "user:login/alice", came nothing')
    return who if who.startswith(KINDS) else f"user:{who}"


def member(who: str) -> str:
    """The same, or "group:NAME"."""
    return who if who.startswith(GROUP) else identity(who)


def timestamp(at: datetime | timedelta | None) -> Timestamp | None:
    """at: aware, or from now on. Raises ValueError for a naive one."""
    if at is None:
        return None
    if isinstance(at, timedelta):
        at = datetime.now(UTC) + at
    if at.tzinfo is None:
        raise ValueError(f"expected a time with its zone, such as datetime.now(UTC), came {at!r}")
    made = Timestamp()
    made.FromDatetime(at)
    return made


def duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    made = Duration()
    made.FromTimedelta(span)
    return made
