"""Fetches an issuer's keys with the standard library, in the thread of whoever asks."""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError

from sidecar.identity.jwks import LARGEST
from sidecar.identity.sources import KeySource, SourceError, discovery, key_set_url

WITHIN_S: Final = 10.0  # for one document, whole
CHUNK: Final = 16 << 10  # bytes


def fetch(source: KeySource, clock: Callable[[], float] = time.monotonic, within_s: float = WITHIN_S) -> bytes:
    """The key set, as it is published. Raises SourceError."""
    try:
        context = ssl.create_default_context(cafile=source.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"{source.ca}: {getattr(error, 'strerror', None) or 'no PEM file of CAs'}") from None
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Stay)
    url = source.url
    if not url:
        place = discovery(source.issuer)
        url = key_set_url(source.issuer, _get(opener, place, clock() + within_s, clock))
    return _get(opener, url, clock() + within_s, clock)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: who says where keys lie is the config, or the issuer's own document."""

    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str) -> None:
        return None


def _get(opener: urllib.request.OpenerDirector, url: str, until: float, clock: Callable[[], float]) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json, application/jwk-set+json"})  # noqa: S310 - `fetchable`
    try:
        with opener.open(request, timeout=max(0.1, until - clock())) as answer:
            found = bytearray()
            # Piece by piece: a timeout of the socket begins anew with every byte.
            while chunk := answer.read1(CHUNK):
                found += chunk
                if len(found) > LARGEST:
                    raise SourceError(f"{url} answered more than {LARGEST} bytes")
                if clock() > until:
                    raise SourceError(f"{url} has not answered in time")
            return bytes(found)
    except HTTPError as error:
        with error:
            raise SourceError(f"{url} answered {error.code}") from None
    except URLError as error:
        raise SourceError(f"{url}: {_reason(error.reason)}") from None
    except (OSError, HTTPException) as error:
        raise SourceError(f"{url}: {_reason(error)}") from None


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "not answered in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, BaseException) else str(error)
