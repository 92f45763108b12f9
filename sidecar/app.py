"""The composition root: the one file that knows every name, and runs the program from a config."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import secrets
import signal
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import uvloop

from interceptors.events import Durability, Event
from interceptors.ledger import NoLedger
from sidecar import build, wiring
from sidecar.answers import Answers
from sidecar.audit.recorder_jsonl import JsonlRecorder
from sidecar.check import exposure
from sidecar.check.report import RefusedError
from sidecar.config.addresses import Address, TcpAddress, UnixAddress
from sidecar.config.model import Config
from sidecar.config.units import Rate as ConfigRate
from sidecar.errors import SettingError
from sidecar.limits.ledger_mmap import MmapLedger
from sidecar.logs import Log
from sidecar.relay.codecs.registry import Codecs, registry
from sidecar.relay.front import Front
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.relay import Relay
from sidecar.relay.settings import (
    EjectionSettings,
    FrontSettings,
    HealthSettings,
    RetrySettings,
    Target,
    UpstreamSettings,
)
from sidecar.relay.tls import ClientTls, ServerTls
from sidecar.relay.upstream.pool import Pool
from sidecar.telemetry import metrics
from sidecar.telemetry.pulse import Gauge
from sidecar.watching import Watch, wanted

log = Log("app")


class ListenError(SettingError):
    """The listener cannot be opened."""


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0 when every open call had ended in time.

    Raises SidecarError for what only shows when starting: a port in use, a certificate that does not load.
    """
    exposed = exposure.examine(config.upstream)
    for weak in exposed.warnings:
        log.warning("upstream_exposed", detail=str(weak))
    if exposed.faults:
        raise RefusedError(exposed)
    # The limits on connections are the config's; the soft limit of descriptors is often a shell's default.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return uvloop.run(_Sidecar(config).run())


class _Sidecar:
    """One running sidecar. Everything that runs in this process for now stands behind the relay's ports."""

    def __init__(self, config: Config) -> None:
        self._config = config
        now = time.time()
        server, client = wiring.server_tls(config), wiring.client_tls(config)
        self._server_tls = ServerTls(server, now) if server is not None else None
        self._client_tls = ClientTls(client, now) if client is not None else None
        self._ledger = MmapLedger(config.limits_file, _limits_trouble) if config.limits else None
        ids = Random(secrets.randbits(256)).randbytes  # noqa: S311 - ids need be unique, not secret
        self._chain = wiring.chain(config, ids, self._ledger or NoLedger())

    async def run(self) -> int:
        config, loop = self._config, asyncio.get_running_loop()
        recorder = JsonlRecorder(config.events_file, loop.call_soon_threadsafe)
        known = codecs(config)
        jitter = Random(secrets.randbits(64)).random  # noqa: S311 - spreads reconnects and samples, guards nothing
        watch = Watch(config, loop, lambda path: known.method(path) is not None, jitter) if wanted(config) else None
        spans = watch.spans if watch is not None else None
        relay = Relay(loop, front_settings(config), self._chain, known, recorder, spans, Answers(loop, {}))
        client_tls, server_tls = self._client_tls, self._server_tls
        jitter = Random(secrets.randbits(64)).random  # noqa: S311 - spreads reconnects, guards nothing
        given = config.upstream.tls.server_name if config.upstream.tls is not None else None
        dial = None if client_tls is None else lambda host: client_tls.channel(given or host)
        pool = Pool(loop, relay, upstream_settings(config), dial, self._vet, jitter)
        relay.pool = pool
        channel = None if server_tls is None else lambda: server_tls.channel(time.time())
        front = Front(loop, relay, channel, b"http" if client_tls is None else b"https")
        bound: tuple[int, int] | None = None
        try:
            server = await listen(loop, front, config)
            bound = socket_at(config.listen.address)
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            front.start()
            pool.start()
            if watch is not None:
                watch.begin(config, self._gauges(recorder, front, pool))
            started = partial(Event, tenant="", durability=Durability.COMMIT)
            recorder.record(started("sidecar.started", time.time(), reason=f"config {config.digest()}"))
            log.info("listening", address=listening_at(server), upstream=", ".join(map(str, config.upstream.address)),
                     config=config.digest(), build=build.of())  # fmt: skip
            gc.collect()
            gc.freeze()
            # Calls leave no cycles behind, so the collector has little to find; what it does cost is looking.
            gc.set_threshold(100_000, 50, 50)
            await stop.wait()
            log.info("stopping", grace_s=float(config.listen.grace))
            server.close()
            in_time = await front.drain(config.listen.grace)
            await pool.stop()
            recorder.record(started("sidecar.stopped", time.time(), reason="" if in_time else "calls cut at grace"))
            log.info("stopped", in_time=in_time)
            return 0 if in_time else 1
        finally:
            recorder.close()
            if watch is not None:
                watch.end()
            if self._ledger is not None:
                self._ledger.close()
            # What stands at the path may be somebody else's: of before we could bind, or put there since.
            if bound is not None and isinstance(config.listen.address, UnixAddress):
                with contextlib.suppress(OSError):
                    if socket_at(config.listen.address) == bound:
                        os.unlink(config.listen.address.path)

    def _gauges(self, recorder: JsonlRecorder, front: Front, pool: Pool) -> dict[Gauge, Callable[[], float]]:
        """What is so at a moment, for whoever watches."""
        gauges: dict[Gauge, Callable[[], float]] = {
            (metrics.UPSTREAM_UP, (", ".join(map(str, self._config.upstream.address)),)): lambda: float(pool.up),
            (metrics.RECORDER_UP, ()): lambda: float(recorder.failed is None),
            (metrics.RECORDER_QUEUE, ()): lambda: float(recorder.waiting),
            (metrics.DRAINING, ()): lambda: float(front.draining),
        }
        tls = self._server_tls
        if tls is not None:
            gauges[metrics.CERTIFICATE_EXPIRY, ("listen",)] = lambda: tls.not_after
        return gauges

    async def _vet(self, place: Target) -> str | None:
        """Why an endpoint that just came up may not be used: it may have opened more than it did before."""
        loop, upstream = asyncio.get_running_loop(), self._config.upstream
        found = await loop.run_in_executor(None, exposure.examine, upstream, (address_of(place),))
        for fault in found.faults:
            log.error("upstream_exposed", detail=str(fault))
        return "it can be reached around the sidecar" if found.faults else None


