"""What callers have is taken back: how long their open streams last, and until when calls of theirs are let in.

Each trial is one caller: an API key, a token, or a certificate to whom a grant gives a role. It has a stream open and
connections to all workers; from the change on it calls on each of these in turn, without pause; one whose certificate
is revoked calls on a new connection as well, and offers the TLS session of an earlier one. The time is from the moment
at which the service was asked, or the credential's end.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from h2.config import H2Configuration
from h2.connection import H2Connection

from bench.harness import children, issuer
from bench.harness.echo_server import STREAM, UNARY
from bench.harness.errors import BenchError
from bench.harness.issuer import Issuer
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given
from bench.operations.trust import Visitor
from langtrain.v1 import api_keys_pb2 as keys
from langtrain.v1 import api_keys_pb2_grpc, policies_pb2_grpc, revocations_pb2_grpc, sidecar_pb2, sidecar_pb2_grpc
from langtrain.v1 import policies_pb2 as policies
from langtrain.v1 import revocations_pb2 as revocations

BAR_S: Final = 1.0
LIMIT_S: Final = 15.0
BACK_S: Final = 90.0  # until a process that is killed again and again is there again
CONNECTIONS: Final = 12  # of a caller: of 4 workers each has one but once in 30
STALE_S: Final = 5  # state.max_staleness, as it is by default
STALLS: Final = 20
SOON_S: Final = 10  # until the first of what ends by itself does
BETWEEN_S: Final = 0.5  # ends
ADMIN: Final = "spiffe://example.org/bench/admin"
CALLER: Final = "spiffe://example.org/bench/caller-"
PERMISSION: Final = "upstream.opaque"  # of methods of which nothing is known
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
REFUSED: Final = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)


@dataclass(slots=True)
class Caller:
    """One with a stream open. cut: when that ended, on the monotonic clock; 0 before.  take: what takes it back.

    name: a certificate's.  visitor: what calls on new connections.
    """

    channels: list[grpc.Channel]
    metadata: tuple[tuple[str, str], ...]
    take: Callable[[], object] = lambda: None
    name: str = ""
    visitor: CallingVisitor | None = None
    cut: float = 0.0
    code: Any = None
    ended: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        """Raises BenchError where the stream, or a call on some connection, is not answered."""
        stream: Any = self.channels[0].stream_stream(STREAM)
        answers = stream(itertools.chain([b"first"], self._until_it_ends()), metadata=self.metadata)
        next(answers)
        threading.Thread(target=self._read, args=(answers,), daemon=True).start()
        for at in range(self.ways):
            if not self.admitted(at):
                raise BenchError("expected a call before the change to be let in")

    def close(self) -> None:
        for channel in self.channels:
            channel.close()

    @property
    def ways(self) -> int:
        """Connections, and the new ones as one more."""
        return len(self.channels) + (self.visitor is not None)

    def admitted(self, at: int) -> bool:
        """Of a call on one of the connections. Raises BenchError where it fails otherwise than refused."""
        at %= self.ways
        if at == len(self.channels) and self.visitor is not None:
            return self.visitor.admitted()
        call: Any = self.channels[at].unary_unary(UNARY)
        try:
            call(b"x", timeout=LIMIT_S, metadata=self.metadata)
        except grpc.RpcError as error:
            return _let_in(error.code())
        return True

    def _until_it_ends(self) -> Iterator[bytes]:
        self.ended.wait()
        yield from ()

    def _read(self, answers: Any) -> None:
        try:
            for _ in answers:
                pass
        except grpc.RpcError:
            pass
        self.cut, self.code = time.monotonic(), answers.code()
        self.ended.set()


class CallingVisitor(Visitor):
    """Is let in where a call is, on each new connection."""

    def _answered(self, secured: ssl.SSLSocket) -> bool:
        wire = H2Connection(H2Configuration(header_encoding="ascii"))
        wire.initiate_connection()
        fields = {":method": "POST", ":scheme": "https", ":authority": "localhost", ":path": UNARY}
        wire.send_headers(1, [*fields.items(), ("content-type", "application/grpc"), ("te", "trailers")])
        wire.send_data(1, b"\0\0\0\0\1x", end_stream=True)
        while True:
            secured.sendall(wire.data_to_send())
            if not (data := secured.recv(65536)):
                raise ConnectionResetError
            for event in wire.receive_data(data):
                status = dict(getattr(event, "headers", None) or ()).get("grpc-status")
                if status is not None:
                    return _let_in(CODES[int(status)])


def _let_in(code: grpc.StatusCode) -> bool:
    """Raises BenchError where a call failed otherwise than refused."""
    if code not in (grpc.StatusCode.OK, *REFUSED):
        raise BenchError(f"expected a call to be let in or refused, came {code}")
    return code is grpc.StatusCode.OK


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds: until the stream ended, and until the last call began that was let in."""

    stream: float
    admitted: float


