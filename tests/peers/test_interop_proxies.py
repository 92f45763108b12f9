"""The interop cases with one more proxy on the way: Envoy before the sidecar or behind it, a sidecar behind another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.certificates import SIDECAR
from tests.peers import envoy
from tests.peers.conftest import H2C, Front
from tests.peers.interop_clients import GRPCIO, OTHERS, Client, passed
from tests.peers.targets import Target, Upstream

Through: TypeAlias = Callable[..., AbstractContextManager[Target]]
Way: TypeAlias = Callable[[Front, Through, Upstream, Path, ExitStack], Target]

MTLS = Front("mtls", "mtls", shapes=True)


def envoy_before(front: Front, through: Through, upstream: Upstream, directory: Path, opened: ExitStack) -> Target:
    sidecar = opened.enter_context(through(front, callers=callers(front)))
    return opened.enter_context(envoy.before(sidecar, directory))


def envoy_behind(front: Front, through: Through, upstream: Upstream, directory: Path, opened: ExitStack) -> Target:
    server = upstream.mtls if front.upstream == "mtls" else upstream.plain
    assert server is not None
    proxy = opened.enter_context(envoy.before(server, directory))
    return opened.enter_context(through(front, to=behind(proxy)))


def two_sidecars(front: Front, through: Through, upstream: Upstream, directory: Path, opened: ExitStack) -> Target:
    inner = opened.enter_context(through(front, callers=callers(front)))
    return opened.enter_context(through(front, to=behind(inner)))


def callers(front: Front) -> list[str]:
    """Who calls a sidecar that has a proxy before it, where callers have names at all."""
    return [SIDECAR] if front.listen == "mtls" else []


def behind(target: Target) -> Upstream:
    return Upstream(target, target if target.certificates else None)


WAYS = [
    pytest.param(client, way, front, marks=() if client is GRPCIO else pytest.mark.slow)
    for way in (envoy_before, envoy_behind, two_sidecars)
    for front in (H2C, MTLS)
    for client in (GRPCIO, *OTHERS)
    if client.tls or front.listen == "plain"
]


def named(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize(("client", "way", "front"), WAYS, ids=named)
def test_cases(client: Client, way: Way, front: Front, through: Through, upstream: Upstream, tmp_path: Path) -> None:
    with ExitStack() as opened:
        target = way(front, through, upstream, tmp_path, opened)
        assert client.run(target) == passed()
        upstream.wait_quiet()