def _limits_trouble(refusal: str) -> None:
    log.warning("limits_unavailable", refusal=refusal, detail="calls are refused because their limits cannot be kept")


async def listen(loop: asyncio.AbstractEventLoop, front: Front, config: Config) -> asyncio.Server:
    """Open the listener. Raises ListenError."""
    address = config.listen.address
    try:
        if isinstance(address, TcpAddress):
            return await loop.create_server(front.protocol, address.host, address.port, backlog=1024)
        remove_stale_socket(Path(address.path))
        mask = os.umask(0o177)  # nobody else may connect, from the moment the socket is there
        try:
            server = await loop.create_unix_server(front.protocol, address.path, backlog=1024)
        finally:
            os.umask(mask)
        return server
    except OSError as error:
        raise ListenError("listen.address", f"cannot listen on {address}: {error.strerror or error}") from None


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that a killed process left; anything else stays, and binding fails.

    Raises OSError where somebody listens there, or where it cannot be told.
    """
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there already")


def socket_at(address: TcpAddress | UnixAddress) -> tuple[int, int] | None:
    """Which file stands at a Unix address: its device and number."""
    if isinstance(address, TcpAddress):
        return None
    found = os.stat(address.path)
    return found.st_dev, found.st_ino


def listening_at(server: asyncio.Server) -> str:
    """Where a server listens, its real port where the config said 0."""
    name = server.sockets[0].getsockname()
    if isinstance(name, str):
        return f"unix://{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def rate(value: ConfigRate) -> Rate:
    return Rate(value.per_second, value.burst)


def front_settings(config: Config) -> FrontSettings:
    """The listener's limits as the relay takes them."""
    limits = config.listen.limits
    return FrontSettings(
        limits=Limits(
            concurrent_streams=limits.concurrent_streams,
            header_list=limits.header_list,
            header_count=limits.header_count,
            continuations=limits.continuations,
            stream_window=limits.stream_window,
            connection_window=limits.connection_window,
            resets=rate(limits.resets),
            pings=rate(limits.pings),
            settings=rate(limits.settings),
            priorities=rate(limits.priorities),
            empty_data=rate(limits.empty_data),
        ),
        message=limits.message,
        response_message=limits.response_message,
        decompressed=limits.decompressed,
        buffered=limits.buffered,
        handshake_s=limits.handshake,
        header_s=limits.header_time,
        idle_s=limits.idle,
        keepalive_s=limits.keepalive,
        connections_per_source=limits.connections_per_source,
    )


def upstream_settings(config: Config) -> UpstreamSettings:
    """The model server's addresses and limits as the relay takes them."""
    upstream = config.upstream
    health, ejection, retries = upstream.health, upstream.ejection, upstream.retries
    return UpstreamSettings(
        tuple(map(target_of, upstream.address)),
        connections=upstream.connections,
        connections_most=upstream.connections_most or upstream.connections,
        connect_s=upstream.connect_timeout,
        calls_most=upstream.calls_most or 0,
        try_s=upstream.per_try_timeout or 0.0,
        queue=upstream.queue,
        queue_s=upstream.queue_timeout,
        wait=upstream.when_unready == "wait",
        dns_s=upstream.dns_refresh,
        keepalive_s=upstream.keepalive,
        keepalive_answer_s=upstream.keepalive_timeout,
        health=HealthSettings(
            health.check == "grpc", health.service or "", health.interval, health.timeout, health.failures
        ),
        ejection=EjectionSettings(
            failures=ejection.failures,
            ratio=ejection.ratio,
            calls=ejection.calls,
            interval_s=ejection.interval,
            base_s=ejection.time,
            most_s=ejection.time_most,
            share=ejection.share,
        ),
        retries=RetrySettings(retries.attempts, retries.backoff, retries.budget, retries.reserve),
        limits=Limits(
            # An answer's headers may be larger than what callers may send, never smaller.
            header_list=max(64 << 10, config.listen.limits.header_list),
            header_count=max(512, config.listen.limits.header_count),
            stream_window=upstream.stream_window,
            connection_window=upstream.connection_window,
            # The model server is trusted not to flood; its transport probes bandwidth by PING under load.
            resets=Rate(10_000, 100_000),
            pings=Rate(1_000, 10_000),
            settings=Rate(10, 100),
        ),
    )


def target_of(address: Address) -> Target:
    return Target(address.host, address.port) if isinstance(address, TcpAddress) else Target("", 0, address.path)


def address_of(target: Target) -> Address:
    return UnixAddress(target.path) if target.path else TcpAddress(target.host, target.port)


def codecs(config: Config) -> Codecs:
    """What is known of the model server's methods."""
    upstream = config.upstream
    return registry(upstream.protocol, upstream.services)
