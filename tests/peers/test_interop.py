"""The gRPC interop cases that apply to a proxy, with every client, by every way through the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers import interop_aio, interop_sync
from tests.peers.conftest import FRONTS
from tests.peers.interop_clients import CASES, OTHERS, RUNS, Results
from tests.peers.targets import Target, Upstream

WAYS = [(client, front) for client in OTHERS for front in FRONTS if client.tls or front.listen == "plain"]


@pytest.mark.parametrize("name", CASES)
def test_grpcio(name: str, target: Target, upstream: Upstream) -> None:
    with target.channel() as channel:
        for _ in range(RUNS):
            interop_sync.CASES[name](channel)
    upstream.wait_quiet()


@pytest.mark.parametrize("name", CASES)
def test_grpcio_aio(name: str, target: Target, upstream: Upstream, runner: asyncio.Runner) -> None:
    async def run() -> None:
        async with target.aio() as channel:
            for _ in range(RUNS):
                await interop_aio.CASES[name](channel)

    runner.run(run())
    upstream.wait_quiet()


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def results(request: pytest.FixtureRequest, through: Any, upstream: Upstream) -> Iterator[Results]:
    """What a client says of every case and run: None, or what went wrong."""
    client, front = request.param
    with through(front) as target:
        said = client.run(target)
        upstream.wait_quiet()
        yield said


@pytest.mark.parametrize("name", CASES)
def test_other_languages(name: str, results: Results) -> None:
    assert results[name] == [None] * RUNS


def test_grpcio_aio_has_the_same_cases() -> None:
    assert set(interop_aio.CASES) == set(CASES)
