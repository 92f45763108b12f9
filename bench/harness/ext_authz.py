"""Envoy that asks a Python service about each call, which verifies its JWT and does nothing else.

python -m bench.harness.ext_authz PORT JWKS ISSUER AUDIENCE ENVOY… is that service, with Envoy as its child so that
both count as one peer. It speaks envoy.service.auth.v3.Authorization, as far as it needs of that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from bench.harness import envoy, upstream
from bench.harness.certificates import Certificates
from bench.harness.processes import Processes, free_port
from bench.harness.proxies import Peer

TITLE: Final = envoy.TITLE.replace("no filter", "ext_authz to a Python service")
SERVICE: Final = "envoy.service.auth.v3.Authorization"
ALLOWED: Final = b"\x0a\x00"  # CheckResponse { google.rpc.Status status = 1; }, of code 0
DENIED: Final = b"\x0a\x02\x08\x10"  # of code 16, UNAUTHENTICATED
BEARER: Final = "Bearer "
THREADS: Final = 4
# CheckRequest { attributes = 1 { request = 4 { http = 2 { map<string, string> headers = 3 } } } }
NESTED: Final = (("Check", "attributes", 1), ("Attributes", "request", 4), ("Request", "http", 2))


def start(
    processes: Processes, core: int, certificates: Certificates, upstream_port: int, jwks: Path, issuer: str, aud: str
) -> Peer:
    """Start both on `core`, and give them once Envoy listens. Raises BenchError when it does not."""
    port, authorizer_port = free_port(), free_port()
    made = envoy.config(port, certificates, upstream_port, authorizer_port)
    service = [sys.executable, "-m", "bench.harness.ext_authz", str(authorizer_port), str(jwks), issuer, aud]
    process = processes.start("ext-authz", [*service, *envoy.command(processes.folder, made)], core)
    upstream.wait_until_open(process, port)
    return Peer(TITLE, process, port)


def request_type() -> Any:
    """CheckRequest, with what is needed of it."""
    file = descriptor_pb2.FileDescriptorProto(name="ext_authz.proto", package="ext_authz", syntax="proto3")
    names = [*(name for name, _, _ in NESTED), "Http"]
    for (name, field, number), inner in zip(NESTED, names[1:], strict=True):
        file.message_type.add(name=name).field.add(
            name=field, number=number, label=1, type=11, type_name=f".ext_authz.{inner}"
        )
    http = file.message_type.add(name="Http")
    http.field.add(name="headers", number=3, label=3, type=11, type_name=".ext_authz.Http.HeadersEntry")
    entry = http.nested_type.add(name="HeadersEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, label=1, type=9)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ext_authz.Check"))


class Authorizer(grpc.GenericRpcHandler):
    def __init__(self, keys: KeySet, issuer: str, audience: str) -> None:
        self._keys = keys
        self._request = request_type()
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer}, aud={"essential": True, "value": audience}
        )
        self._handler: Any = grpc.unary_unary_rpc_method_handler(self._check)

    def service(self, details: Any) -> Any:
        return self._handler if details.method == f"/{SERVICE}/Check" else None

    def _check(self, raw: bytes, _context: Any) -> bytes:
        said = self._request.FromString(raw).attributes.request.http.headers["authorization"]
        try:
            self._claims.validate(jwt.decode(said.removeprefix(BEARER), self._keys, algorithms=["RS256"]).claims)
        except (JoseError, ValueError):
            return DENIED
        return ALLOWED


def main() -> int:
    port, jwks, issuer, audience, *child = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(THREADS))
    keys = KeySet.import_key_set(json.loads(Path(jwks).read_text()))
    server.add_generic_rpc_handlers((Authorizer(keys, issuer, audience),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return subprocess.call(child)


if __name__ == "__main__":
    sys.exit(main())
