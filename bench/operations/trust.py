"""Clients whose trust goes: how long their open streams last, and how long new connections are let in.

Each trial is one client: it has a stream open, and from the change on tries new connections without pause, each of
which offers the TLS session of an earlier one. The time is from the change of the file, or from the certificate's end.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from bench.harness.echo_server import STREAM
from bench.harness.errors import BenchError
from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage, replace
from bench.operations.given import Given
from sidecar.certs.authority import Issued

BAR_S = 1.0
LIMIT_S = 15.0
TRY_S = 0.02  # between new connections
SOON_S = 20  # until the first of the short-lived certificates ends
PER_SECOND = 2  # certificates that end


@dataclass(slots=True)
class Held:
    """One client with a stream open. cut: when it ended, on the monotonic clock; 0 before."""

    leaf: Issued
    file: Path
    cut: float = 0.0
    code: str = ""
    opened: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds from the change: until the stream ended, and until the last new connection that was let in began."""

    stream: float
    admitted: float
    resumed: int  # connections on which the earlier session was accepted


class Streams:
    """Open streams, one a client and connection, on an event loop in a thread of its own."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, leaf: Issued) -> Held:
        """Raises BenchError where the stream is not answered."""
        held = Held(leaf, self._scene.pki.written(leaf))
        asyncio.run_coroutine_threadsafe(self._hold(held), self._loop)
        if not held.opened.wait(LIMIT_S):
            raise BenchError(f"expected a stream to be answered, came {held.code or 'nothing'}")
        return held

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)

    async def _hold(self, held: Held) -> None:
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        credentials = self._scene.pki.credentials(held.leaf)
        async with grpc.aio.secure_channel(self._scene.address, credentials, options) as channel:
            stream: Any = channel.stream_stream(STREAM)()
            try:
                await stream.write(b"first")
                await stream.read()
                held.opened.set()
                await stream.read()
            except grpc.aio.AioRpcError:
                pass
            held.cut = time.monotonic()
            held.code = (await stream.code()).name
            held.ended.set()


@contextmanager
def streams(scene: Scene) -> Iterator[Streams]:
    opened = Streams(scene)
    try:
        yield opened
    finally:
        opened.close()


class Visitor:
    """A client that comes again and again, offering the session that it had before the change."""

    def __init__(self, scene: Scene, file: Path) -> None:
        self._where = scene.address.rpartition(":")
        self._context = ssl.create_default_context(cadata=scene.pki.root.own.chain_pem().decode())
        self._context.set_alpn_protocols(["h2"])
        self._context.load_cert_chain(file)
        self._session: ssl.SSLSession | None = None
        self.resumed = 0
        if not self.admitted():
            raise BenchError("expected a connection before the change to be let in")

    def admitted(self) -> bool:
        host, _, port = self._where
        plain = socket.create_connection((host, int(port)), LIMIT_S)
        try:
            with self._context.wrap_socket(plain, server_hostname="localhost", session=self._session) as secured:
                let_in = self._answered(secured)
                self.resumed += bool(secured.session_reused)
                self._session = self._session or secured.session
                return let_in
        except OSError:
            return False

    def _answered(self, secured: ssl.SSLSocket) -> bool:
        """In TLS 1.3 a refusal shows with the first read."""
        return bool(secured.recv(9))


def trial(held: Held, visitor: Visitor, since: float) -> Trial:
    """since: when the change was made, on the monotonic clock. Raises BenchError after LIMIT_S."""
    last, refused = since, False
    while not (refused and held.cut):
        begun = time.monotonic()
        if begun - since > LIMIT_S:
            raise BenchError(f"after {LIMIT_S:g} s, stream ended: {bool(held.cut)}, refused: {refused}")
        refused = not visitor.admitted()
        last = last if refused else begun
        time.sleep(TRY_S)
    held.ended.wait(LIMIT_S)
    if held.code == "OK":
        raise BenchError("expected the stream to be cut, came status OK")
    return Trial(held.cut - since, last - since, visitor.resumed)


def revocations(stage: Stage, given: Given) -> list[Figure]:
    """One CRL after another, each with one client more."""
    with stage.sidecar() as scene, streams(scene) as opened:
        held = [opened.open(scene.pki.leaf()) for _ in range(given.trials)]
        leaves = [each.leaf for each in held]
        found = [
            _changed(scene, each, lambda: scene.pki.revoke(*leaves[: number + 1]))  # noqa: B023 - called at once
            for number, each in enumerate(held)
        ]
        scene.pki.revoke()
    return _figures("CRL change", found)


def removals(stage: Stage, given: Given) -> list[Figure]:
    """As many CAs in the bundle as there are clients, and one after the other removed."""
    pki = stage.pki
    authorities = [pki.authority(f"client {number}") for number in range(given.trials)]
    own = pki.root.own.chain_pem()
    bundle = [authority.own.chain_pem() for authority in authorities]
    replace(pki.ca, own + b"".join(bundle))
    try:
        with stage.sidecar(crl=False) as scene, streams(scene) as opened:
            held = [opened.open(pki.leaf(by=authority)) for authority in authorities]
            found = [
                _changed(scene, each, lambda: replace(pki.ca, own + b"".join(bundle[number + 1 :])))  # noqa: B023
                for number, each in enumerate(held)
            ]
    finally:
        replace(pki.ca, own)
    return _figures("CA removed", found)


def _changed(scene: Scene, held: Held, change: Callable[[], None]) -> Trial:
    visitor = Visitor(scene, held.file)
    since = time.monotonic()
    change()
    return trial(held, visitor, since)


def expiries(stage: Stage, given: Given) -> list[Figure]:
    """Certificates end in whole seconds, PER_SECOND of them at a time."""
    with stage.sidecar() as scene, streams(scene) as opened:
        first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=SOON_S + given.trials // 10)
        ends = [first + timedelta(seconds=number // PER_SECOND) for number in range(given.trials)]
        held = [opened.open(scene.pki.leaf(end)) for end in ends]
        visitors = [Visitor(scene, each.file) for each in held]
        if datetime.now(UTC) >= first:
            raise BenchError("the first certificate ended before the last stream was open: a slow machine")
        found = [_expired(*each) for each in zip(held, visitors, ends, strict=True)]
    return _figures("certificate expired", found)


def _expired(held: Held, visitor: Visitor, end: datetime) -> Trial:
    """not_after is the last second in which a certificate is good (RFC 5280 4.1.2.5)."""
    left = (end - datetime.now(UTC)).total_seconds()
    since = time.monotonic() + left
    if left > 0:
        time.sleep(left)
    return trial(held, visitor, since)


def _figures(what: str, found: Sequence[Trial]) -> list[Figure]:
    return [
        Figure(f"{what}: until the open stream is cut", "s", [each.stream for each in found], bar=BAR_S),
        Figure(f"{what}: until no new connection is let in, an earlier session offered", "s",
               [each.admitted for each in found], bar=BAR_S),
        Figure(f"{what}: connections on which the earlier session was accepted", "connections",
               [sum(each.resumed for each in found)], bar=0),
    ]  # fmt: skip