class Desk:
    """The sidecar's services, as its administrator calls them."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._numbers = itertools.count()
        channel = scene.channel(scene.pki.leaf(name=ADMIN))
        self.keys: Any = api_keys_pb2_grpc.ApiKeyServiceStub(channel)
        self.policies: Any = policies_pb2_grpc.PolicyServiceStub(channel)
        self.revocations: Any = revocations_pb2_grpc.RevocationServiceStub(channel)
        self._sidecar: Any = sidecar_pb2_grpc.SidecarServiceStub(channel)

    def staleness(self) -> float:
        """Seconds since some worker knew all that calls depend on to be so; infinite where it does not know."""
        status = self._sidecar.GetStatus(sidecar_pb2.GetStatusRequest(), timeout=LIMIT_S).status
        return max(
            each.staleness.ToTimedelta().total_seconds() if each.HasField("staleness") else math.inf
            for each in status.feeds
        )

    def key(self) -> Caller:
        wanted = keys.CreateApiKeyRequest(owner="user:bench/owner", permissions=[PERMISSION])
        made = self.keys.CreateApiKey(wanted, timeout=LIMIT_S)
        taken = keys.RevokeApiKeyRequest(key_id=made.api_key.key_id)
        return self._with(made.text, lambda: self.keys.RevokeApiKey(taken, timeout=LIMIT_S))

    def token(self, tokens: Issuer, expires: float | None = None, key_id: str = "1") -> Caller:
        claims = {"exp": int(expires)} if expires else {}
        text = tokens.token(f"caller-{next(self._numbers)}", key_id, **claims)
        taken = revocations.RevokeTokenRequest(text=text)
        return self._with(text, lambda: self.revocations.RevokeToken(taken, timeout=LIMIT_S))

    def granted(self, expires: float | None = None, takes: str = "grant") -> Caller:
        """takes: what is taken back: "grant", "role", or "certificate"."""
        number = next(self._numbers)
        role, name = f"caller-{number}", f"{CALLER}{number}"
        made = policies.Role(name=role, permissions=[PERMISSION])
        self.policies.CreateRole(policies.CreateRoleRequest(role=made), timeout=LIMIT_S)
        grant = policies.Grant(grant_id=role, members=[name], role=role, resources=["**"])
        if expires:
            grant.expires.FromNanoseconds(int(expires * 1e9))
        self.policies.CreateGrant(policies.CreateGrantRequest(grant=grant), timeout=LIMIT_S)
        leaf = self._scene.pki.leaf(name=name)
        pem = leaf.certificate.public_bytes(Encoding.PEM).decode()
        asked: dict[str, tuple[Any, Any]] = {
            "grant": (self.policies.RevokeGrant, policies.RevokeGrantRequest(grant_id=role)),
            "role": (self.policies.DeleteRole, policies.DeleteRoleRequest(name=role, force=True)),
            "certificate": (self.revocations.RevokeCertificate, revocations.RevokeCertificateRequest(pem=pem)),
        }
        method, request = asked[takes]
        caller = Caller(
            [self._scene.channel(leaf) for _ in range(CONNECTIONS)], (), lambda: method(request, timeout=LIMIT_S), name
        )
        if takes == "certificate":
            caller.visitor = CallingVisitor(self._scene, self._scene.pki.written(leaf))
        return caller

    def _with(self, text: str, take: Callable[[], object]) -> Caller:
        channels = [self._scene.channel() for _ in range(CONNECTIONS)]
        return Caller(channels, (("authorization", f"Bearer {text}"),), take)


def run(stage: Stage, given: Given) -> list[Figure]:
    kinds: dict[str, Callable[[Desk, Issuer], Caller]] = {
        "API key revoked": lambda desk, _: desk.key(),
        "token revoked": lambda desk, tokens: desk.token(tokens),
        "grant revoked": lambda desk, _: desk.granted(),
        "role deleted": lambda desk, _: desk.granted(takes="role"),
    }
    return [figure for title, make in kinds.items() for figure in _taken(stage, given, title, make)]


def certificates(stage: Stage, given: Given) -> list[Figure]:
    """By RevocationService; those that a CRL revokes are `trust`'s."""
    return _taken(stage, given, "certificate revoked", lambda desk, _: desk.granted(takes="certificate"))


