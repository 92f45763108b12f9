"""`serve`: a config → the supervisor and all that it keeps running, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from interceptors.events import Durability, Event
from interceptors.ledger import NoLedger
from interceptors.sequences import KEY
from sidecar import build, overview, wiring
from sidecar.asked import Asked
from sidecar.audit.ports import AuditError
from sidecar.audit.recorder_remote import RemoteRecorder
from sidecar.check import exposure, material
from sidecar.check.report import Finding, RefusedError, Report, of_error
from sidecar.config.addresses import TcpAddress, UnixAddress
from sidecar.config.model import Config
from sidecar.errors import SettingError
from sidecar.identity import keys_hash
from sidecar.logs import Log
from sidecar.processes.listeners import Listeners, TcpListeners, UnixListener
from sidecar.processes.notify import Notify
from sidecar.processes.post import Post, Settings, StartError
from sidecar.processes.rundir import RunDirectory
from sidecar.processes.spawn import Nursery
from sidecar.processes.supervisor import Supervisor
from sidecar.reloading import restarts, watched
from sidecar.state.files import make_directory
from sidecar.state.ports import StateError
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.pulse import boot_clock
from sidecar.telemetry.settings import Seats
from sidecar.telemetry.settings import Settings as TelemetrySettings

log = Log("app")

RECORDED_S: Final = 5.0  # for the last event to be durable


class ListenError(SettingError):
    """The listener cannot be opened."""


class ProbesError(SettingError):
    """The probe listener cannot be opened."""


def serve(
    load: Callable[[], Config], directory: Path, file: Path, log_level: str, manager: Notify, nursery: Nursery
) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0 when every open call had ended in time.

    load: reads the config, now and for each reload.  directory, file: where it lies.  manager: who started us.
    Raises SidecarError for what only shows when starting: a port in use, a certificate that does not load.
    """
    config = tried(load)
    exposed = exposure.examine(config.upstream)
    for weak in exposed.warnings:
        log.warning("upstream_exposed", detail=str(weak))
    if exposed.faults:
        raise RefusedError(exposed)
    log.info("configured", digest=config.digest(), file=str(file))
    try:
        return asyncio.run(_Sidecar(config, load, directory, file, log_level, manager, nursery).run())
    except StartError as error:
        raise RefusedError(Report(tuple(Finding(path, problem) for path, problem in error.faults))) from None


def tried(load: Callable[[], Config]) -> Config:
    """A config whose files and links can be used. Raises SidecarError with every fault; logs what is weak."""
    config = load()
    for path in config.warnings():
        log.warning("unsafe_setting", setting=path, detail=f"{path} is on and weakens security")
    # Workers would find these faults as well, but not the settings that they stand in.
    now = datetime.now(UTC)
    found = material.loaded(config, now) + material.revocations(config, now).excused()
    for finding in found.warnings:
        log.warning("weak", path=finding.path, detail=finding.problem)
    if found.faults:
        raise RefusedError(found)
    wiring.chain(config, Random(0).randbytes, NoLedger(), bytes(KEY))  # noqa: S311 - no call runs through it
    return config


