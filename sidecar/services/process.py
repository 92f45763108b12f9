"""The services process: answers our own gRPC services on two sockets in the run directory."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
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
from sidecar.identity.keys_desk import KeyDesk
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.identity.keys_keeping import KeyKeeping, Tell
from sidecar.identity.keys_model import USED
from sidecar.identity.keys_ports import HashKeys
from sidecar.identity.sources import KEYS, KeySource
from sidecar.identity.sources_https import fetch
from sidecar.operations.operations_supervisor import SupervisorOperations
from sidecar.policy.bootstrap import bootstrap
from sidecar.policy.desk import PolicyDesk
from sidecar.policy.inquiry import Inquiry
from sidecar.policy.keeping import PolicyKeeping
from sidecar.policy.live import Live
from sidecar.policy.model import Question
from sidecar.policy.service import Counter
from sidecar.processes.child import Birth, Control
from sidecar.processes.messages import Abandon, Answer, Attach, Commit, Prepare, Ready
from sidecar.services.guard import Refusal
from sidecar.services.model_server_grpc import GrpcModelServer
from sidecar.services.recorded import Recorded, described
from sidecar.services.server import Services, Settings
from sidecar.state.opening import open_store
from sidecar.state.ports import Store
from sidecar.state.store import DatabaseStore
from sidecar.telemetry.pulse import boot_clock

KEYS_FILE: Final = "api-keys.bin"
RECORDED_S: Final = 5.0


def main(birth: Birth) -> int:
    """settings: {"model_server": {"address": "host:port" or "unix:path", "tls": None or files by their role},
    "key_sources": of `sources.KeySource`, "state": None or {"directory", "url"}, "api_keys": None or {"hash_key"},
    "policies": None or {"admins": patterns of identities, "events": their file, "protocol" and "services" of the
    config's `upstream`}}.
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
    kept = Kept(start.settings, loop, recorder, lambda *told: publisher.publish(*told))
    answers: dict[str, Answerer] = {KEYS: keeping.refresh}
    if kept.keys is not None:
        answers[USED] = kept.keys.touch
    publisher = Publisher(loop, boot_clock, answers)

    def configure(settings: dict[str, Any]) -> None:
        keeping.configure(key_sources(settings))
        if kept.policies is not None:
            kept.policies.configure(settings["policies"])

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
        None if kept.keys is None else kept.keys.desk,
        None if kept.policies is None else kept.policies.counter,
    )
    services.start()
    kept.start()
    control.send(Ready())
    await control.draining.wait()
    keeping.close()
    await loop.run_in_executor(None, services.stop, control.grace)
    await loop.run_in_executor(None, kept.close)
    publisher.close()
    recorder.close()
    return 0


def _record(recorder: RemoteRecorder, refusal: Refusal) -> None:
    """Those of one reason are counted into one event: whoever is at the socket must not fill the disk."""
    recorder.record(Event("internal.refused", time.time(), reason=refusal.reason, method=refusal.method, fold=True))


class Kept:
    """What is kept in the state, of whatever is on. tell: into the feed, on the loop's thread. Raises StateError."""

    def __init__(
        self, settings: dict[str, Any], loop: asyncio.AbstractEventLoop, recorder: RemoteRecorder, tell: Tell
    ) -> None:
        self.keys: ApiKeys | None = None
        self.policies: Policies | None = None
        self._store: DatabaseStore | None = None
        self._keepings: list[KeyKeeping | PolicyKeeping] = []
        if settings["state"] is None:
            return

        def telling(*changes: Any) -> None:
            loop.call_soon_threadsafe(tell, *changes)

        directory, record = Path(settings["state"]["directory"]), partial(record_durably, loop, recorder)
        self._store = open_store(directory, settings["state"]["url"], self._committed)
        if settings["api_keys"] is not None:
            hash_keys = FileHashKeys(Path(settings["api_keys"]["hash_key"]))
            self.keys = ApiKeys(loop, self._store, hash_keys, record, telling, directory / KEYS_FILE)
            self._keepings.append(self.keys.keeping)
        if settings["policies"] is not None:
            self.policies = Policies(self._store, record, telling)
            self._keepings.append(self.policies.keeping)

    def _committed(self, sequence: int) -> None:
        for each in self._keepings:
            each.committed(sequence)

    def start(self) -> None:
        for each in self._keepings:
            each.start()

    def close(self) -> None:
        for each in self._keepings:
            each.close()
        if self._store is not None:
            self._store.close()


class ApiKeys:
    """All of API keys that is in this process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        hash_keys: HashKeys,
        record: Callable[[Event], None],
        tell: Tell,
        file: Path,
    ) -> None:
        self._loop = loop
        self.desk = KeyDesk(store, hash_keys, record, time.time, os.urandom)
        self.keeping = KeyKeeping(store, self.desk, file, hash_keys, tell, boot_clock)

    async def touch(self, used: Any) -> None:
        """used: Unix seconds by key id, as a worker has gathered them."""
        await self._loop.run_in_executor(None, self.desk.touch, dict(used))


class Policies:
    """All of roles, groups, grants and policies that is in this process."""

    def __init__(self, store: Store, record: Callable[[Event], None], tell: Tell) -> None:
        self._live = Live(store)
        self._recorded: Recorded | None = None
        self._desk = PolicyDesk(store, self._live, record, time.time, os.urandom)
        self.counter = Counter(self._desk, Inquiry(self._live, self._calls), time.time)
        self.keeping = PolicyKeeping(store, tell, boot_clock, self._do_chores)

    def configure(self, settings: dict[str, Any]) -> None:
        """settings: "policies" of `main`'s."""
        services = [described(plain) for plain in settings["services"]]
        self._recorded = Recorded(Path(settings["events"]), settings["protocol"], services)
        items = bootstrap(settings["admins"])
        self._live.configure(items)
        self.keeping.configure(items)

    def _calls(self, tenant: str) -> list[Question]:
        return [] if self._recorded is None else self._recorded.questions(tenant)

    def _do_chores(self) -> None:
        with self._live.engine():
            pass  # it is read, so that whoever asks first does not wait for it
        self._desk.forget()


def record_durably(loop: asyncio.AbstractEventLoop, recorder: RemoteRecorder, event: Event) -> None:
    """From any thread but the loop's; returns once it is on disk. Raises AuditError."""
    recorded: Future[None] = Future()

    def done(error: BaseException | None) -> None:
        if error is None:
            recorded.set_result(None)
        else:
            recorded.set_exception(error)

    loop.call_soon_threadsafe(recorder.record, event, done)
    try:
        recorded.result(RECORDED_S)
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
