"""SPIFFE IDs as URI names in certificates. Source: spiffe.io, SPIFFE-ID.md section 2 and X509-SVID.md section 5.2."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 2048  # bytes (SPIFFE-ID 2.3)
LONGEST_TRUST_DOMAIN: Final = 255  # bytes (SPIFFE-ID 2.3)
# SPIFFE-ID 2.1 and 2.2: a host and no port or userinfo, non-empty segments, no percent-encoding, query or fragment.
# X509-SVID 5.2: a leaf's path is not empty.
FORM: Final = re.compile(r"spiffe://([a-z0-9._-]+)((?:/[A-Za-z0-9._-]+)+)")


class SpiffeError(ValueError):
    """A text that is no SPIFFE ID of a workload."""


def trust_domain(uri: str) -> str:
    """The trust domain of a workload's SPIFFE ID. Raises SpiffeError where `uri` is none."""
    if len(uri) > LONGEST:
        raise SpiffeError(f"URI has {len(uri)} characters, a SPIFFE ID at most {LONGEST}")
    parts = FORM.fullmatch(uri)
    if parts is None:
        raise SpiffeError("URI is not of the form spiffe://trust-domain/path")
    if len(parts[1]) > LONGEST_TRUST_DOMAIN:
        raise SpiffeError(f"trust domain has {len(parts[1])} characters, expected at most {LONGEST_TRUST_DOMAIN}")
    if not {".", ".."}.isdisjoint(parts[2].split("/")):
        raise SpiffeError("path has a relative segment, which a SPIFFE ID may not")
    return parts[1]
