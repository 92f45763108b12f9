"""The services process: answers our own gRPC services on two sockets in the run directory."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from interceptors.events import Event
from sidecar.audit.recorder_remote import RemoteRecorder
from sidecar.operations.operations_supervisor import SupervisorOperations
from sidecar.processes.child import Birth, Control
from sidecar.processes.messages import Abandon, Answer, Attach, Commit, Prepare, Ready
from sidecar.services.guard import Refusal
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import Services, Settings


def main(birth: Birth) -> int:
    """settings: {"model_server": {"address": "host:port" or "unix:path", "tls": None or files by their role}}."""
    return asyncio.run(_run(birth))


async def _run(birth: Birth) -> int:
    loop, start = asyncio.get_running_loop(), birth.start
    recorder = RemoteRecorder(loop)

    def attach(message: Attach, connection: Any) -> None:
        recorder.attach(connection)

    def refused(refusal: Refusal) -> None:
        loop.call_soon_threadsafe(_record, recorder, refusal)

    def answered(message: Any) -> None:
        operations.answered(message)

    model_server = ModelServer(start.settings)
    handlers = {
        Answer: answered,
        Prepare: model_server.prepare,
        Commit: model_server.commit,
        Abandon: model_server.abandon,
    }
    control = Control(loop, birth, handlers, attach)
    operations = SupervisorOperations(loop, control.send)
    services = Services(
        Settings(Path(start.run_directory)),
        bytes.fromhex(start.key),
        operations,
        GrpcModelServer(model_server.connect),
        refused,
        partial(time.clock_gettime, time.CLOCK_BOOTTIME),
    )
    services.start()
    control.send(Ready())
    await control.draining.wait()
    await loop.run_in_executor(None, services.stop, control.grace)
    recorder.close()
    return 0


def _record(recorder: RemoteRecorder, refusal: Refusal) -> None:
    """Those of one reason are counted into one event: whoever is at the socket must not fill the disk."""
    recorder.record(Event("internal.refused", time.time(), reason=refusal.reason, method=refusal.method, fold=True))


class ModelServer:
    """Where the model server is, and how it is connected to, as the config says that is in force."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._now = settings
        self._next: tuple[int, dict[str, Any]] | None = None

    def prepare(self, message: Any) -> None:
        self._next = message.generation, message.settings

    def commit(self, message: Any) -> None:
        if self._next is not None and self._next[0] == message.generation:
            self._now = self._next[1]
        self._next = None

    def abandon(self, _message: Any) -> None:
        self._next = None

    def connect(self) -> grpc.Channel:
        """As the relay connects, with what its files hold now. Raises OSError where one cannot be read."""
        return channel(self._now["model_server"])


def channel(model_server: dict[str, Any]) -> grpc.Channel:
    address, tls = model_server["address"], model_server["tls"]
    if tls is None:
        return grpc.insecure_channel(address)
    files = {name: Path(tls[name]).read_bytes() if tls[name] else None for name in ("ca", "certificate", "key")}
    credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["certificate"])
    named = (("grpc.ssl_target_name_override", tls["server_name"]),) if tls["server_name"] else ()
    return grpc.secure_channel(address, credentials, named)
