"""The gRPC interop cases that apply to a proxy, with three clients, by every way through the sidecar."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.peers import interop_aio, interop_sync, venvs
from tests.peers.targets import Target, Upstream
from tests.processes import Process

CASES = tuple(interop_sync.CASES)
RUNS = 20  # in a row, on one channel


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


@pytest.fixture(scope="module")
def grpc_js(target: Target) -> dict[str, list[Any]]:
    """What grpc-js says of every case and run: None, or what went wrong."""
    command = [*venvs.node(), str(venvs.HERE / "interop.cjs"), target.address, str(RUNS)]
    if target.certificates:
        pair = target.certificates.client
        command += [str(target.certificates.ca), str(pair.certificate), str(pair.key)]
    with Process(command, environment={"NODE_PATH": str(venvs.NODE_MODULES)}) as node:
        line = node.wait_line(lambda line: line.startswith("{"), timeout=240)
        assert node.wait() == 0, node.tail()
    results: dict[str, list[Any]] = json.loads(line)
    return results


@pytest.mark.parametrize("name", CASES)
def test_grpc_js(name: str, grpc_js: dict[str, list[Any]], upstream: Upstream) -> None:
    assert grpc_js[name] == [None] * RUNS
    upstream.wait_quiet()


def test_clients_run_the_same_cases(grpc_js: dict[str, list[Any]]) -> None:
    assert set(interop_aio.CASES) == set(grpc_js) == set(CASES)
