"""A worker: one relay process, made from a config, and changed to another while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import math
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Final

import uvloop

from interceptors.authorize import Authorize
from interceptors.chain import Chain
from interceptors.contract import AnswerError, Call, Deny, Peer
from interceptors.decided import Decided
from interceptors.events import Event
from interceptors.facts import PeerCertificate, Principal
from interceptors.ledger import Charge, Ledger, NoLedger, TakeAll, Taken
from interceptors.sequences import KEY
from interceptors.tokens import FetchKeys, UseProof
from sidecar import wiring
from sidecar.answers import Answerer, Answers
from sidecar.audit.recorder_remote import RemoteRecorder
from sidecar.changes.follower import Follower
from sidecar.check import exposure
from sidecar.check.report import of_error
from sidecar.config.load import build
from sidecar.config.model import Config
from sidecar.errors import SidecarError
from sidecar.identity import dpop
from sidecar.identity.held import Held, Told
from sidecar.identity.keys_hash import FileHashKeys
from sidecar.identity.keys_known import KeysKnown
from sidecar.identity.keys_model import FILE, SO, USED
from sidecar.identity.keys_model import KEYS as API_KEYS
from sidecar.identity.revocations_known import RevocationsKnown
from sidecar.identity.revocations_model import SO as REVOCATIONS_SO
from sidecar.identity.revocations_model import TOPIC as REVOCATIONS
from sidecar.identity.sources import KEYS
from sidecar.internal.mac import SealError
from sidecar.internal.paths import short
from sidecar.internal.peer import expect
from sidecar.limits.ledger_mmap import SLOTS, MmapLedger
from sidecar.limits.waiting import Waiting
from sidecar.logs import Log
from sidecar.policy import rows
from sidecar.policy.access import PolicyAccess
from sidecar.policy.known import Known as PolicyKnown
from sidecar.processes.child import Birth, Control, resident
from sidecar.processes.doors import Doors
from sidecar.processes.messages import Abandon, Attach, Commit, Leave, Message, Neighbour, Prepare, Prepared, Ready
from sidecar.relay.codecs.registry import Codecs
from sidecar.relay.freed import trim_of
from sidecar.relay.front import Concerned, Front
from sidecar.relay.internal_calls import InternalCalls
from sidecar.relay.meter import UNMETERED
from sidecar.relay.own import OwnServices
from sidecar.relay.relay import Relay
from sidecar.relay.settings import EjectionSettings, FrontSettings, Target, UpstreamSettings
from sidecar.relay.tls import ClientTls, ServerTls
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.upstream.pool import Pool
from sidecar.relaying import address_of, codecs, front_settings, upstream_settings
from sidecar.standing import Standing
from sidecar.telemetry import metrics
from sidecar.telemetry.pulse import Gauge, boot_clock
from sidecar.telemetry.watched import Watched

log = Log("app")

CALLS: Final = "calls.sock"  # of the services process, in the run directory
STREAMS: Final = "streams.sock"
HAND_IN_S: Final = 30.0
TOLD_S: Final = 5.0  # for policies to be told of, before callers are taken all the same
EXPIRIES_S: Final = 0.25  # between looks at whether what open calls rest on has ended
LISTEN: Final = "listen-"  # how the names of the listening descriptors begin


def main(birth: Birth) -> int:
    """settings: {"config": the effective config, "directory": of its file}. Raises SidecarError."""
    return uvloop.run(_Worker(birth).run())


@dataclass(frozen=True, slots=True)
class Fittings:
    """What one generation of the config makes of a relay. standing: decides on calls that are open already."""

    config: Config
    front: FrontSettings
    access: PolicyAccess | None
    authorize: Authorize
    chain: Chain
    standing: Chain
    codecs: Codecs
    held: Held
    server_tls: ServerTls | None
    client_tls: ClientTls | None


class SharedLedger:
    """A ledger that all workers share, opened when the config first needs it.

    trouble: told when calls come to be refused because it is full or busy.
    """

    def __init__(self, trouble: Callable[[str], None], slots: int = SLOTS) -> None:
        self._trouble = trouble
        self._slots = slots
        self._ledger: MmapLedger | None = None
        self._waiting: Waiting | None = None

    def of(self, file: Path | None) -> Ledger:
        """file: where it is kept; None where the config needs none. Raises LedgerError."""
        if file is not None and self._ledger is None:
            self._ledger = MmapLedger(file, self._trouble, slots=self._slots)
            self._waiting = Waiting(self._ledger, time.monotonic)
        return self._ledger or NoLedger()

    async def take_all(self, charges: Sequence[Charge]) -> Taken:
        """Raises AnswerError where no config has needed it."""
        if self._waiting is None:
            raise AnswerError("there is no such ledger")
        return await self._waiting.take_all(charges)

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()


def _limits_trouble(refusal: str) -> None:
    log.warning("limits_unavailable", refusal=refusal, detail="calls are refused because their limits cannot be kept")


def _proofs_trouble(refusal: str) -> None:
    log.warning("proofs_unavailable", refusal=refusal, detail="calls are refused because their proofs cannot be kept")


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives a generation of the config.

    ledger: of limits.  proofs: that were used.  told: of issuers' keys.  known: API keys.  revoked: tokens and
    certificates.  policies: roles and all that.  sequence_key: as of Sequences.  nonce_key: of nonces.
    """

    ledger: SharedLedger
    proofs: SharedLedger
    told: Told
    known: KeysKnown
    revoked: RevocationsKnown
    policies: PolicyKnown
    sequence_key: bytes
    nonce_key: bytes