def _taken(stage: Stage, given: Given, title: str, make: Callable[[Desk, Issuer], Caller]) -> list[Figure]:
    trials, visitors = [], []
    with scene_of(stage) as (_, desk, tokens):
        for _ in range(given.trials):
            caller = ready(lambda: make(desk, tokens))
            since = time.monotonic()
            taking = threading.Thread(target=caller.take)
            taking.start()
            trials.append(trial(caller, since))
            taking.join()
            caller.close()
            visitors += [caller.visitor] if caller.visitor is not None else []
    found = _figures(title, trials)
    if visitors:
        resumed = sum(each.resumed for each in visitors)
        found.append(
            Figure(f"{title}: connections on which the earlier session was accepted", "connections", [resumed], bar=0)
        )
    return found


def expiries(stage: Stage, given: Given) -> list[Figure]:
    """Tokens and grants that end by themselves, half of the trials each."""
    found = []
    with scene_of(stage) as (_, desk, tokens):
        for title in ("token expired", "grant expired"):
            trials = []
            for _ in range(max(given.trials // 2, 1)):
                end = float(int(time.time()) + SOON_S // 4)  # a token ends on a second
                caller = ready(
                    lambda: desk.token(tokens, end) if title.startswith("token") else desk.granted(end)  # noqa: B023
                )
                left = end - time.time()
                if left < 0:
                    raise BenchError("it ended before its stream was open: a slow machine")
                time.sleep(left)
                trials.append(trial(caller, time.monotonic() - (time.time() - end)))
                caller.close()
            found += _figures(title, trials)
    return found


def stalls(stage: Stage, given: Given) -> list[Figure]:
    """The services process stops, and with it whoever could tell of revocations: nothing that hangs on it goes on."""
    del given
    found: dict[str, list[float]] = {"API key": [], "grant": []}
    with scene_of(stage) as (scene, desk, _):
        for number in range(STALLS):
            title = ("API key", "grant")[number % 2]
            caller = ready(desk.key if title == "API key" else desk.granted)
            pid = services(scene)
            os.kill(pid, signal.SIGSTOP)
            try:
                found[title].append(trial(caller, time.monotonic(), stream=False).admitted)
            finally:
                os.kill(pid, signal.SIGCONT)
            scene.process.wait_for(lambda: caller.admitted(0) or None, "let the caller in again", LIMIT_S)  # noqa: B023
    return [
        Figure(f"services process stopped: until no call by {title} is let in, max_staleness {STALE_S} s", "s", values,
               bar=STALE_S + BAR_S)
        for title, values in found.items()
    ]  # fmt: skip


def kills(stage: Stage, given: Given) -> list[Figure]:
    """Taken back, and the services process killed at once: nothing of it comes back with the next one."""
    del given
    trials, back = [], 0
    with scene_of(stage) as (scene, desk, tokens):
        for number in range(STALLS):
            caller = ready((desk.key, lambda: desk.token(tokens), desk.granted)[number % 3])
            pid = services(scene)
            since = time.monotonic()
            caller.take()
            os.kill(pid, signal.SIGKILL)
            trials.append(trial(caller, since))
            fresh = ready(desk.key)  # once the next one answers
            back += sum(caller.admitted(at) for at in range(CONNECTIONS))
            fresh.take()
            fresh.close()
            caller.close()
    return [
        *_figures("revoked, and the services process killed", trials),
        Figure("calls let in after the services process was there again", "calls", [back], bar=0),
    ]


def services(scene: Scene) -> int:
    """The process id of the services process, once there is one."""
    return scene.process.wait_for(
        lambda: next((pid for _, pid in children.of_role(scene.process.pid, "services")), None), "have services"
    )


def ready(make: Callable[[], Caller]) -> Caller:
    """One whose stream is open and whose calls are let in on every connection."""
    until = time.monotonic() + BACK_S
    while True:
        try:
            caller = make()
            caller.open()
        except (BenchError, grpc.RpcError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return caller


def trial(caller: Caller, since: float, stream: bool = True) -> Trial:
    """since: on the monotonic clock.  stream: whether its end is waited for. Raises BenchError after LIMIT_S."""
    last, refused, at = since, 0, 0
    while refused < caller.ways or (stream and not caller.cut):
        begun = time.monotonic()
        if begun - since > LIMIT_S:
            raise BenchError(f"after {LIMIT_S:g} s, stream ended: {bool(caller.cut)}, {refused} calls in a row refused")
        if caller.admitted(at):
            last, refused = begun, 0
        else:
            refused += 1
        at += 1
    if stream and caller.code == grpc.StatusCode.OK:
        raise BenchError("expected the stream to be cut, came status OK")
    return Trial(caller.cut - since, last - since)


def _figures(what: str, found: Sequence[Trial]) -> list[Figure]:
    return [
        Figure(f"{what}: until the open stream is cut", "s", [each.stream for each in found], bar=BAR_S),
        Figure(f"{what}: until no new call is let in", "s", [each.admitted for each in found], bar=BAR_S),
    ]


@contextmanager
def scene_of(
    stage: Stage, tokens: Issuer | None = None, keys_from: Mapping[str, str] | None = None, url: str = "sqlite"
) -> Iterator[tuple[Scene, Desk, Issuer]]:
    """4 workers that take keys and tokens, with roles and policies on, before one administrator.

    keys_from: where the issuer's keys are; its file where that is not said.  url: of the database.
    """
    tokens = tokens or Issuer(stage.pki.folder)
    issuing = {
        "name": issuer.NAME, "issuer": issuer.ISSUER, "audiences": [issuer.AUDIENCE],
        "keys": keys_from or {"file": str(tokens.jwks)},
    }  # fmt: skip
    more = {
        "authentication": {
            "mtls": {"trust_domains": ["example.org"]},
            "api_keys": {},
            "revocations": True,
            "jwt": [issuing],
        },
        "authorization": {
            "policies": True,
            "bootstrap_admins": [ADMIN],
            "rules": [
                {"identities": [f"{issuer.CALLERS}*"], "methods": ["/bench.Echo/*"]},
                {"identities": [ADMIN], "methods": ["/langtrain.v1.**"], "permissions": ["*"]},
            ],
        },
    }
    with stage.sidecar(crl=False, more=more, url=url) as scene:
        yield scene, Desk(scene), tokens
