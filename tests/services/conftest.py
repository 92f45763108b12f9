"""Fixtures: the services process's servers in this process, a model server with reflection, and a front before both."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sidecar.services.guard import Refusal
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import Services, Settings
from tests.operations.in_memory import InMemory
from tests.peers import interop_service, messages
from tests.services.front import Front, boottime

KEY = bytes(range(32))


class ModelServer:
    """A grpcio server with reflection and health, as model servers have them. target: where it listens."""

    def __init__(self, directory: Path) -> None:
        self.target = f"unix:{directory / 'model.sock'}"
        self.health = health.HealthServicer(experimental_non_blocking=False)
        self.health.set("model.Service", health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server = grpc.server(ThreadPoolExecutor(20))
        self._server.add_generic_rpc_handlers((interop_service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        reflection.enable_server_reflection((messages.SERVICE,), self._server, pool=messages._POOL)
        self._server.add_insecure_port(self.target)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short: a Unix socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="lt") as made:
        yield Path(made)


@pytest.fixture
def model_server(directory: Path) -> Iterator[ModelServer]:
    server = ModelServer(directory)
    yield server
    server.stop()


@pytest.fixture
def operations() -> InMemory:
    return InMemory()


@pytest.fixture
def refusals() -> list[Refusal]:
    """What the services refused, as it is recorded."""
    return []


@pytest.fixture
def sockets(
    directory: Path, operations: InMemory, model_server: ModelServer, refusals: list[Refusal]
) -> Iterator[Path]:
    """Running services; the directory of their sockets."""
    private = directory / "services"
    with grpc.insecure_channel(model_server.target) as channel:
        services = Services(
            Settings(private, calls=4, streams=6, streams_each=4), KEY, operations, GrpcModelServer(channel),
            refusals.append, boottime,
        )  # fmt: skip
        services.start()
        yield private
        services.stop(1.0)


@pytest.fixture
def front(sockets: Path, model_server: ModelServer) -> Iterator[Front]:
    made = Front(sockets, KEY, model_server.target)
    yield made
    made.close()


@pytest.fixture
def channel(front: Front) -> Iterator[grpc.Channel]:
    """As a caller reaches all of it."""
    with grpc.insecure_channel(front.target) as opened:
        yield opened
