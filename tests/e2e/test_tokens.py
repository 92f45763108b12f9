"""Tokens as a client of gRPC brings them, to a sidecar whose issuer renews its keys."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.identity.keeping import SOONEST_S
from tests import sidecars
from tests.certificates import Certificates
from tests.e2e.test_limits import channel
from tests.e2e.upstream import STREAM, UNARY, Echo, echo
from tests.identity.issuing import AUDIENCE, ISSUER, claims, jwk, jwks, token
from tests.identity.servers import IssuerServer, issuer_server
from tests.processes import ProcessError
from tests.sidecars import Sidecar, guarded
from tests.waiting import eventually

RULE = {"identities": ["user:login/alice"], "methods": ["/**"]}


@contextmanager
def sidecar(tmp_path: Path, certificates: Certificates) -> Iterator[tuple[Sidecar, Echo, grpc.Channel]]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with echo() as (handler, upstream):
        config = guarded(certificates, upstream)
        config["authentication"]["jwt"] = [
            {"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}
        ]
        config["authorization"] = {"rules": [RULE]}
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            yield running, handler, opened


def call(opened: grpc.Channel, text: str | None) -> grpc.StatusCode:
    unary: Any = opened.unary_unary(UNARY)
    try:
        unary(b"m", metadata=None if text is None else [("authorization", f"Bearer {text}")], timeout=30)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def now(**changed: Any) -> dict[str, Any]:
    return claims(iat=time.time(), exp=time.time() + 300, **changed)


def test_a_caller_is_who_the_token_says(tmp_path: Path, certificates: Certificates) -> None:
    with sidecar(tmp_path, certificates) as (running, handler, opened):
        assert call(opened, token(now())) is grpc.StatusCode.OK
        assert call(opened, None) is grpc.StatusCode.PERMISSION_DENIED  # the certificate's name has no rule
        assert call(opened, token(now(sub="bob"))) is grpc.StatusCode.PERMISSION_DENIED
        assert call(opened, token(now(), which=1)) is grpc.StatusCode.UNAUTHENTICATED
        assert call(opened, token(claims(exp=time.time() - 1))) is grpc.StatusCode.UNAUTHENTICATED
        assert handler.calls == [UNARY]
        wanted = {
            ("user:login/alice", ""), ("user:login/bob", "authorize.no_rule"), ("", "identify.token_signature"),
            ("", "identify.token_expired"),
        }  # fmt: skip
        eventually(lambda: wanted <= {(event["principal"], event["reason"]) for event in running.events()}, "recorded")
        assert "eyJ" not in str(running.events())


def test_new_keys_are_taken_and_old_ones_refused_without_a_restart(tmp_path: Path, certificates: Certificates) -> None:
    with sidecar(tmp_path, certificates) as (_, _, opened):
        old, new = token(now()), token(now(), header={"kid": "k2"}, which=1)
        assert call(opened, old) is grpc.StatusCode.OK
        assert call(opened, new) is not grpc.StatusCode.OK
        (tmp_path / "next").write_bytes(jwks(jwk("ES256", "k2", which=1)))
        (tmp_path / "next").rename(tmp_path / "keys.json")
        eventually(lambda: call(opened, new) is grpc.StatusCode.OK, "the new key is in force")
        assert call(opened, old) is not grpc.StatusCode.OK


@pytest.mark.parametrize("keys", [b"", b"{}", b'{"keys":[]}'])
def test_a_file_without_keys_is_a_refusal_to_start(tmp_path: Path, certificates: Certificates, keys: bytes) -> None:
    config = guarded(certificates, "127.0.0.1:1")
    (tmp_path / "keys.json").write_bytes(keys)
    config["authentication"]["jwt"] = [
        {"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(tmp_path / "keys.json")}}
    ]
    with pytest.raises(ProcessError) as raised, sidecars.serve(config, tmp_path):
        pass
    assert "authentication.jwt[0].keys.file" in str(raised.value)


class Published:
    """A sidecar whose issuer publishes its keys."""

    def __init__(self, running: Sidecar, issuer: IssuerServer, opened: grpc.Channel) -> None:
        self.running = running
        self.issuer = issuer
        self.opened = opened

    def token(self, which: int = 0, **changed: Any) -> str:
        return token(now(iss=self.issuer.url, **changed), header={"kid": f"k{which}"}, which=which)

    def call(self, text: str) -> grpc.StatusCode:
        return call(self.opened, text)

    def publish(self, *which: int) -> None:
        self.issuer.discover(jwks(*(jwk("ES256", f"k{each}", which=each) for each in which)))

    def fetches(self) -> int:
        return self.issuer.asked.count("/jwks")


@contextmanager
def published(
    tmp_path: Path, certificates: Certificates, faults: frozenset[str] = frozenset(), **config: Any
) -> Iterator[Published]:
    with echo() as (_, upstream), issuer_server(certificates.server) as issuer:
        said = guarded(certificates, upstream)
        said["authentication"]["jwt"] = [
            {"name": "login", "issuer": issuer.url, "audiences": [AUDIENCE], "keys": {"ca": str(certificates.ca)}}
        ]
        said["authorization"] = {"rules": [RULE]}
        said["upstream"]["ports"] = [issuer.port]  # of this process, as the model server is
        issuer.discover(jwks(jwk("ES256", "k0")))
        with (
            sidecars.serve(said | config, tmp_path, faults=faults) as running,
            channel(running.address, certificates) as opened,
        ):
            yield Published(running, issuer, opened)


def test_keys_are_found_by_discovery_and_renewed_when_a_token_names_another(
    tmp_path: Path, certificates: Certificates
) -> None:
    with published(tmp_path, certificates, workers=2) as scene:
        assert scene.call(scene.token()) is grpc.StatusCode.OK
        assert scene.call(scene.token(which=1)) is grpc.StatusCode.UNAUTHENTICATED
        scene.publish(1)
        eventually(lambda: scene.call(scene.token(which=1)) is grpc.StatusCode.OK, "the new key is in force")
        # Withdrawn with it, cached tokens included.
        eventually(lambda: scene.call(scene.token()) is grpc.StatusCode.UNAUTHENTICATED, "the old one is not")


def test_an_open_stream_ends_with_the_key_of_its_token(tmp_path: Path, certificates: Certificates) -> None:
    with published(tmp_path, certificates) as scene:
        assert scene.call(scene.token()) is grpc.StatusCode.OK
        release = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"one"
            release.wait(60)

        stream: Any = scene.opened.stream_stream(STREAM)
        answers = stream(requests(), metadata=[("authorization", f"Bearer {scene.token()}")], timeout=60)
        assert next(answers) == b"one"
        scene.publish(1)
        # Whoever brings a token of the new key has the keys fetched.
        eventually(lambda: scene.call(scene.token(which=1)) is grpc.StatusCode.OK, "the new key is in force")
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        release.set()
        assert raised.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)


def test_a_flood_of_keys_that_nobody_has_asks_the_issuer_once(tmp_path: Path, certificates: Certificates) -> None:
    with published(tmp_path, certificates) as scene:
        assert scene.call(scene.token()) is grpc.StatusCode.OK
        before = scene.fetches()
        begin = time.monotonic()
        for at in range(300):
            text = token(now(iss=scene.issuer.url), header={"kid": f"forged{at}"}, which=2)
            assert scene.call(text) is grpc.StatusCode.UNAUTHENTICATED
        assert scene.fetches() - before <= 1 + (time.monotonic() - begin) / SOONEST_S
        assert scene.call(scene.token()) is grpc.StatusCode.OK


def test_while_the_issuer_is_away_its_known_keys_stay(tmp_path: Path, certificates: Certificates) -> None:
    with published(tmp_path, certificates) as scene:
        assert scene.call(scene.token()) is grpc.StatusCode.OK
        scene.issuer.stop()
        assert scene.call(scene.token()) is grpc.StatusCode.OK
        assert scene.call(scene.token(which=1)) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_services_process_tokens_end_with_the_staleness(
    tmp_path: Path, certificates: Certificates, signal_: signal.Signals
) -> None:
    """Killed, another takes its place and the keys are fetched anew; stopped, what was told ages and is refused."""
    ended = frozenset(("child_killed", "child_ended"))
    with published(tmp_path, certificates, ended, state={"max_staleness": "1s"}) as scene:
        text = scene.token()
        assert scene.call(text) is grpc.StatusCode.OK
        (pid,) = scene.running.children("services").values()
        before = scene.fetches()
        os.kill(pid, signal_)
        if signal_ is signal.SIGSTOP:
            eventually(lambda: scene.call(text) is grpc.StatusCode.UNAVAILABLE, "refused")
        eventually(lambda: scene.fetches() > before, "another has taken its place", 60)
        eventually(lambda: scene.call(text) is grpc.StatusCode.OK, "it knows the keys")
