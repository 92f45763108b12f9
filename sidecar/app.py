"""A worker: one relay process, made from a config, and changed to another while it runs."""

from __future__ import annotations

import asyncio
import gc
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import GeneratorType
from typing import Any, Final

import uvloop

from interceptors.authorize import Permission
from interceptors.chain import Chain
from interceptors.contract import Call, Code, Deny, Headers, Peer
from interceptors.facts import PeerCertificate, Principal
from sidecar import wiring
from sidecar.answers import Answers
from sidecar.audit.recorder_remote import RemoteRecorder
from sidecar.check import exposure
from sidecar.check.report import of_error
from sidecar.config.addresses import TcpAddress
from sidecar.config.load import build
from sidecar.config.model import Config
from sidecar.config.units import Rate as ConfigRate
from sidecar.errors import SidecarError
from sidecar.logs import Log
from sidecar.processes.child import Birth, Control
from sidecar.processes.listeners import BACKLOG
from sidecar.processes.messages import Abandon, Attach, Commit, Message, Prepare, Prepared, Ready
from sidecar.relay.codecs.registry import Codecs, registry
from sidecar.relay.front import Front
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.relay import Relay
from sidecar.relay.settings import FrontSettings, UpstreamSettings
from sidecar.relay.tls import ClientTls, ServerTls
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.upstream import Pool
from sidecar.telemetry.export_otel import OtelExport

log = Log("app")

CHANGED: Final = Deny(Code.PERMISSION_DENIED, "authorize.changed", "permission denied")
UNDECIDED: Final = Deny(Code.UNAVAILABLE, "authorize.undecided", "permission cannot be decided at the moment")


def main(birth: Birth) -> int:
    """settings: {"config": the effective config, "directory": of its file}. Raises SidecarError."""
    return uvloop.run(_Worker(birth).run())


@dataclass(frozen=True, slots=True)
class Fittings:
    """What one generation of the config makes of a relay. standing: decides on calls that are open already."""

    config: Config
    front: FrontSettings
    chain: Chain
    standing: Chain
    codecs: Codecs
    server_tls: ServerTls | None
    client_tls: ClientTls | None


def fittings(settings: dict[str, Any]) -> Fittings:
    """Raises SidecarError where they cannot be made."""
    config = build(settings["config"], Path(settings["directory"]), {})
    now = time.time()
    server, client = wiring.server_tls(config), wiring.client_tls(config)
    return Fittings(
        config,
        front_settings(config),
        wiring.chain(config, Random(secrets.randbits(256)).randbytes),  # noqa: S311 - ids need be unique, not secret
        wiring.standing(config),
        codecs(config),
        ServerTls(server, now) if server is not None else None,
        ClientTls(client, now) if client is not None else None,
    )


