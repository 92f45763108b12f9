"""Tokens as a client of gRPC brings them, to a sidecar whose issuer renews its keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests import sidecars
from tests.certificates import Certificates
from tests.e2e.test_limits import channel
from tests.e2e.upstream import UNARY, Echo, echo
from tests.identity.issuing import AUDIENCE, ISSUER, claims, jwk, jwks, token
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
            ("user:login/alice", ""), ("user:login/bob", "authorize.no_rule"), ("", "identify.token.signature"),
            ("", "identify.token.expired"),
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
