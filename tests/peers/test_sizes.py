"""Messages of every size up to 64 MiB, one by one and in streams, with the limits raised by config."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.peers.conftest import DIRECT, FRONTS, Front
from tests.peers.targets import DEADLINE, UNLIMITED, Target, Upstream, plain_stream, plain_unary

MIB = 1 << 20
BIGGEST = 64 * MIB
# Around a frame (16,384 with its 5-byte prefix), the first window, a stream's and grpc's own defaults.
EDGES = [size + off for size in (16384 - 5, 65535 - 5, MIB, 4 * MIB) for off in (-1, 0, 1)]
SIZES = [0, 1, *EDGES, 16 * MIB, BIGGEST]
LIMITS = {"message": "64MiB", "response_message": "64MiB", "buffered": "512MiB"}


@pytest.fixture(scope="module", params=FRONTS, ids=str)
def roomy(request: pytest.FixtureRequest, through: Any) -> Iterator[Target]:
    front: Front = request.param
    with through(front, **LIMITS) as target:
        yield target


@pytest.mark.parametrize("size", SIZES)
def test_unary_echo(size: int, roomy: Target) -> None:
    message = random.Random(size).randbytes(size)
    with roomy.channel(UNLIMITED) as channel:
        assert plain_unary(channel, "/peers.Echo/Unary")(message, timeout=DEADLINE) == message


def test_sizes_mixed_in_one_stream(roomy: Target) -> None:
    chance = random.Random(7)
    messages = [chance.randbytes(chance.choice([0, 1, 5, 1000, 16379, 16380, 70000, 3 * MIB])) for _ in range(60)]
    with roomy.channel(UNLIMITED) as channel:
        assert list(plain_stream(channel, "/peers.Echo/Bidi")(iter(messages), timeout=DEADLINE)) == messages


@pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: without a sidecar there is no limit")
def test_limits_hold_without_being_raised(target: Target, upstream: Upstream) -> None:
    """One byte over the default of 16 MiB is refused, and the connection goes on."""
    with target.channel(UNLIMITED) as channel:
        echo = plain_unary(channel, "/peers.Echo/Unary")
        assert len(echo(bytes(16 * MIB), timeout=DEADLINE)) == 16 * MIB
        with pytest.raises(grpc.RpcError) as caught:
            echo(bytes(16 * MIB + 1), timeout=DEADLINE)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert echo(b"still here", timeout=DEADLINE) == b"still here"
    upstream.wait_quiet()