class _Worker:
    """One running relay."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._now = fittings(birth.start.settings)
        self._next: tuple[int, Fittings] | None = None  # prepared, with its generation
        self._making = 0  # the generation that is being prepared
        self._wanted = 0  # the generation to switch to as soon as it is

    async def run(self) -> int:
        loop, now = asyncio.get_running_loop(), self._now
        telemetry = now.config.telemetry
        self._recorder = recorder = RemoteRecorder(loop)
        spans = OtelExport(telemetry.otlp, telemetry.service_name) if telemetry.otlp else None
        self._relay = relay = Relay(loop, now.front, now.chain, now.codecs, recorder, spans, Answers(loop, {}))
        jitter = Random(secrets.randbits(64)).random  # noqa: S311 - spreads reconnects, guards nothing
        self._pool = pool = Pool(loop, relay, upstream_settings(now.config), self._dial(), self._vet, jitter)
        relay.pool = pool
        channel = self._accept if now.server_tls is not None else None
        self._front = front = Front(loop, relay, channel, b"http" if now.client_tls is None else b"https")
        handlers = {Prepare: self._prepare, Commit: self._commit, Abandon: self._abandon}
        control = self._control = Control(loop, self._birth, handlers, self._attach, self._measure)
        try:
            front.start()
            pool.start()
            control.send(Ready())
            if not await control.started():
                return 0
            settle()
            return await self._serve(control)
        finally:
            recorder.close()
            if spans is not None:
                spans.close()

    async def _serve(self, control: Control) -> int:
        """Serve until told to drain; 0 where every open call had ended in time."""
        loop, front = asyncio.get_running_loop(), self._front
        numbers = self._birth.descriptors
        listening = [socket.socket(fileno=numbers[name]) for name in sorted(numbers)]
        servers = [await loop.create_server(front.protocol, sock=each, backlog=BACKLOG) for each in listening]
        await control.draining.wait()
        log.info("draining", grace_s=control.grace)
        for server in servers:
            server.close()
        draining = loop.create_task(front.drain(control.grace))
        ending = loop.create_task(control.ended.wait())
        await asyncio.wait((draining, ending), return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            front.cut()
        ending.cancel()
        in_time = await draining and not control.ended.is_set()
        await self._pool.stop()
        log.info("drained", in_time=in_time)
        return 0 if in_time else 1

    # --- a new generation ---------------------------------------------------------------------------------------

    def _prepare(self, message: Message) -> None:
        """Make the parts in a thread: files are read and contexts made, for which no call is to wait."""
        assert isinstance(message, Prepare)
        self._next, self._making, self._wanted = None, message.generation, 0
        made = asyncio.get_running_loop().run_in_executor(None, fittings, message.settings)
        made.add_done_callback(partial(self._prepared, message.generation))

    def _prepared(self, generation: int, made: asyncio.Future[Fittings]) -> None:
        if generation != self._making:
            return  # another has been asked for since
        self._making = 0
        faults: list[list[str]] = []
        try:
            self._next = generation, made.result()
        except SidecarError as error:
            faults = [[each.path, each.problem] for each in of_error(error).faults]
        except Exception as error:
            log.error("prepare_failed", error)
            faults = [["", f"a worker cannot use it: {type(error).__name__}"]]
        self._control.send(Prepared(generation, faults))
        if self._wanted == generation:
            self._switch(generation)

    def _abandon(self, message: Message) -> None:
        self._next, self._making = None, 0

    def _commit(self, message: Message) -> None:
        assert isinstance(message, Commit)
        if self._making == message.generation:
            self._wanted = message.generation  # it was starting when the others were asked
        else:
            self._switch(message.generation)

    def _switch(self, generation: int) -> None:
        if self._next is None or self._next[0] != generation:
            # The others have switched: whoever serves by other rules than they do must not go on.
            log.error("commit_unprepared", generation=generation)
            self._control.ended.set()
            self._control.draining.set()
            return
        before, (_, now) = self._now, self._next
        self._now, self._next = now, None
        self._relay.switch(now.front, now.chain, now.codecs)
        self._front.recheck(self._vouch, Standing(now.standing, self._relay.wall))
        if now.client_tls and before.client_tls and now.client_tls.digest != before.client_tls.digest:
            self._pool.renew(self._dial())

    def _vouch(self, channel: TlsChannel | None) -> PeerCertificate | None:
        """What the peer of an open connection is by the settings in force. Raises TlsRefused."""
        if channel is None or self._now.server_tls is None:
            return None
        return self._now.server_tls.recheck(channel.chain(), time.time())

    # --- what the relay's parts call ----------------------------------------------------------------------------

    def _accept(self) -> TlsChannel:
        assert self._now.server_tls is not None
        return self._now.server_tls.channel(time.time(), self._server_tls)

    def _server_tls(self) -> ServerTls:
        assert self._now.server_tls is not None
        return self._now.server_tls

    def _dial(self) -> Any:
        return self._now.client_tls.channel if self._now.client_tls is not None else None

    def _attach(self, message: Attach, connection: socket.socket) -> None:
        if message.role == "recorder":
            self._recorder.attach(connection)
        else:
            connection.close()

    def _measure(self) -> tuple[int, int, dict[str, object]]:
        return (
            self._front.connections,
            self._front.calls,
            {"upstream": self._pool.up, "audit": self._recorder.failed or ""},
        )

    async def _vet(self) -> str | None:
        """Why the model server that just came up may not be used: it may have opened more than it did before."""
        found = await asyncio.get_running_loop().run_in_executor(None, exposure.examine, self._now.config.upstream)
        for fault in found.faults:
            log.error("upstream_exposed", detail=str(fault))
        return "it can be reached around the sidecar" if found.faults else None


class Standing:
    """Whether an open call would be let in now, as it was. chain: identifies and authorizes.  wall: Unix seconds."""

    def __init__(self, chain: Chain, wall: Callable[[], float]) -> None:
        self._chain = chain
        self._wall = wall

    def __call__(self, call: Call, peer: Peer) -> Deny | None:
        probe = Call(call.method, Headers(()), peer, self._wall(), None, call.codec)
        verdict: Any = self._chain.plan(call.method).start(probe)
        if type(verdict) is GeneratorType:
            verdict.close()
            return UNDECIDED
        if verdict is not None:
            return verdict  # type: ignore[no-any-return]
        before, now = call.find(Permission), probe.find(Permission)
        # Its messages go on being checked by what it was let in with: where that is not the same, it begins anew.
        same = now is None or now.models is None or (before is not None and before.models == now.models)
        return None if same and call.find(Principal) == probe.find(Principal) else CHANGED


def settle() -> None:
    """Calls leave no cycles behind, so the collector has little to find; what it does cost is looking."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


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
    """The model server's address and limits as the relay takes them."""
    upstream, address = config.upstream, config.upstream.address
    place = (address.host, address.port, "") if isinstance(address, TcpAddress) else ("", 0, address.path)
    return UpstreamSettings(
        *place,
        connections=upstream.connections,
        connect_s=upstream.connect_timeout,
        queue=upstream.queue,
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


def codecs(config: Config) -> Codecs:
    """What is known of the model server's methods."""
    upstream = config.upstream
    return registry(upstream.protocol, upstream.services)
