"""Where issuers publish their keys, and what of that is believed. Fetching is `sources_https`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from sidecar.errors import SidecarError
from sidecar.internal.urls import fetchable

KEYS: Final = "keys"  # the topic under which workers are told of them, and what they ask for by a source's key
WELL_KNOWN: Final = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0, 4


class SourceError(SidecarError):
    """An issuer's keys could not be had."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """issuer: its `iss`.  url: of its key set; "" where its discovery document says.  ca: path of a PEM file with the
    CAs that the servers' certificates are verified with; "" for the system's.

    refresh_s: how often it is fetched.
    """

    issuer: str
    url: str
    ca: str
    refresh_s: float

    @property
    def key(self) -> str:
        """Under which its keys travel: what another config would fetch elsewhere is another's."""
        return hashlib.sha256("\n".join((self.issuer, self.url, self.ca)).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        return {"issuer": self.issuer, "url": self.url, "ca": self.ca, "refresh_s": self.refresh_s}


def discovery(issuer: str) -> str:
    """Where an issuer's document lies."""
    return issuer.removesuffix("/") + WELL_KNOWN


def key_set_url(issuer: str, document: bytes) -> str:
    """What the discovery document says. Raises SourceError for one that is not this issuer's."""
    try:
        said = json.loads(document)
        named, url = said["issuer"], said["jwks_uri"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise SourceError('the discovery document is no JSON object with "issuer" and "jwks_uri"') from None
    if named != issuer:
        # 4.3: else whoever runs one issuer could speak for another.
        raise SourceError("the discovery document is another issuer's")
    if not isinstance(url, str) or not fetchable(url):
        raise SourceError('"jwks_uri" of the discovery document is no https URL')
    return url
