"""Other proxies, each as it comes, on one core: mTLS or plaintext in, plaintext HTTP/2 out, no access log.

All are asked to go on for as long as a bench does, where they would close a connection after some number of requests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

from bench.harness import envoy, upstream
from bench.harness.certificates import Certificates
from bench.harness.processes import Processes, free_port, program
from bench.harness.proxies import Peer

Start: TypeAlias = Callable[[Processes, int, Certificates | None, int], Peer]


def nginx(processes: Processes, core: int, certificates: Certificates | None, upstream_port: int) -> Peer:
    port = free_port()
    folder = processes.folder / "nginx"
    folder.mkdir(exist_ok=True)
    secured = ""
    if certificates is not None:
        secured = (
            f"ssl_certificate {certificates.server}; ssl_certificate_key {certificates.server_key}; "
            f"ssl_client_certificate {certificates.ca}; ssl_verify_client on; ssl_protocols TLSv1.3;"
        )
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn; user root;
events {{ worker_connections 8192; }}
http {{
  access_log off; {paths} client_max_body_size 16m; client_body_buffer_size 1m;
  keepalive_requests 1000000000; http2_max_concurrent_streams 128;
  upstream model {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} {"ssl " if certificates is not None else ""}http2 backlog=1024; {secured}
    location / {{ grpc_pass grpc://model; }}
  }}
}}
""")
    command = [program("nginx", "nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    process = processes.start("nginx", command, core)
    upstream.wait_until_open(process, port)
    return Peer("nginx", process, port)


def nghttpx(processes: Processes, core: int, certificates: Certificates | None, upstream_port: int) -> Peer:
    port = free_port()
    command = [program("nghttpx", "nghttp2-proxy"), "--conf=/dev/null", "--workers=1", "--no-ocsp"]
    command += [f"--backend=127.0.0.1,{upstream_port};;proto=h2", "--errorlog-file=/dev/stderr"]
    if certificates is None:
        command.append(f"--frontend=127.0.0.1,{port};no-tls")
    else:
        command += [f"--frontend=127.0.0.1,{port}", "--tls-min-proto-version=TLSv1.3", "--verify-client"]
        command += [f"--verify-client-cacert={certificates.ca}", str(certificates.server_key), str(certificates.server)]
    process = processes.start("nghttpx", command, core)
    upstream.wait_until_open(process, port)
    return Peer("nghttpx", process, port)


def haproxy(processes: Processes, core: int, certificates: Certificates | None, upstream_port: int) -> Peer:
    port = free_port()
    secured = ""
    if certificates is not None:
        both = processes.folder / "haproxy.pem"
        both.touch(mode=0o600)
        both.write_text(certificates.server.read_text() + certificates.server_key.read_text())
        secured = f"ssl crt {both} ca-file {certificates.ca} verify required alpn h2 ssl-min-ver TLSv1.3"
    file = processes.folder / "haproxy.cfg"
    file.write_text(f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:{port} {secured or "proto h2"}
  default_backend model
backend model
  server only 127.0.0.1:{upstream_port} proto h2
""")
    process = processes.start("haproxy", [program("haproxy", "haproxy"), "-db", "-f", str(file)], core)
    upstream.wait_until_open(process, port)
    return Peer("haproxy", process, port)


def grpc_aio(processes: Processes, core: int, certificates: Certificates | None, upstream_port: int) -> Peer:
    """A proxy of a page in Python; it gets a twentieth of the calls."""
    port = free_port()
    command = [sys.executable, "-m", "bench.harness.aio_proxy", str(port), str(upstream_port)]
    if certificates is not None:
        command += [str(certificates.server), str(certificates.server_key), str(certificates.ca)]
    process = processes.start("aio-proxy", command, core)
    upstream.wait_until_open(process, port)
    return Peer("grpc.aio proxy", process, port, share=0.05)


PEERS: dict[str, Start] = {
    "envoy": envoy.start, "nginx": nginx, "nghttpx": nghttpx, "haproxy": haproxy, "grpc-aio": grpc_aio
}  # fmt: skip