def fittings(settings: dict[str, Any], lasting: Lasting, before: Fittings | None = None) -> Fittings:
    """before: those in force, whose rules are not compiled again where neither they nor what methods need has changed.

    Raises SidecarError where they cannot be made.
    """
    config = build(settings["config"], Path(settings["directory"]), {})
    now = time.time()
    server, client = wiring.server_tls(config), wiring.client_tls(config)
    held = wiring.keys(config, lasting.told)
    access = _the_same_or(wiring.access(config, lasting.policies), before)
    same = before is not None and _asks(before.config) == _asks(config) and before.access is access
    proofs = lasting.proofs.of(config.proofs_file if config.authentication.dpop else None)
    identify = wiring.identification(config, held, lasting.known, lasting.revoked, proofs, lasting.nonce_key)
    authorize = before.authorize if before is not None and same else wiring.authorization(config, access)
    return Fittings(
        config,
        front_settings(config),
        access,
        authorize,
        wiring.chain(
            config,
            ids(),
            lasting.ledger.of(config.limits_file if config.limited else None),
            lasting.sequence_key,
            identify,
            authorize,
        ),
        wiring.standing(config, identify, authorize),
        codecs(config),
        held,
        ServerTls(server, now) if server is not None else None,
        ClientTls(client, now) if client is not None else None,
    )


def _the_same_or(access: PolicyAccess | None, before: Fittings | None) -> PolicyAccess | None:
    """The one before, where it decides as `access` does: open calls go on by who decided on them."""
    earlier = None if before is None else before.access
    return earlier if access is not None and access.like(earlier) else access


def _asks(config: Config) -> tuple[object, ...]:
    """All that decides on who may call what."""
    return config.authorization, config.upstream.protocol, config.upstream.services


def sequence_key(boot_key: bytes) -> bytes:
    """As of Sequences: the same in every worker of this boot, wherever a sequence's requests come in."""
    return blake2b(digest_size=KEY, key=boot_key, person=b"sequences").digest()


def nonce_key(boot_key: bytes) -> bytes:
    """Of nonces of proofs: good in every worker of this boot, whichever gave them out."""
    return blake2b(digest_size=KEY, key=boot_key, person=b"dpop nonces").digest()


