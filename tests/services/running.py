"""Our own services behind a front, beside a model server with reflection and health: all real, in this process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sidecar.services.guard import Refusal
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import Services, Settings
from tests.operations.in_memory import InMemory
from tests.peers import interop_service, messages
from tests.services.front import Front, boottime

KEY = bytes(range(32))
STREAMS_EACH = 4


class ModelServer:
    """As model servers are: grpcio's own reflection, which knows v1alpha only, and health. target: where it listens."""

    def __init__(self, directory: Path, tls: grpc.ServerCredentials | None = None) -> None:
        self.health = health.HealthServicer(experimental_non_blocking=False)
        self.health.set("model.Service", health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server = grpc.server(ThreadPoolExecutor(20))
        self._server.add_generic_rpc_handlers((interop_service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        reflection.enable_server_reflection((messages.SERVICE,), self._server, pool=messages.POOL)
        if tls is None:
            self.target = f"unix:{directory / 'model.sock'}"
            self._server.add_insecure_port(self.target)
        else:
            self.target = f"localhost:{self._server.add_secure_port('localhost:0', tls)}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()


@dataclass(slots=True)
class Running:
    """sockets: the services' directory.  pid: of the process that serves there.  target: of the front.

    refusals: what the services refused, as recorded.
    """

    sockets: Path
    model_server: ModelServer
    operations: InMemory = field(default_factory=InMemory)
    refusals: list[Refusal] = field(default_factory=list)
    target: str = ""
    pid: int = field(default_factory=os.getpid)


@contextmanager
def running() -> Iterator[Running]:
    # Not pytest's directory: a Unix socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lt") as directory:
        here = Path(directory)
        made = Running(here / "services", ModelServer(here))
        settings = Settings(made.sockets, calls=4, streams=6, streams_each=STREAMS_EACH)
        upstream = GrpcModelServer(partial(grpc.insecure_channel, made.model_server.target))
        services = Services(settings, KEY, made.operations, upstream, made.refusals.append, boottime)
        services.start()
        front = Front(made.sockets, KEY, made.model_server.target)
        made.target = front.target
        try:
            yield made
        finally:
            front.close()
            services.stop(1.0)
            made.model_server.stop()
