"""A caller's metadata reaches the server as it was sent, and the server's reaches the caller: all, in order."""

from __future__ import annotations

import json
import random
import string
from typing import Any, TypeAlias

import pytest

from tests.peers.conftest import FRONTS, Front
from tests.peers.targets import DEADLINE, Target, Upstream, plain_unary

Fields: TypeAlias = list[tuple[str, str | bytes]]
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
ADDED = {"traceparent", "tracestate"}  # by the sidecar, for whoever traces
WIDE = (("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20))


def fields(count: int, longest: int, seed: int, prefix: str = "x-peers") -> Fields:
    """Random fields with few names, so that names repeat; text, text with spaces inside, and binary."""
    rng = random.Random(seed)
    made: Fields = []
    for _ in range(count):
        length = rng.randrange(1, longest)
        name = f"{prefix}-{rng.choice('abc')}"
        match rng.randrange(3):
            case 0:
                made.append((name, "".join(rng.choices(string.ascii_letters, k=length))))
            case 1:
                made.append((name, f"<{''.join(rng.choices(PRINTABLE, k=length))}>"))
            case _:
                made.append((f"{name}-bin", rng.randbytes(length)))
    return made


def own(metadata: Any) -> Fields:
    return [(key, value) for key, value in metadata if key.startswith("x-peers-")]


def seen(answer: bytes) -> list[tuple[str, str]]:
    return [(key, value) for key, value in json.loads(answer)]


def in_hex(sent: Fields) -> list[tuple[str, str]]:
    return [(key, value.hex() if isinstance(value, bytes) else value) for key, value in sent]


def check(target: Target, sent: Fields) -> None:
    with target.channel(WIDE) as channel:
        call = plain_unary(channel, "/peers.Echo/Metadata")
        answer, ended = call.with_call(b"", metadata=sent, timeout=DEADLINE)
    back = [field for field in sent if field[0].startswith("x-peers-")]
    assert [field for field in seen(answer) if "-peers-" in field[0]] == in_hex(sent)
    assert own(ended.initial_metadata()) == back
    assert own(ended.trailing_metadata()) == back


@pytest.mark.parametrize("seed", range(20))
def test_within_the_default_limits(seed: int, target: Target) -> None:
    check(target, fields(100, 60, seed))


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_more_than_a_frame_holds(front: Front, through: Any) -> None:
    """Header blocks of several frames each way, with the limits raised by config."""
    with through(front, header_list="256KiB", header_count=2000) as target:
        for seed in range(5):
            # What comes back must stay below the limits on the model server's headers, which are 128 and 64 KiB.
            check(target, fields(500, 200, seed, "y-peers") + fields(100, 400, seed))


def test_nothing_else_is_added_or_taken(target: Target, upstream: Upstream) -> None:
    sent: Fields = [("x-peers-one", "1"), ("user-id", "7"), ("accept", "anything")]

    def received(via: Target) -> list[tuple[str, str]]:
        with via.channel() as channel:
            return seen(plain_unary(channel, "/peers.Echo/Metadata")(b"", metadata=sent, timeout=DEADLINE))

    through, direct = received(target), received(upstream.plain)
    assert [field for field in through if field[0] not in ADDED] == direct
