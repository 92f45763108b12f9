"""Fixtures of every end-to-end test: certificates, a sidecar to start, and our own services without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from tests import certificates as pki
from tests import sidecars
from tests.services.running import Running, running

StartSidecar: TypeAlias = Callable[..., AbstractContextManager[sidecars.Sidecar]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: minutes rather than seconds; `make test-peers` runs them")
    config.addinivalue_line("markers", "soak: many minutes; `make test-soak` runs them")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pki.Certificates:
    """Development certificates, one CA for the whole session."""
    return pki.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def start_sidecar(tmp_path_factory: pytest.TempPathFactory) -> StartSidecar:
    """`with start_sidecar(config) as sidecar:` as `sidecars.serve`, in a directory of its own."""

    def start(config: dict[str, Any], **options: Any) -> AbstractContextManager[sidecars.Sidecar]:
        return sidecars.serve(config, tmp_path_factory.mktemp("sidecar"), **options)

    return start


@pytest.fixture
def services() -> Iterator[Running]:
    """The services process's servers in this process, behind a front."""
    with running() as made:
        yield made
