"""Tokens and certificates that are revoked, as holders see it: in both workers, on open streams, after restarts."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from langtrain.v1 import revocations_pb2 as pb
from langtrain.v1.revocations_pb2_grpc import RevocationServiceStub
from tests import sidecars
from tests.certificates import CLIENT, STRANGER, Certificates
from tests.e2e.test_limits import channel
from tests.e2e.test_tls import connected
from tests.e2e.test_tokens import call, now
from tests.e2e.upstream import STREAM, UNARY, echo
from tests.identity.issuing import AUDIENCE, ISSUER, jwk, jwks, token
from tests.sidecars import Sidecar, guarded
from tests.waiting import eventually

CODE = grpc.StatusCode
CONNECTIONS = 8  # each of its own, so that the kernel spreads them over both workers
RULES = [
    {
        "identities": [CLIENT],
        "methods": ["/langtrain.v1.RevocationService/*"],
        "permissions": ["tokens.revoke", "certificates.revoke", "revocations.read"],
    },
    {"identities": ["user:login/*", STRANGER], "methods": ["/e2e.Echo/*"]},
]


class Scene:
    """A running sidecar of two workers; an administrator by certificate, a stranger, and callers with tokens."""

    def __init__(self, running: Sidecar, certificates: Certificates, stack: ExitStack) -> None:
        self.running = running
        self.certificates = certificates
        self.stack = stack
        self.admin = self.open()
        self.service = RevocationServiceStub(self.admin)
        self.callers = [self.open(alone=True) for _ in range(CONNECTIONS)]
        self.strangers = [self.open(stranger=True, alone=True) for _ in range(CONNECTIONS)]

    def open(self, stranger: bool = False, alone: bool = False) -> grpc.Channel:
        pair = self.certificates.stranger if stranger else self.certificates.client
        if not alone:
            return self.stack.enter_context(channel(self.running.address, self.certificates, pair))
        credentials = grpc.ssl_channel_credentials(
            self.certificates.ca.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        )
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return self.stack.enter_context(grpc.secure_channel(self.running.address, credentials, options))

    def calls(self, text: str) -> set[CODE]:
        """What a token is worth on each connection."""
        return {call(each, text) for each in self.callers}

    def refused(self, text: str) -> bool:
        return self.calls(text) == {CODE.UNAUTHENTICATED}

    def of_stranger(self) -> set[CODE]:
        return {call(each, None) for each in self.strangers}

    def ready(self, text: str) -> None:
        eventually(lambda: self.calls(text) == {CODE.OK}, "the workers know that nothing is revoked")

    def revoke(self, **wanted: Any) -> Any:
        return self.service.RevokeToken(pb.RevokeTokenRequest(**wanted), timeout=30).revocation

    def reasons(self) -> set[str]:
        return {event["reason"] for event in self.running.events()}


@contextmanager
def scene(
    tmp_path: Path, certificates: Certificates, faults: frozenset[str] = frozenset(), **more: Any
) -> Iterator[Scene]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    with echo() as (_, upstream), ExitStack() as stack:
        config = guarded(certificates, upstream)
        config["authentication"] |= {
            "jwt": [{"name": "login", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"file": str(keys)}}],
            "revocations": True,
        }
        config |= {"authorization": {"rules": RULES}, "workers": 2, **more}
        running = stack.enter_context(sidecars.serve(config, tmp_path, faults=faults))
        yield Scene(running, certificates, stack)


@contextmanager
def stream(opened: grpc.Channel, text: str | None = None) -> Iterator[Any]:
    """Answers of an open stream, the first of which has come."""
    release = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"one"
        release.wait(60)

    open_: Any = opened.stream_stream(STREAM)
    metadata = None if text is None else [("authorization", f"Bearer {text}")]
    answers = open_(requests(), metadata=metadata, timeout=60)
    assert next(answers) == b"one"
    try:
        yield answers
    finally:
        release.set()


def ended(answers: Any) -> CODE:
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    code: CODE = raised.value.code()
    return code


def test_a_token_is_revoked_by_itself_its_digest_or_its_id(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        first, second, third, other = (token(now(jti=jti)) for jti in ("1", "2", "3", "4"))
        at.ready(first)
        for text in (second, third, other):
            assert at.calls(text) == {CODE.OK}  # all of them are known by now
        made = at.revoke(text=first, reason="stolen")
        assert 0 < made.expires.seconds - time.time() <= 300  # read from it
        at.revoke(sha256=sha256(second.rpartition(".")[0].encode()).hexdigest())
        at.revoke(id=pb.TokenId(issuer=ISSUER, jti="3"))
        for text in (first, second, third):
            eventually(partial(at.refused, text), "revoked in both workers")
        assert at.calls(other) == {CODE.OK}
        assert at.revoke(text=first, reason="again") == made
        eventually(lambda: "identify.token_revoked" in at.reasons(), "recorded")
        recorded = [event for event in at.running.events() if event["kind"] == "token.revoked"]
        assert [event["principal"] for event in recorded] == [CLIENT] * 3
        assert recorded[0]["reason"].endswith(": stolen")
        everything = "\n".join(
            file.read_text("utf-8", "replace") for file in at.running.state.rglob("*") if file.is_file()
        )
        assert first[:40] not in everything + at.running.process.log


def test_open_streams_end_with_what_is_revoked(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        text = token(now(sub="alice"))
        at.ready(text)
        eventually(lambda: at.of_stranger() == {CODE.OK}, "the stranger may call")
        with (
            stream(at.callers[0], text) as of_alice,
            stream(at.callers[1], token(now(sub="bob"))) as of_bob,
            stream(at.strangers[0]) as of_stranger,
        ):
            request = pb.RevokeTokensRequest(principal="user:login/alice")
            request.issued_before.FromSeconds(int(time.time()) + 30)
            at.service.RevokeTokens(request, timeout=30)
            assert ended(of_alice) is CODE.UNAUTHENTICATED
            pem = certificates.stranger.certificate.read_text()
            at.service.RevokeCertificate(pb.RevokeCertificateRequest(pem=pem), timeout=30)
            assert ended(of_stranger) is CODE.UNAUTHENTICATED
            assert at.calls(token(now(sub="bob"))) == {CODE.OK}
            at.service.RevokeTokens(
                pb.RevokeTokensRequest(issuer=ISSUER, issued_before=Timestamp(seconds=int(time.time()) + 30)),
                timeout=30,
            )
            assert ended(of_bob) is CODE.UNAUTHENTICATED
        assert at.of_stranger() == {CODE.UNAUTHENTICATED}
        assert "identify.certificate_revoked" in at.reasons()


def test_a_revoked_certificate_is_not_saved_by_a_token_or_an_earlier_session(
    tmp_path: Path, certificates: Certificates
) -> None:
    with scene(tmp_path, certificates) as at:
        text = token(now())
        at.ready(text)
        assert {call(each, text) for each in at.strangers} == {CODE.OK}
        context = ssl.create_default_context(cafile=str(certificates.ca))
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(certificates.stranger.certificate, certificates.stranger.key)
        with connected(context, at.running, None) as first:
            assert first.recv(9)
            session = first.session
        stranger = x509.load_pem_x509_certificate(certificates.stranger.certificate.read_bytes())
        # As somebody types it from what `openssl x509 -noout -issuer -serial` has printed.
        issuer = " , ".join(part.replace("=", " = ").upper() for part in stranger.issuer.rfc4514_string().split(","))
        issued = pb.CertificateId(issuer=issuer, serial=f"00:{stranger.serial_number.to_bytes(20).hex(':').upper()}")
        at.service.RevokeCertificate(pb.RevokeCertificateRequest(id=issued), timeout=30)
        eventually(lambda: {call(each, text) for each in at.strangers} == {CODE.UNAUTHENTICATED}, "nobody by then")
        with connected(context, at.running, session) as again:
            assert again.recv(9)
            assert not again.session_reused  # so that its certificate was proven, and is known, anew
        fresh = at.open(stranger=True, alone=True)
        assert call(fresh, text) is CODE.UNAUTHENTICATED
        assert at.calls(text) == {CODE.OK}


def test_what_is_revoked_outlives_a_restart_and_a_killed_services_process(
    tmp_path: Path, certificates: Certificates
) -> None:
    ended_ = frozenset(("child_killed", "child_ended"))
    gone, kept = token(now(jti="gone")), token(now(jti="kept"))
    with scene(tmp_path, certificates, ended_) as at:
        at.ready(gone)
        at.revoke(text=gone)
        eventually(lambda: at.calls(gone) == {CODE.UNAUTHENTICATED}, "revoked")
        (pid,) = at.running.children("services").values()
        os.kill(pid, signal.SIGKILL)
        seen = set[CODE]()

        def back() -> bool:
            seen.update(at.calls(gone))
            try:
                at.revoke(id=pb.TokenId(issuer=ISSUER, jti="another"))
            except grpc.RpcError:
                return False
            return True

        eventually(back, "another process has taken its place", 60)
        eventually(lambda: at.calls(kept) == {CODE.OK}, "and tells")
        assert seen | at.calls(gone) <= {CODE.UNAUTHENTICATED, CODE.UNAVAILABLE}
    with scene(tmp_path, certificates) as at:
        at.ready(kept)
        assert at.calls(gone) == {CODE.UNAUTHENTICATED}
        listed = at.service.ListRevocations(pb.ListRevocationsRequest(), timeout=30).revocations
        assert {each.WhichOneof("revokes") for each in listed} == {"token_sha256", "token_id"}


def test_while_nobody_says_what_is_revoked_nobody_is_let_in(tmp_path: Path, certificates: Certificates) -> None:
    """Revoked or not: a worker cannot know."""
    with scene(tmp_path, certificates, frozenset(("child_killed",)), state={"max_staleness": "1s"}) as at:
        text = token(now())
        at.ready(text)
        (pid,) = at.running.children("services").values()
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: at.calls(text) == {CODE.UNAVAILABLE}, "refused")
        assert at.of_stranger() == {CODE.UNAVAILABLE}
        eventually(lambda: at.calls(text) == {CODE.OK}, "another process has taken its place", 60)
        assert "identify.revocations_stale" in at.reasons()


def test_what_is_wrong_with_a_request_names_the_field(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        at.ready(token(now()))
        service = at.service
        wrong: list[tuple[Any, Any, str]] = [
            (service.RevokeToken, pb.RevokeTokenRequest(), "token"),
            (service.RevokeToken, pb.RevokeTokenRequest(text="x"), "text"),
            (service.RevokeToken, pb.RevokeTokenRequest(text=token(now()), expires=Timestamp(seconds=1)), "expires"),
            (service.RevokeToken, pb.RevokeTokenRequest(sha256="0a"), "sha256"),
            (service.RevokeToken, pb.RevokeTokenRequest(sha256="0a" * 32, expires=Timestamp(seconds=1)), "expires"),
            (service.RevokeToken, pb.RevokeTokenRequest(sha256="0a" * 32, reason="a\n"), "reason"),
            (service.RevokeToken, pb.RevokeTokenRequest(id=pb.TokenId(issuer="x", jti="1")), "id.issuer"),
            (service.RevokeTokens, pb.RevokeTokensRequest(), "whose"),
            (service.RevokeTokens, pb.RevokeTokensRequest(principal="alice"), "principal"),
            (service.RevokeTokens, pb.RevokeTokensRequest(issuer="login"), "issuer"),
            (
                service.RevokeTokens,
                pb.RevokeTokensRequest(issuer=ISSUER, issued_before=Timestamp(seconds=2**35)),
                "issued_before",
            ),
            (service.RevokeCertificate, pb.RevokeCertificateRequest(), "certificate"),
            (service.RevokeCertificate, pb.RevokeCertificateRequest(pem="x"), "pem"),
            (service.RevokeCertificate, pb.RevokeCertificateRequest(id=pb.CertificateId(issuer="CN=a")), "id.serial"),
            (service.ListRevocations, pb.ListRevocationsRequest(page_size=-1), "page_size"),
            (service.ListRevocations, pb.ListRevocationsRequest(page_token="x"), "page_token"),
        ]
        for method, request, field in wrong:
            with pytest.raises(grpc.RpcError) as raised:
                method(request, timeout=30)
            assert raised.value.code() is CODE.INVALID_ARGUMENT
            assert field in [each.field for each in violations(raised.value)], request
        assert at.calls(token(now())) == {CODE.OK}
        assert not service.ListRevocations(pb.ListRevocationsRequest(), timeout=30).revocations


def violations(error: grpc.RpcError) -> list[Any]:
    """What its details say of fields."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a call, which grpc's stub does not say
    found = BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    return list(found.field_violations)


def test_who_may_call_models_may_not_revoke(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        text = token(now())
        at.ready(text)
        stub = RevocationServiceStub(at.strangers[0])
        with pytest.raises(grpc.RpcError) as raised:
            stub.RevokeToken(pb.RevokeTokenRequest(text=text), timeout=30)
        assert raised.value.code() is CODE.PERMISSION_DENIED
        assert at.calls(text) == {CODE.OK}


def test_without_the_setting_nothing_is_revoked(tmp_path: Path, certificates: Certificates) -> None:
    with echo() as (_, upstream):
        config = guarded(certificates, upstream)
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            with pytest.raises(grpc.RpcError) as raised:
                RevocationServiceStub(opened).ListRevocations(
                    pb.ListRevocationsRequest(), timeout=30, wait_for_ready=True
                )
            assert raised.value.code() is CODE.FAILED_PRECONDITION
            unary: Any = opened.unary_unary(UNARY)
            assert unary(b"m", timeout=30) == b"m"
