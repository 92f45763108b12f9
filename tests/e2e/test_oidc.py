"""Tokens of a certified OpenID Connect provider, whose keys rotate while calls run."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from joserfc.jwk import ECKey

from tests import sidecars
from tests.certificates import Certificates
from tests.e2e.test_limits import channel
from tests.e2e.test_tokens import call
from tests.e2e.upstream import UNARY, echo
from tests.identity.proving import ORIGIN, key, proof
from tests.peers import venvs
from tests.processes import Process
from tests.sidecars import guarded
from tests.waiting import eventually

SECRET = "of-the-tests-alone"


class Provider:
    """issuer: its URL."""

    def __init__(self, issuer: str, file: Path) -> None:
        self.issuer = issuer
        self._file = file

    def token(self, bound: bool = False, **changed: str) -> str:
        """A token of its own making, by client credentials (RFC 6749 4.4). bound: to `proving.key()` (RFC 9449 5)."""
        form = {
            "grant_type": "client_credentials", "client_id": "trainer", "client_secret": SECRET,
            "resource": "urn:sidecar", "scope": "models", **changed,
        }  # fmt: skip
        url = f"{self.issuer}/token"
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
        if bound:
            request.add_header("DPoP", proof("", time.time(), jti=uuid4().hex, htu=url, ath=None))
        with urllib.request.urlopen(request, timeout=20) as answer:
            said = json.load(answer)
        assert said["token_type"] == ("DPoP" if bound else "Bearer")
        found: str = said["access_token"]
        return found

    def rotate(self, *key_ids: str) -> None:
        """Sign with the first of new keys from here on, and publish them alone."""
        write_keys(self._file, *key_ids)
        urllib.request.urlopen(f"{self.issuer}/rotate", b"", 20).close()


def write_keys(file: Path, *key_ids: str) -> None:
    keys = [ECKey.generate_key("P-256", {"kid": key_id, "use": "sig", "alg": "ES256"}) for key_id in key_ids]
    file.write_text(json.dumps({"keys": [key.as_dict(private=True) for key in keys]}))


@contextmanager
def provider(directory: Path) -> Iterator[Provider]:
    file = directory / "jwks.json"
    write_keys(file, "first")
    script = venvs.HERE / "oidc" / "provider.cjs"
    command = [*venvs.node("oidc"), str(script), str(file), str(venvs.node_modules("oidc"))]
    with Process(command) as process:
        line = process.wait_line(lambda line: line.startswith('{"issuer"'))
        yield Provider(json.loads(line)["issuer"], file)


@contextmanager
def scene(tmp_path: Path, certificates: Certificates, **keys: Any) -> Iterator[tuple[Provider, grpc.Channel]]:
    with echo() as (_, upstream), provider(tmp_path) as issuing:
        config = guarded(certificates, upstream)
        said = {"name": "oidc", "issuer": issuing.issuer, "audiences": ["sidecar"], "types": ["at+jwt"], "keys": keys}
        config["authentication"] |= {"jwt": [said], "dpop": {"origins": [ORIGIN]}}
        config["authorization"] = {"rules": [{"identities": ["user:oidc/trainer"], "methods": ["/**"]}]}
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            yield issuing, opened


def test_client_credentials_and_rotation_while_calls_run(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as (issuing, opened):
        old = issuing.token()
        assert call(opened, old) is grpc.StatusCode.OK
        assert call(opened, old[:-1]) is grpc.StatusCode.UNAUTHENTICATED
        texts, codes, stop = [old], [], threading.Event()

        def run() -> None:
            while not stop.is_set():
                codes.append((texts[-1], call(opened, texts[-1])))

        callers = [threading.Thread(target=run) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            issuing.rotate("second")
            texts.append(issuing.token())
            # A token that names a key which is not known has the keys fetched, at once or within a few seconds.
            eventually(lambda: (texts[1], grpc.StatusCode.OK) in codes, "the new key is known", 30)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
        assert {code for _, code in codes} <= {grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED}
        assert call(opened, texts[1]) is grpc.StatusCode.OK
        assert call(opened, old) is grpc.StatusCode.UNAUTHENTICATED  # signed by a key that is withdrawn


def test_a_token_that_it_binds_to_a_key_needs_the_key(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as (issuing, opened):
        text = issuing.token(bound=True)
        unary: Any = opened.unary_unary(UNARY)

        def with_proof(holder: ECKey) -> grpc.StatusCode:
            shown = proof(text, time.time(), holder, jti=uuid4().hex)
            try:
                unary(b"m", metadata=[("authorization", f"DPoP {text}"), ("dpop", shown)], timeout=30)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

        assert with_proof(key()) is grpc.StatusCode.OK
        assert with_proof(key(1)) is grpc.StatusCode.UNAUTHENTICATED
        assert call(opened, text) is grpc.StatusCode.UNAUTHENTICATED  # as a bearer's


def test_the_key_sets_own_url_will_do(tmp_path: Path, certificates: Certificates) -> None:
    with provider(tmp_path) as issuing:
        url = f"{issuing.issuer}/jwks"
        config = guarded(certificates, "127.0.0.1:1")
        config["authentication"]["jwt"] = [
            {"name": "oidc", "issuer": issuing.issuer, "audiences": ["sidecar"], "keys": {"url": url}}
        ]
        config["authorization"] = {"rules": [{"identities": ["user:oidc/*"], "methods": ["/**"]}]}
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            # Let in, and nobody is there to answer.
            assert call(opened, issuing.token()) is grpc.StatusCode.UNAVAILABLE
            assert call(opened, "x") is grpc.StatusCode.UNAUTHENTICATED
