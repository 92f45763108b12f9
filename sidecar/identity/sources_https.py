"""Fetches an issuer's keys with the standard library, in the thread of whoever asks."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError

from sidecar.identity.jwks import LARGEST
from sidecar.identity.sources import KeySource, SourceError, discovery, key_set_url

WITHIN_S: Final = 10.0  # for one document, whole
CHUNK: Final = 16 << 10  # bytes


def fetch(source: KeySource, within_s: float = WITHIN_S) -> bytes:
    """The key set, as it is published. Raises SourceError."""
    try:
        context = ssl.create_default_context(cafile=source.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"{source.ca}: {getattr(error, 'strerror', None) or 'no PEM file of CAs'}") from None
    url = source.url
    if not url:
        url = key_set_url(source.issuer, _get(context, discovery(source.issuer), within_s))
    return _get(context, url, within_s)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: who says where keys lie is the config, or the issuer's own document."""

    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str) -> None:
        return None


class _Plain(HTTPConnection):
    """opened: told of its socket before anything is heard there."""

    opened: Callable[[socket.socket], None]

    def connect(self) -> None:
        super().connect()
        self.opened(self.sock)


class _Secure(HTTPSConnection, _Plain):
    """The same with TLS, whose handshake comes after that."""


class _Http(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """opened: as of _Plain."""

    def __init__(self, context: ssl.SSLContext, opened: Callable[[socket.socket], None]) -> None:
        super().__init__(context=context)
        self._tls = context
        self._opened = opened

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._made(_Plain), req)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._made(_Secure), req, context=self._tls)

    def _made(self, kind: type[_Plain]) -> Any:
        def make(host: str, **how: Any) -> _Plain:
            connection = kind(host, **how)
            connection.opened = self._opened
            return connection

        return make


class _Cut:
    """Ends a connection when its time is over, in whatever it is: a timeout of a socket begins anew with every byte."""

    def __init__(self, within_s: float) -> None:
        self.late = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(within_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, opened: socket.socket) -> None:
        with self._lock:
            self._close()
            self._socket = opened.dup()  # TLS takes the other over

    def __enter__(self) -> _Cut:
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.late = True
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


def _get(context: ssl.SSLContext, url: str, within_s: float) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json, application/jwk-set+json"})  # noqa: S310 - `fetchable`
    with _Cut(within_s) as cut:
        # A proxy of the environment is for https alone, whose keys it cannot change: http is this host's, see `urls`.
        proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme == "https"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _Http(context, cut.watch), _Stay)
        try:
            with opener.open(request, timeout=within_s) as answer:
                found = _read(answer, url)
        except HTTPError as error:
            with error:
                fault = f"{url} answered {error.code}"
        except URLError as error:
            fault = f"{url}: {_reason(error.reason)}"
        except (OSError, HTTPException) as error:
            fault = f"{url}: {_reason(error)}"
        else:
            fault = ""
        if cut.late:
            raise SourceError(f"{url} has not answered in time")
    if fault:
        raise SourceError(fault)
    return found


def _read(answer: Any, url: str) -> bytes:
    found = bytearray()
    while chunk := answer.read1(CHUNK):
        found += chunk
        if len(found) > LARGEST:
            raise SourceError(f"{url} answered more than {LARGEST} bytes")
    return bytes(found)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "not answered in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, BaseException) else str(error)