class _Worker:
    """One running relay."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._ledger, self._proofs = SharedLedger(_limits_trouble), SharedLedger(_proofs_trouble, dpop.SLOTS)
        self._services_pid = 0  # 0 while there is no such process
        self._follower: Follower | None = None  # until there is a loop
        self._told = Told(lambda: math.inf if self._follower is None else self._follower.age(), self._issuers_changed)
        self._known_keys = KeysKnown(self._told.age, self._keys_changed, boot_clock)
        self._revoked = RevocationsKnown(self._told.age, self._revocations_changed, boot_clock)
        self._policies = PolicyKnown(self._told.age, self._policies_changed, boot_clock)
        key = bytes.fromhex(birth.start.key)
        self._lasting = Lasting(
            self._ledger,
            self._proofs,
            self._told,
            self._known_keys,
            self._revoked,
            self._policies,
            sequence_key(key),
            nonce_key(key),
        )
        self._certain = False  # what was known of policies at the last look was known to be so
        self._now = fittings(birth.start.settings, self._lasting)
        self._next: tuple[int, Fittings] | None = None  # prepared, with its generation
        self._making = 0  # the generation that is being prepared
        self._wanted = 0  # the generation to switch to as soon as it is

    async def run(self) -> int:
        loop, now, known = asyncio.get_running_loop(), self._now, self._known_keys
        if now.config.authentication.api_keys is not None:
            known.configure(FileHashKeys(now.config.hash_key_file))
        self._recorder = recorder = RemoteRecorder(loop)
        jitter = Random(secrets.randbits(64)).random  # noqa: S311 - spreads reconnects and samples, guards nothing
        watched = Watched.of(self._birth.descriptors, loop, now.config.telemetry.access_log, self._known, jitter)
        meter, spans = (UNMETERED, None) if watched is None else (watched.meter, watched.spans)
        follower = self._follower = Follower(
            loop,
            boot_clock,
            {
                KEYS: self._told.listen, FILE: known.listen_file, API_KEYS: known.listen, SO: known.listen_so,
                REVOCATIONS: self._revoked.listen, REVOCATIONS_SO: self._revoked.listen_so,
                rows.ITEMS: self._policies.listen, rows.SO: self._policies.listen_so,
            },
            marks=(SO, REVOCATIONS_SO, rows.SO),
        )  # fmt: skip
        table: dict[type, Answerer] = {
            TakeAll: lambda question: self._ledger.take_all(question.charges),
            UseProof: lambda question: self._proofs.take_all(question.charges),
            FetchKeys: self._fetch_keys,
        }
        answers = Answers(loop, table)
        self._relay = relay = Relay(loop, now.front, now.chain, now.codecs, recorder, spans, answers, meter, jitter)
        relay.resident = resident
        relay.trim = trim_of(ctypes.CDLL(None))
        self._pool = pool = Pool(
            loop, relay, upstream_settings(now.config), self._dial(), self._vet, jitter, meter=meter
        )
        relay.pool = pool
        self._pools = [pool]
        relay.own = self._own_services(loop, relay, jitter)
        channel = self._accept if now.server_tls is not None else None
        self._front = front = Front(loop, relay, channel, b"http" if now.client_tls is None else b"https")
        self._doors = doors = Doors(loop, front.protocol)
        handlers = {
            Prepare: self._prepare, Commit: self._commit, Abandon: self._abandon, Neighbour: self._meet,
            Leave: self._leave,
        }  # fmt: skip
        control = self._control = Control(loop, self._birth, handlers, self._attach, doors.tend, self._measure)
        try:
            front.start()
            for each in self._pools:
                each.start()
            control.send(Ready())
            if not await control.started():
                return 0
            if watched is not None:
                watched.begin(self._gauges())
            settle()
            self._hand_in()
            self._look_at_expiries()
            return await self._serve(control)
        finally:
            follower.close()
            recorder.close()
            if watched is not None:
                watched.end()
            self._ledger.close()
            self._proofs.close()

    async def _serve(self, control: Control) -> int:
        """Serve until told to drain; 0 where every open call had ended in time."""
        loop, front = asyncio.get_running_loop(), self._front
        numbers = self._birth.descriptors
        listening = [socket.socket(fileno=numbers[name]) for name in sorted(numbers) if name.startswith(LISTEN)]
        draining = loop.create_task(control.draining.wait())
        if self._now.access is not None:
            # Who is refused at once would have been let in a moment later.
            told = loop.create_task(self._policies.begun.wait())
            await asyncio.wait((told, draining), timeout=TOLD_S, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
        await self._doors.open(self._birth.start.slot, listening)
        await draining
        waiting = self._doors.close(control.last)
        log.info("draining", grace_s=control.grace)
        for each in waiting:
            await loop.connect_accepted_socket(front.protocol, each)
        drained = loop.create_task(front.drain(control.grace))
        ending = loop.create_task(control.ended.wait())
        await asyncio.wait((drained, ending), return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            front.cut()
        ending.cancel()
        in_time = await drained and not control.ended.is_set()
        for pool in self._pools:
            await pool.stop()
        log.info("drained", in_time=in_time)
        return 0 if in_time else 1

    # --- the services process ------------------------------------------------------------------------------------

    def _own_services(self, loop: asyncio.AbstractEventLoop, relay: Relay, jitter: Callable[[], float]) -> OwnServices:
        start = self._birth.start
        directory = short(Path(start.run_directory))

        def pool(name: str) -> Pool:
            target = Target("", 0, f"{directory}/{name}")
            # One endpoint, which is here or is started again: there is nothing to choose, and calls may wait for it.
            settings = UpstreamSettings((target,), wait=True, ejection=EjectionSettings(failures=0, ratio=0.0))
            made = Pool(loop, relay, settings, None, None, jitter, admit=self._admit)
            self._pools.append(made)
            return made

        internal = InternalCalls(bytes.fromhex(start.key), boot_clock, secrets.token_bytes)
        return OwnServices(internal, pool(CALLS), pool(STREAMS))

    def _meet(self, message: Message) -> None:
        assert isinstance(message, Neighbour)
        if message.role == "services":
            self._services_pid = message.pid

    def _leave(self, message: Message) -> None:
        assert isinstance(message, Leave)
        self._doors.leave(message.slot)

    def _admit(self, connection: Any) -> str | None:
        """Why the process at the other end of a socket of the services is not theirs, or None."""
        if connection is None:
            return "the connection is gone"
        try:
            expect(connection, self._services_pid)
        except SealError as error:
            self._recorder.record(Event("internal.refused", time.time(), reason=error.why, fold=True))
            log.warning("impostor", detail=str(error))
            return error.why
        return None

    # --- a new generation ---------------------------------------------------------------------------------------

    def _prepare(self, message: Message) -> None:
        """Make the parts in a thread: files are read and contexts made, for which no call is to wait."""
        assert isinstance(message, Prepare)
        self._next, self._making, self._wanted = None, message.generation, 0
        made = asyncio.get_running_loop().run_in_executor(None, fittings, message.settings, self._lasting, self._now)
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
        self._recheck()
        if now.client_tls and before.client_tls and now.client_tls.digest != before.client_tls.digest:
            self._pool.renew(self._dial())

    def _recheck(self) -> None:
        """Ask again of every open call, and end those that would not be let in now."""
        self._front.recheck(self._vouch, Standing(self._now.standing, self._relay.wall))

    def _issuers_changed(self) -> None:
        """Keys that tokens are signed with are others than before."""
        self._ask_again_soon(lambda call: _caller(call, "user") is not None)

    def _keys_changed(self, holders: Collection[str] | None) -> None:
        """holders: names of principals whose API keys have changed; None for any."""
        if holders is None:
            self._ask_again_soon(lambda call: _caller(call, "key") is not None)
        else:
            self._ask_again_soon(lambda call: _caller(call, "key") in holders)

    def _revocations_changed(self, certificate: bool) -> None:
        """Something is revoked."""
        if certificate:
            self._ask_again_soon(self._certificate_revoked)
        else:
            self._ask_again_soon(lambda call: _caller(call, "user") is not None)

    def _certificate_revoked(self, call: Call) -> bool:
        certificate = call.peer.certificate
        return isinstance(certificate, PeerCertificate) and self._revoked.certificate(certificate)

    def _policies_changed(self, tenants: Collection[str] | None) -> None:
        """tenants: whose roles, grants or policies have changed; None for any."""

        def concerned(call: Call) -> bool:
            decided = call.find(Decided)
            return decided is not None and (tenants is None or decided.principal.tenant in tenants)

        self._front.ask_again(concerned, self._decide_again)

    def _look_at_expiries(self) -> None:
        """Grants begin and end by themselves, and some conditions read the time."""
        asyncio.get_running_loop().call_later(EXPIRIES_S, self._look_at_expiries)
        policies, now, before = self._policies, time.time(), self._certain
        self._certain = self._now.access is None or self._now.access.certain
        if before and not self._certain:
            self._policies_changed(None)  # what they rest on may be so no more, and nobody would say
        if now < policies.due:
            return
        policies.due = math.inf  # calls that are decided on from here on bring it forward

        def concerned(call: Call) -> bool:
            decided = call.find(Decided)
            if decided is None:
                return False
            if now < decided.until:
                policies.due = min(policies.due, decided.until)
            return decided.until <= now

        self._front.ask_again(concerned, self._decide_again)

    def _decide_again(self, call: Call, _peer: Peer) -> Deny | None:
        observes = self._now.chain.observe_only
        return None if observes else call.get(Decided).again(call, time.time())

    def _ask_again_soon(self, concerned: Concerned) -> None:
        def ask_again() -> None:
            self._front.ask_again(concerned, Standing(self._now.standing, self._relay.wall))

        asyncio.get_running_loop().call_soon(ask_again)

    def _hand_in(self) -> None:
        """Which API keys were used."""
        used = self._known_keys.used.take()
        loop = asyncio.get_running_loop()
        loop.call_later(HAND_IN_S, self._hand_in)
        if used and self._follower is not None:
            self._handing = loop.create_task(_quietly(self._follower.ask(USED, used)))

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

    def _dial(self) -> Callable[[str], TlsChannel] | None:
        """What makes the TLS side of a connection to a host of the model server's."""
        tls, configured = self._now.client_tls, self._now.config.upstream.tls
        given = configured.server_name if configured is not None else None
        return None if tls is None else lambda host: tls.channel(given or host)

    def _known(self, path: str) -> bool:
        return self._now.codecs.knows(path)

    def _gauges(self) -> dict[Gauge, Callable[[], float]]:
        """What is so at a moment, for whoever watches."""
        front, pool, recorder, relay = self._front, self._pool, self._recorder, self._relay
        concurrency = relay.admission.concurrency
        gauges: dict[Gauge, Callable[[], float]] = {
            (metrics.CONNECTIONS_OPEN, ()): lambda: float(front.connections),
            (metrics.CALLS_OPEN, ()): lambda: float(front.calls),
            (metrics.UPSTREAM_QUEUE, ()): lambda: float(pool.state().waiting),
            (metrics.UPSTREAM_WAITING, ()): lambda: float(concurrency.waiting),
            (metrics.CONCURRENCY_LIMIT, ()): lambda: concurrency.limit,
            (metrics.BUFFERED, ()): lambda: float(relay.buffered),
            (metrics.RECORDER_UP, ()): lambda: float(recorder.failed is None),
            (metrics.RECORDER_QUEUE, ()): lambda: float(recorder.waiting),
            (metrics.DRAINING, ()): lambda: float(front.draining),
            **{(metrics.FEED_AGE, (name,)): age for name, age in self._feeds().items()},
        }
        if self._now.server_tls is not None:
            gauges[metrics.CERTIFICATE_EXPIRY, ("listen",)] = self._listen_expiry
        return gauges

    def _feeds(self) -> dict[str, Callable[[], float]]:
        """What calls depend on, by name: how long ago all that is known of it was known to be so, in seconds."""
        config = self._now.config
        followed = {
            "issuer-keys": (bool(wiring.sources(config)), self._told.age),
            "api-keys": (config.authentication.api_keys is not None, self._known_keys.age),
            "revocations": (config.authentication.revocations, self._revoked.age),
            "policies": (config.authorization.policies, self._policies.age),
        }
        return {name: age for name, (is_on, age) in followed.items() if is_on}

    def _listen_expiry(self) -> float:
        return self._now.server_tls.not_after if self._now.server_tls is not None else math.nan

    async def _fetch_keys(self, question: FetchKeys) -> None:
        """Raises AnswerError where they cannot be had."""
        source = self._now.held.source(question.issuer)
        if source is not None and self._follower is not None:
            await self._follower.ask(KEYS, source)

    def _attach(self, message: Attach, connection: socket.socket) -> None:
        if message.role == "recorder":
            self._recorder.attach(connection)
        elif message.role == "services" and self._follower is not None:
            self._follower.attach(connection)
        else:
            connection.close()

    def _measure(self) -> tuple[int, int, dict[str, object]]:
        return (
            self._front.connections,
            self._front.calls,
            {
                "upstreams": [
                    [each.address, each.condition, each.connections, each.failures] for each in self._pool.endpoints()
                ],
                "audit": self._recorder.failed or "",
                "feeds": {name: age() for name, age in self._feeds().items()},
            },
        )

    async def _vet(self, place: Target) -> str | None:
        """Why an endpoint that just came up may not be used: it may have opened more than it did before."""
        loop, upstream = asyncio.get_running_loop(), self._now.config.upstream
        found = await loop.run_in_executor(None, exposure.examine, upstream, (address_of(place),))
        for fault in found.faults:
            log.error("upstream_exposed", detail=str(fault))
        return "it can be reached around the sidecar" if found.faults else None


async def _quietly(asked: Awaitable[None]) -> None:
    """When a key was used last is worth no more than a try."""
    with contextlib.suppress(AnswerError):
        await asked


def _caller(call: Call, kind: str) -> str | None:
    """The name of who calls, where that is of a kind."""
    principal = call.find(Principal)
    return principal.name if principal is not None and principal.kind == kind else None


def ids() -> Callable[[int], bytes]:
    """Random bytes for ids, which need be unique, not secret."""
    return Random(secrets.randbits(256)).randbytes  # noqa: S311


def settle() -> None:
    """Calls leave no cycles behind, so the collector has little to find; what it does cost is looking."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
