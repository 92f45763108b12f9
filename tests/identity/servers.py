"""An issuer's HTTP server, with TLS or without, whose answers a test sets."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.certificates import Pair


class IssuerServer:
    """paths: what is answered, by path: a status, headers and a body.  drip_s: between the bytes of a body.

    head_drip_s: between the bytes of a first line of a thousand, after which nothing comes.
    """

    def __init__(self, pair: Pair | None) -> None:
        self.paths: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.drip_s = 0.0
        self.head_drip_s = 0.0
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.head_drip_s:
                    outer.say(self.wfile, b"HTTP/1.1 200 " + b"x" * 1_000, outer.head_drip_s)
                    return
                status, headers, body = outer.paths.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                outer.say(self.wfile, body, outer.drip_s)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"{'http' if pair is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def discover(self, keys: bytes, **changed: Any) -> None:
        """Publish a discovery document, changed, and keys."""
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **changed}
        self.paths["/.well-known/openid-configuration"] = 200, {}, json.dumps(document).encode()
        self.paths["/jwks"] = 200, {}, keys

    def say(self, out: Any, body: bytes, drip_s: float) -> None:
        try:
            if not drip_s:
                out.write(body)
                return
            for at in range(len(body)):
                out.write(body[at : at + 1])
                out.flush()
                time.sleep(drip_s)
        except OSError:
            pass  # whoever asked has left

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def issuer_server(pair: Pair | None = None) -> Iterator[IssuerServer]:
    server = IssuerServer(pair)
    try:
        yield server
    finally:
        server.stop()