class _Sidecar:
    """One running sidecar, as its supervisor sees it."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        directory: Path,
        file: Path,
        log_level: str,
        manager: Notify,
        nursery: Nursery,
    ) -> None:
        self._config = config
        self._load = load
        self._directory = directory
        self._file = file
        self._log_level = log_level
        self._manager = manager
        self._nursery = nursery
        self._boot = secrets.token_hex(8)
        self._listeners: Listeners
        self._seats: Seats | None = None  # None where nobody watches
        self._board: Board | None = None
        self._probes: socket.socket | None = None
        self._served = False

    async def run(self) -> int:
        config = self._config
        make_hash_key(config)
        with contextlib.ExitStack() as opened:
            run_directory = _run_directory(config)
            opened.callback(run_directory.close)
            self._listeners = listen(config)
            opened.callback(self._listeners.close)
            if watched_over(config):
                self._seats = Seats(workers(config))
                opened.callback(self._seats.close)
                self._board = Board(self._seats.supervisor())
                self._probes = listen_probes(config)
                if self._probes is not None:
                    opened.callback(self._probes.close)
            return await self._supervise(run_directory.path)

    async def _supervise(self, run_directory: Path) -> int:
        self._recorder = RemoteRecorder(asyncio.get_running_loop())
        supervisor = Supervisor(
            self._posts(),
            self._settings(self._config),
            self._reload,
            nursery=self._nursery,
            faults_of=lambda error: [(each.path, each.problem) for each in of_error(error).faults],
            key=secrets.token_bytes(32),
            run_directory=run_directory,
            log_level=self._log_level,
            notify=self._manager,
            jitter=Random(secrets.randbits(64)).random,  # noqa: S311 - spreads restarts, guards nothing
            linked={"recorder": self._recorder.attach},
            serving=self._serving,
            reloaded=self._reloaded,
            refused=lambda: self._count_reload("failure"),
            closing=self._listeners.close,
            stopping=self._stopping,
            answer=lambda what, arguments: asked.answer(what, arguments),
        )
        asked = Asked(supervisor, lambda: self._config, self._load, self._directory, self._record)
        try:
            return await supervisor.run()
        finally:
            self._recorder.close()
            self._manager.close()

    def _posts(self) -> list[Post]:
        memory, seats, probes = int(self._config.worker_memory), self._seats, self._probes
        posts = [
            Post("recorder", rank=0),
            # Calls of ours come through the workers, whose open ones are to end first.
            Post("services", rank=1, links=("recorder",), reloads=True, needed=False),
        ]
        if seats is not None:
            handed = seats.telemetry(None if probes is None else probes.fileno())
            posts.append(Post("telemetry", rank=1, descriptors=handed))
        for slot, sockets in enumerate(self._listeners.sockets):
            handed = {f"listen-{number}": each.fileno() for number, each in enumerate(sockets)}
            shared = tuple(handed) if self._listeners.apart else ()
            if seats is not None:
                handed |= seats.worker(slot)
            post = Post(
                "worker", slot, 2, memory, handed, shared, ("recorder", "services"), knows=("services",), reloads=True
            )  # fmt: skip
            posts.append(post)
        return posts

    def _settings(self, config: Config) -> Settings:
        return Settings(
            roles={
                "recorder": {"file": str(config.events_file), "boot": self._boot},
                "services": {
                    "model_server": overview.model_server(config),
                    "key_sources": [source.plain() for source in wiring.sources(config)],
                    "state": stored(config),
                    "api_keys": api_keys(config),
                    "policies": policies(config),
                    "revocations": revocations(config),
                },
                "telemetry": telemetry_settings(config).plain(),
                "worker": {"config": config.effective(), "directory": str(self._directory)},
            },
            files=(self._file, *watched(config)),
            grace_s=float(config.listen.grace),
            digest=config.digest(),
        )

    def _tell_config(self, config: Config) -> None:
        if self._board is not None:
            self._board.inform(metrics.CONFIG, (config.digest(),))
            self._board.beat(boot_clock())

    def _count_reload(self, result: str) -> None:
        if self._board is not None:
            self._board.count(metrics.RELOADS, (result,))

    async def _reload(self, _settings: Settings) -> Settings:
        """Reads files and runs the code of interceptors: not on the loop that keeps the children."""
        config = await asyncio.get_running_loop().run_in_executor(None, tried, self._load)
        fixed = restarts(self._config, config)
        if fixed:
            problem = "cannot be changed while the sidecar runs: restart it, or change it back"
            raise RefusedError(Report(tuple(Finding(path, problem) for path in fixed)))
        self._candidate = config
        return self._settings(config)

    # --- what the supervisor tells ------------------------------------------------------------------------------

    def _serving(self) -> None:
        config = self._config
        self._served = True
        self._tell_config(config)
        self._record("sidecar.started", f"config {config.digest()}")
        log.info("listening", address=self._listeners.address, upstream=", ".join(map(str, config.upstream.address)),
                 config=config.digest(), build=build.of())  # fmt: skip

    def _reloaded(self, settings: Settings) -> None:
        self._config = self._candidate
        self._tell_config(self._config)
        self._count_reload("success")
        self._record("sidecar.reloaded", f"config {settings.digest}")

    async def _stopping(self, in_time: bool) -> None:
        if self._served:
            await self._record_stop(in_time)
        self._recorder.close()  # the recorder stays until all have left
        if self._served:
            log.info("stopped", in_time=in_time)

    async def _record_stop(self, in_time: bool) -> None:
        recorded: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._record("sidecar.stopped", "" if in_time else "calls cut at grace", recorded)
        try:
            error = await asyncio.wait_for(recorded, RECORDED_S)
        except TimeoutError:
            error = AuditError("the last event is not durable in time")
        if error is not None:
            log.error("stop_unrecorded", error)

    def _record(self, kind: str, reason: str, recorded: asyncio.Future[BaseException | None] | None = None) -> None:
        def done(error: BaseException | None) -> None:
            if recorded is not None and not recorded.done():
                recorded.set_result(error)

        self._recorder.record(Event(kind, time.time(), Durability.COMMIT, tenant="", reason=reason), done)


def make_hash_key(config: Config) -> None:
    """The first time that API keys are on. Raises SettingError."""
    given, file = config.authentication.api_keys, config.hash_key_file
    if given is None or given.hash_key is not None or file.exists():
        return
    try:
        make_directory(file.parent)
        keys_hash.make(file)
    except StateError as error:
        raise SettingError("authentication.api_keys", str(error)) from None


def stored(config: Config) -> dict[str, str] | None:
    """Where the services process keeps what is administered; None where nothing is."""
    if not config.stateful:
        return None
    return {"directory": str(config.store_directory), "url": config.state.url}


def api_keys(config: Config) -> dict[str, str] | None:
    """As the services process takes them; None where they are off."""
    return None if config.authentication.api_keys is None else {"hash_key": str(config.hash_key_file)}


def policies(config: Config) -> dict[str, Any] | None:
    """The same of roles, grants and policies."""
    if not config.authorization.policies:
        return None
    return {
        "admins": list(config.authorization.bootstrap_admins),
        "events": str(config.events_file),
        "protocol": config.upstream.protocol,
        "services": config.upstream.model_dump(mode="json")["services"],
    }


def revocations(config: Config) -> dict[str, Any] | None:
    """The same of what is revoked."""
    given = config.authentication
    return {"issuers": {each.name: each.issuer for each in given.jwt}} if given.revocations else None


def listen(config: Config) -> Listeners:
    """Open the listener. Raises ListenError."""
    address = config.listen.address
    try:
        if isinstance(address, UnixAddress):
            return UnixListener(Path(address.path), workers(config))
        return TcpListeners(address.host, address.port, workers(config))
    except OSError as error:
        raise ListenError("listen.address", f"cannot listen on {address}: {error.strerror or error}") from None


def watched_over(config: Config) -> bool:
    """Whether anybody is told anything."""
    return bool(config.telemetry.otlp or config.telemetry.access_log.file != "off" or config.probes.address)


def telemetry_settings(config: Config) -> TelemetrySettings:
    telemetry, probes = config.telemetry, config.probes
    return TelemetrySettings(
        workers=workers(config),
        otlp=telemetry.otlp or "",
        service_name=telemetry.service_name,
        access_log=str(telemetry.access_log.file),
        state=str(config.state.directory),
        min_free=int(probes.min_free),
        max_staleness_s=float(probes.max_staleness),
    )


def listen_probes(config: Config) -> socket.socket | None:
    """The probes' socket, listening; None where they are not wanted. Raises ProbesError."""
    address = config.probes.address
    if not isinstance(address, TcpAddress):
        return None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.callback(opened.close)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(place)
            opened.listen()
            undo.pop_all()
    except OSError as error:
        raise ProbesError("probes.address", f"cannot listen on {address}: {error.strerror or error}") from None
    return opened


def workers(config: Config) -> int:
    return config.workers if config.workers != "auto" else len(os.sched_getaffinity(0))


def _run_directory(config: Config) -> RunDirectory:
    """Where systemd says, else within the state directory. Raises SettingError."""
    parent = Path(os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or config.state.directory)
    try:
        return RunDirectory(parent, os.getpid())
    except OSError as error:
        raise SettingError("state.directory", f"cannot make a directory in {parent}: {error.strerror}") from None
