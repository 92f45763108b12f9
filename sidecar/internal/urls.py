"""URLs of what is believed because of where it was fetched."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))


def fetchable(url: str) -> bool:
    """Whether what comes from there is whose the URL says, and nobody's on the way: by https, or from this host."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not url.isascii() or not url.isprintable() or " " in url or not host or "@" in parts.netloc or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
