"""Clients of different temper do everything at once through one sidecar, and it is as before when they have gone."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.conftest import StartSidecar
from tests.peers.conftest import DIRECT, FRONTS, Front
from tests.peers.interop_sync import CASES
from tests.peers.targets import DEADLINE, UNLIMITED, Options, Target, Upstream, plain_unary
from tests.sidecars import Sidecar, descriptors
from tests.waiting import eventually

CLIENTS = 8
SIZES = (0, 1, 100, 16379, 16380, 65535, 300_000, 3_000_000)
TEMPERS: tuple[Options, ...] = (
    (),
    (("grpc.http2.max_frame_size", (1 << 24) - 1),),
    (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1)),  # the smallest windows that grpc gives
    (("grpc.http2.lookahead_bytes", 100), ("grpc.http2.max_frame_size", 1 << 14)),
)


def client(target: Target, seed: int, rounds: int) -> None:
    """A client that makes `rounds` calls and interop cases by chance."""
    rng = random.Random(seed)
    with target.channel((*TEMPERS[seed % len(TEMPERS)], *UNLIMITED)) as channel:
        for _ in range(rounds):
            if rng.random() < 0.25:
                message = rng.randbytes(rng.choice(SIZES))
                assert plain_unary(channel, "/peers.Echo/Unary")(message, timeout=DEADLINE) == message
            else:
                CASES[rng.choice(list(CASES))](channel)


def open_descriptors(sidecar: Sidecar) -> int:
    """Of all workers."""
    return sum(len(descriptors(pid)) for pid in sidecar.children("worker").values())


def services_met(sidecar: Sidecar) -> int:
    """Connections of workers to the sidecar's own services."""
    return sum(line["address"].endswith(("/calls.sock", "/streams.sock")) for line in sidecar.logged("upstream_up"))


def wait_descriptors(sidecar: Sidecar, count: int, timeout: float = 15.0) -> None:
    limit = monotonic() + timeout
    while (now := open_descriptors(sidecar)) > count:
        assert monotonic() < limit, f"{now} descriptors are open {timeout} s after the clients have gone, not {count}"


@pytest.mark.skipif(DIRECT, reason="PEERS_DIRECT is set: without a sidecar there is nothing to mix in")
@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_everything_at_once(
    front: Front, rounds: int, certificates: Certificates, upstream: Upstream, start_sidecar: StartSidecar
) -> None:
    with start_sidecar(front.config(certificates, upstream)) as sidecar:
        target = Target(sidecar.address, certificates if front.listen == "mtls" else None)
        client(target, 0, 5)
        upstream.wait_quiet()
        # The services may come up after the sidecar has begun to serve.
        eventually(
            lambda: services_met(sidecar) == 2 * len(sidecar.children("worker")), "workers have met the services"
        )
        before = open_descriptors(sidecar)
        with ThreadPoolExecutor(CLIENTS) as pool:
            done: list[Any] = [pool.submit(client, target, seed, rounds) for seed in range(CLIENTS)]
            for each in done:
                each.result()
        upstream.wait_quiet()
        wait_descriptors(sidecar, before)
