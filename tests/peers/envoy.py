"""Envoy as one more proxy on the way: before the sidecar, or between it and the server.

With its defaults, as far as they let every call through for as long as it takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.certificates import Certificates, Pair
from tests.peers import venvs
from tests.peers.model_servers import free_ports
from tests.peers.targets import Target
from tests.processes import Process

TYPE = "type.googleapis.com/envoy.extensions"


@contextmanager
def before(target: Target, directory: Path) -> Iterator[Target]:
    """Envoy before `target`, which it calls as the tests' sidecar where that asks for a certificate; it asks for one,
    of the client, in that case too."""
    (port,) = free_ports(1)
    file = directory / "envoy.json"
    file.write_text(json.dumps(_config(port, target)))
    command = [venvs.envoy(), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    with Process(command) as envoy:
        envoy.wait_line(lambda line: "starting main dispatch loop" in line)
        yield Target(f"127.0.0.1:{port}", target.certificates)
        assert envoy.terminate() == 0, envoy.tail()


def _config(port: int, target: Target) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_manager()]}
    cluster: dict[str, Any] = {
        "name": "behind",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _loopback(target.port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    if target.certificates is not None:
        downstream = {"require_client_certificate": True} | _tls(target.certificates, target.certificates.server)
        upstream = {"sni": "localhost"} | _tls(target.certificates, target.certificates.sidecar)
        chain["transport_socket"] = _socket("DownstreamTlsContext", downstream)
        cluster["transport_socket"] = _socket("UpstreamTlsContext", upstream)
    listener = {"name": "front", "address": _loopback(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _manager() -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "0s"}}
    manager = {
        "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}},
        ],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _tls(certificates: Certificates, own: Pair) -> dict[str, Any]:
    return {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificates": [
                {"certificate_chain": {"filename": str(own.certificate)}, "private_key": {"filename": str(own.key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(certificates.ca)}},
        }
    }


def _socket(kind: str, context: dict[str, Any]) -> dict[str, Any]:
    typed = {"@type": f"{TYPE}.transport_sockets.tls.v3.{kind}"} | context
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}
