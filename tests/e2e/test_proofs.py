"""Tokens that are bound to a key, with proofs of it, as a client of gRPC brings them to a sidecar of two workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from sidecar.identity.dpop_nonces import NonceError, Nonces
from tests import sidecars
from tests.certificates import Certificates
from tests.e2e.test_limits import channel
from tests.e2e.test_tokens import RULE, now
from tests.e2e.upstream import STREAM, UNARY, Echo, echo
from tests.identity.issuing import AUDIENCE, ISSUER, jwk, jwks, token
from tests.identity.proving import ORIGIN, key, proof
from tests.sidecars import Sidecar, guarded, write
from tests.waiting import eventually

CODE = grpc.StatusCode
CONNECTIONS = 8


class Scene:
    def __init__(self, running: Sidecar, handler: Echo, config: dict[str, Any], opened: list[grpc.Channel]) -> None:
        self.running = running
        self.handler = handler
        self.config = config
        self.opened = opened

    def call(self, text: str, *proofs: str, scheme: str = "DPoP", at: int = 0) -> CODE:
        unary: Any = self.opened[at].unary_unary(UNARY)
        fields = [("authorization", f"{scheme} {text}"), *(("dpop", each) for each in proofs)]
        try:
            unary(b"m", metadata=fields, timeout=30)
        except grpc.RpcError as error:
            code: CODE = error.code()
            return code
        return CODE.OK

    def reasons(self) -> Counter[str]:
        return Counter(
            {event["reason"]: event["count"] for event in self.running.events() if event["kind"] == "call.refused"}
        )


@contextmanager
def scene(
    tmp_path: Path, certificates: Certificates, dpop: dict[str, Any] | None = None, **how: Any
) -> Iterator[Scene]:
    """dpop: of `authentication.dpop`, beside its origins.  how: as of `sidecars.serve`."""
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with echo() as (handler, upstream):
        config = guarded(certificates, upstream)
        config["authentication"] |= {
            "jwt": [{"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}],
            "dpop": {"origins": [ORIGIN], **(dpop or {})},
        }
        config |= {"authorization": {"rules": [RULE]}, "workers": 2}
        with sidecars.serve(config, tmp_path, **how) as running, opened(running, certificates) as channels:
            yield Scene(running, handler, config, channels)


@contextmanager
def opened(running: Sidecar, certificates: Certificates) -> Iterator[list[grpc.Channel]]:
    """Connections, each of its own, so that the kernel spreads them over both workers."""
    pair = certificates.client
    credentials = grpc.ssl_channel_credentials(
        certificates.ca.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
    )
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    made = [grpc.secure_channel(running.address, credentials, options) for _ in range(CONNECTIONS)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


def bound(**changed: Any) -> str:
    return token(now(cnf={"jkt": key().thumbprint()}, **changed))


def fresh(text: str, **changed: Any) -> str:
    return proof(text, time.time(), **{"jti": uuid4().hex, **changed})


def test_each_proof_is_good_for_one_call_of_all_workers(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        text = bound()
        for number in range(CONNECTIONS):
            once = fresh(text)
            codes = Counter(at.call(text, once, at=(number + other) % CONNECTIONS) for other in range(CONNECTIONS))
            assert codes == {CODE.OK: 1, CODE.UNAUTHENTICATED: CONNECTIONS - 1}
        assert at.handler.calls == [UNARY] * CONNECTIONS
        raced = fresh(text)
        found: list[CODE] = []

        def race(number: int) -> None:
            found.append(at.call(text, raced, at=number))

        callers = [threading.Thread(target=race, args=(number,)) for number in range(CONNECTIONS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert Counter(found) == {CODE.OK: 1, CODE.UNAUTHENTICATED: CONNECTIONS - 1}
        eventually(lambda: "identify.token_proof_replayed" in at.reasons(), "recorded")
        everything = str(at.running.events()) + at.running.process.log
        assert "eyJ" not in everything


def test_a_used_proof_stays_so_after_a_restart(tmp_path: Path, certificates: Certificates) -> None:
    text = bound()
    once = fresh(text)
    with scene(tmp_path, certificates) as at:
        assert at.call(text, once) is CODE.OK
    with scene(tmp_path, certificates) as at:
        assert at.call(text, once) is CODE.UNAUTHENTICATED
        assert at.call(text, fresh(text)) is CODE.OK


def test_a_used_proof_stays_so_when_everything_is_killed(tmp_path: Path, certificates: Certificates) -> None:
    """First both workers, then all of the sidecar at once."""
    text = bound()
    first, second = fresh(text), fresh(text)
    died = frozenset(("child_died", "supervisor_gone"))
    with scene(tmp_path, certificates, faults=died, status=-signal.SIGKILL) as at:
        assert at.call(text, first) is CODE.OK
        before = at.running.children("relay")
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: set(at.running.children("relay").values()).isdisjoint(before.values()), "they are gone")
        eventually(lambda: at.call(text, fresh(text)) is CODE.OK, "there are others")
        assert {at.call(text, first, at=number) for number in range(CONNECTIONS)} == {CODE.UNAUTHENTICATED}
        assert at.call(text, second) is CODE.OK
        everything = [at.running.process.pid, *sidecars.children_of(at.running.process.pid)]
        for pid in everything:
            os.kill(pid, signal.SIGKILL)
    with scene(tmp_path, certificates) as at:
        assert [at.call(text, each) for each in (first, second)] == [CODE.UNAUTHENTICATED] * 2
        assert at.call(text, fresh(text)) is CODE.OK


def test_attacks(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        text, plain = bound(), token(now())
        attacks = {
            "token_not_bound_to_caller": [at.call(text, scheme="Bearer"), at.call(text, fresh(text, holder=key(1)))],
            "token_proof_missing": [at.call(text)],
            "token_proof_several": [at.call(text, fresh(text), fresh(text))],
            "token_proof_signature": [at.call(text, fresh(text, signer=key(1)))],
            "token_proof_method": [at.call(text, fresh(text, htm="GET"))],
            "token_proof_uri": [
                at.call(text, fresh(text, htu=ORIGIN + STREAM)),
                at.call(text, fresh(text, htu=f"https://{at.running.address}{UNARY}")),  # as the call's own authority
            ],
            "token_proof_time": [at.call(text, fresh(text, iat=int(time.time()) - 90))],
            "token_proof_token": [at.call(text, fresh(plain)), at.call(text, fresh(text, ath=None))],
            "token_proof_key": [at.call(text, fresh(text, header={"jwk": key().as_dict(private=True)}))],
            "token_unbound": [at.call(plain, fresh(plain))],
        }
        assert {code for codes in attacks.values() for code in codes} == {CODE.UNAUTHENTICATED}
        assert at.handler.calls == []
        wanted = {f"identify.{reason}" for reason in attacks}
        eventually(lambda: wanted <= set(at.reasons()), "recorded")
        assert at.call(plain, scheme="Bearer") is CODE.OK
        assert at.call(text, fresh(text)) is CODE.OK


def test_with_nonces_proofs_are_made_when_they_are_used(tmp_path: Path, certificates: Certificates) -> None:
    """A client whose clock is wrong, and which does as RFC 9449 9 has it: it tries, is told a nonce, tries again."""

    def ask(at: Scene, nonce: str | None, number: int = 0) -> tuple[CODE, str]:
        """How a call ends, and the nonce that it is told, "" for none."""
        shown = fresh(text, nonce=nonce, iat=int(time.time()) - 7200)
        unary: Any = at.opened[number].unary_unary(UNARY)
        answer = unary.future(b"m", metadata=[("authorization", f"DPoP {text}"), ("dpop", shown)], timeout=30)
        code: CODE = answer.code()
        told = dict(answer.initial_metadata()) | dict(answer.trailing_metadata())
        return code, str(told.get("dpop-nonce", ""))

    text = bound()
    with scene(tmp_path, certificates, {"nonce": True, "window": "5s"}) as at:
        code, nonce = ask(at, None)
        assert code is CODE.UNAUTHENTICATED
        assert nonce
        first = nonce
        for number in range(CONNECTIONS):  # whichever worker has them
            code, told = ask(at, nonce, number)
            if code is CODE.UNAUTHENTICATED:  # its two spans were over
                code, told = ask(at, told, number)
            assert code is CODE.OK
            nonce = told or nonce
        forged = Nonces(bytes(32), 5.0)
        with pytest.raises(NonceError) as raised:
            forged.check(None, time.time())
        assert ask(at, raised.value.nonce)[0] is CODE.UNAUTHENTICATED

        def renewed() -> bool:
            """Another was told with an answer, or with a refusal."""
            nonlocal nonce
            code, told = ask(at, nonce)
            nonce = told or nonce
            return code is CODE.OK and nonce != first

        eventually(renewed, "there is another", 30)
        eventually(lambda: ask(at, first)[0] is CODE.UNAUTHENTICATED, "the first is over", 30)
        eventually(lambda: "identify.token_proof_nonce" in at.reasons(), "recorded")
    with scene(tmp_path, certificates, {"nonce": True, "window": "5s"}) as at:
        assert ask(at, nonce)[0] is CODE.UNAUTHENTICATED
        assert ask(at, ask(at, None)[1])[0] is CODE.OK


def test_a_stream_outlives_its_proof_and_a_reload(tmp_path: Path, certificates: Certificates) -> None:
    """Whose calls are asked about again, that has used its proof by then."""
    with scene(tmp_path, certificates) as at:
        text = bound()
        release = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"one"
            release.wait(60)
            yield b"two"

        stream: Any = at.opened[0].stream_stream(STREAM)
        fields = [("authorization", f"DPoP {text}"), ("dpop", fresh(text, htu=ORIGIN + STREAM))]
        answers = stream(requests(), metadata=fields, timeout=60)
        assert next(answers) == b"one"
        more = {"identities": ["user:login/bob"], "methods": ["/**"]}
        state = {"state": {"directory": str(at.running.state)}}
        write(at.running.file, at.config | {"authorization": {"rules": [RULE, more]}} | state)
        other = token(now(sub="bob"))
        eventually(lambda: at.call(other, scheme="Bearer") is CODE.OK, "the config is in force")
        release.set()
        assert list(answers) == [b"two"]


def test_where_proofs_are_not_taken_bound_tokens_are_refused(tmp_path: Path, certificates: Certificates) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with echo() as (handler, upstream):
        config = guarded(certificates, upstream)
        config["authentication"]["jwt"] = [
            {"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}
        ]
        config["authorization"] = {"rules": [RULE]}
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as one:
            at, text = Scene(running, handler, config, [one]), bound()
            assert at.call(text, fresh(text)) is CODE.UNAUTHENTICATED
            assert at.call(text, scheme="Bearer") is CODE.UNAUTHENTICATED
            assert handler.calls == []
