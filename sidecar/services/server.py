"""The two gRPC servers of the services process, each on a Unix socket that only this user can reach.

Calls that last have a server and threads of their own, so that they never keep short ones waiting.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from interceptors.contract import Code
from langtrain.v1 import (
    administrators_pb2_grpc,
    api_keys_pb2_grpc,
    policies_pb2_grpc,
    revocations_pb2_grpc,
    sidecar_pb2_grpc,
)
from sidecar.errors import SidecarError
from sidecar.identity.bootstrap_desk import BootstrapDesk
from sidecar.identity.bootstrap_service import AdministratorService
from sidecar.identity.keys_desk import KeyDesk
from sidecar.identity.revocations_desk import RevocationDesk
from sidecar.identity.revocations_service import RevocationService
from sidecar.identity.service import ApiKeyService
from sidecar.internal.paths import short
from sidecar.internal.replays import Replays
from sidecar.operations.ports import Operations
from sidecar.operations.service import SidecarService
from sidecar.policy.service import Counter, PolicyService
from sidecar.services import catalogue
from sidecar.services.guard import Guard, Refusal
from sidecar.services.reflection import ModelServer, Reflection
from sidecar.services.shares import Shares

CALLS: Final = "calls.sock"
STREAMS: Final = "streams.sock"
SPARE: Final = 4  # threads beyond the streams, so that one too many is told so instead of waiting
OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_concurrent_streams", 1000),
)


class ServicesError(SidecarError):
    """The services process cannot listen."""

    code: ClassVar[Code] = Code.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Settings:
    """directory: for the sockets, made where absent.  calls: threads, and so calls that run at once.

    streams: open at once.  streams_each: of one caller.
    """

    directory: Path
    calls: int = 8
    streams: int = 64
    streams_each: int = 16


class Services:
    """Both servers. key: of this boot.  refused: told of calls that did not prove themselves.

    clock: seconds of CLOCK_BOOTTIME, for proofs.  api_keys, policies, revocations: None where they are off;
    bootstrap: where policies are.
    """

    def __init__(
        self,
        settings: Settings,
        key: bytes,
        operations: Operations,
        model_server: ModelServer,
        refused: Callable[[Refusal], None],
        clock: Callable[[], float],
        api_keys: KeyDesk | None = None,
        policies: Counter | None = None,
        revocations: RevocationDesk | None = None,
        bootstrap: BootstrapDesk | None = None,
    ) -> None:
        self._directory = settings.directory
        catalogue.rpcs()  # fails now rather than at the first call
        self._health = health.HealthServicer(experimental_non_blocking=False)
        # One memory of nonces for both: what one server took must not pass at the other.
        replays = Replays(clock())
        shares = Shares(settings.streams, settings.streams_each)
        self._calls = self._server(settings.calls, Guard(key, replays, clock, refused))
        self._streams = self._server(settings.streams + SPARE, Guard(key, replays, clock, refused, shares))
        service, keys = SidecarService(operations), ApiKeyService(api_keys)
        access, revoking = PolicyService(policies), RevocationService(revocations)
        first = AdministratorService(bootstrap)
        for server in (self._calls, self._streams):
            sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(service, server)
            api_keys_pb2_grpc.add_ApiKeyServiceServicer_to_server(keys, server)
            policies_pb2_grpc.add_PolicyServiceServicer_to_server(access, server)
            revocations_pb2_grpc.add_RevocationServiceServicer_to_server(revoking, server)
            administrators_pb2_grpc.add_AdministratorServiceServicer_to_server(first, server)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._streams.add_generic_rpc_handlers(Reflection(model_server).handlers())

    @staticmethod
    def _server(threads: int, guard: Guard) -> grpc.Server:
        return grpc.server(ThreadPoolExecutor(threads), interceptors=[guard], options=OPTIONS)

    def start(self) -> None:
        """Listen. Raises ServicesError."""
        _private(self._directory)
        for server, name in ((self._calls, CALLS), (self._streams, STREAMS)):
            path = f"{short(self._directory)}/{name}"
            try:
                server.add_insecure_port(f"unix:{path}")
            except RuntimeError:
                raise ServicesError(f"cannot listen at {path}") from None
            server.start()
        for name in catalogue.services():
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float) -> None:
        """Take no new calls, wait for short ones at most `grace_s`; what lasts ends at once."""
        self._health.enter_graceful_shutdown()
        ended = self._calls.stop(grace_s)
        self._streams.stop(0).wait()
        ended.wait()


def _private(directory: Path) -> None:
    """Make a directory that nobody else can look into, or see that it is one. Raises ServicesError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise ServicesError(f"{directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ServicesError(f"{directory}: expected a directory of this user's with mode 0700")
