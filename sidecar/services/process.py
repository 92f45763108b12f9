"""The services process: answers our own gRPC services on two sockets in the run directory."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc

from interceptors.events import Event
from sidecar.audit.ports import AuditError
from sidecar.audit.recorder_remote import RemoteRecorder
from sidecar.changes.publisher import Answerer, Publisher
from sidecar.identity.keeping import Keeping
from sidecar.identity.keys_model import USED
from sidecar.identity.sources import KEYS, KeySource
from sidecar.identity.sources_https import fetch
from sidecar.logs import Log
from sidecar.operations.operations_supervisor import SupervisorOperations
from sidecar.processes.child import Birth, Control
from sidecar.processes.messages import Abandon, Answer, Attach, Commit, Prepare, Ready
from sidecar.services.administered import ApiKeys, Policies, Revocations, State
from sidecar.services.guard import Refusal
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.server import Services, Settings
from sidecar.telemetry.pulse import boot_clock

log = Log("services")

RECORDED_S: Final = 5.0
RETRY_S: Final = 1.0  # after which revocations are read again, where they could not be


def main(birth: Birth) -> int:
    """settings: {"model_server": {"address": "host:port" or "unix:path", "tls": None or files by their role},
    "key_sources": of `sources.KeySource`, "state": None or {"directory", "url"}, "api_keys": None or {"hash_key"},
    "policies": None or {"admins": patterns of identities, "events": file of the audit trail, "protocol", "services":
    of the config's `upstream`}, "revocations": None or {"issuers": `iss` by title}}.
    """
    return asyncio.run(_run(birth))


async def _run(birth: Birth) -> int:
    loop, start = asyncio.get_running_loop(), birth.start
    recorder = RemoteRecorder(loop)

    def attach(message: Attach, connection: Any) -> None:
        if message.role == "recorder":
            recorder.attach(connection)
        else:
            publisher.attach(connection)

    def refused(refusal: Refusal) -> None:
        loop.call_soon_threadsafe(_record, recorder, refusal)

    def answered(message: Any) -> None:
        operations.answered(message)

    def keep(source: KeySource, keys: bytes | None) -> None:
        publisher.publish((KEYS, source.key, None if keys is None else (keys, time.time())))

    jitter = Random(secrets.randbits(64)).random  # noqa: S311 - spreads fetches, guards nothing
    keeping = Keeping(loop, fetch, keep, time.monotonic, jitter)
    state = State.of(start.settings["state"], partial(record_durably, loop, recorder))

    def telling(*changes: Any) -> None:
        loop.call_soon_threadsafe(lambda: publisher.publish(*changes))

    keys = ApiKeys.of(start.settings["api_keys"], state, telling)
    policies = Policies.of(start.settings["policies"], state, telling)
    answers: dict[str, Answerer] = {KEYS: keeping.refresh}
    if keys is not None:
        answers[USED] = keys.touch
    revocations = Revocations.of(start.settings["revocations"], state, telling)
    publisher = Publisher(loop, boot_clock, answers, begun=revocations is None)

    def configure(settings: dict[str, Any]) -> None:
        keeping.configure(key_sources(settings))
        if policies is not None:
            policies.configure(settings["policies"])
        if revocations is not None:
            revocations.configure(settings["revocations"])

    now = InForce(start.settings, configure)
    handlers = {Answer: answered, Prepare: now.prepare, Commit: now.commit, Abandon: now.abandon}
    control = Control(loop, birth, handlers, attach)
    operations = SupervisorOperations(loop, control.send)
    services = Services(
        Settings(Path(start.run_directory)),
        bytes.fromhex(start.key),
        operations,
        GrpcModelServer(lambda: channel(now.settings["model_server"])),
        refused,
        boot_clock,
        None if keys is None else keys.desk,
        None if policies is None else policies.counter,
        None if revocations is None else revocations.desk,
        None if policies is None else policies.bootstrap,
    )
    services.start()
    administering = loop.create_task(administer(loop, state, revocations, publisher))
    control.send(Ready())
    await control.draining.wait()
    administering.cancel()
    keeping.close()
    await loop.run_in_executor(None, services.stop, control.grace)
    if state is not None:
        await loop.run_in_executor(None, state.close)
    publisher.close()
    recorder.close()
    return 0


async def administer(
    loop: asyncio.AbstractEventLoop, state: State | None, revocations: Revocations | None, publisher: Publisher
) -> None:
    """Keep up what is stored. Where something may be revoked, once all that is has been told, however long the database
    is away: workers that heard of less would take back what another process has told them."""
    if state is None:
        return
    said = ""
    while revocations is not None:
        try:
            await loop.run_in_executor(None, revocations.begin)
            publisher.begin()
            break
        except Exception as error:  # whatever it is, nobody is let in before
            if str(error) != said:
                log.error("revocations_unknown", error)
            said = str(error)
        await asyncio.sleep(RETRY_S)
    state.start()


def _record(recorder: RemoteRecorder, refusal: Refusal) -> None:
    """Those of one reason are counted into one event: whoever is at the socket must not fill the disk."""
    recorder.record(Event("internal.refused", time.time(), reason=refusal.reason, method=refusal.method, fold=True))


def record_durably(loop: asyncio.AbstractEventLoop, recorder: RemoteRecorder, events: Sequence[Event]) -> None:
    """From any thread but the loop's; returns once all are on disk. Raises AuditError."""
    recorded: list[Future[None]] = [Future() for _ in events]

    def done(future: Future[None], error: BaseException | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def record() -> None:
        for event, future in zip(events, recorded, strict=True):
            recorder.record(event, partial(done, future))

    loop.call_soon_threadsafe(record)
    until = time.monotonic() + RECORDED_S
    try:
        for future in recorded:
            future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        raise AuditError("what was done could not be recorded in time") from None


class InForce:
    """The settings in force. told: of them, now and whenever they change."""

    def __init__(self, settings: dict[str, Any], told: Callable[[dict[str, Any]], None]) -> None:
        self.settings = settings
        self._told = told
        self._next: tuple[int, dict[str, Any]] | None = None
        told(settings)

    def prepare(self, message: Any) -> None:
        self._next = message.generation, message.settings

    def commit(self, message: Any) -> None:
        if self._next is not None and self._next[0] == message.generation:
            self.settings = self._next[1]
            self._told(self.settings)
        self._next = None

    def abandon(self, _message: Any) -> None:
        self._next = None


def key_sources(settings: dict[str, Any]) -> list[KeySource]:
    return [KeySource(**plain) for plain in settings["key_sources"]]


def channel(model_server: dict[str, Any]) -> grpc.Channel:
    """As the relay connects, with what its files hold now. Raises OSError where one cannot be read."""
    address, tls = model_server["address"], model_server["tls"]
    if tls is None:
        return grpc.insecure_channel(address)
    files = {name: Path(tls[name]).read_bytes() if tls[name] else None for name in ("ca", "certificate", "key")}
    credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["certificate"])
    named = (("grpc.ssl_target_name_override", tls["server_name"]),) if tls["server_name"] else ()
    return grpc.secure_channel(address, credentials, named)
