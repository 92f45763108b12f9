"""Tells callers the nonce that their next proof of possession is to carry (RFC 9449 8.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interceptors.contract import PASS, Call, Headers, Interceptor, Verdict, View
from interceptors.facts import Principal

NONCE: Final = b"dpop-nonce"


@dataclass(frozen=True, slots=True)
class NextNonce:
    """value: in base64url. Put where the one that came is good for a little while only."""

    value: bytes


class Nonces(Interceptor):
    """Stands behind `identify`. A call whose proof has no good nonce is denied there, with one that is."""

    name = "nonces"
    view = View.METADATA
    needs = frozenset({Principal})

    def on_headers(self, call: Call, headers: Headers) -> Verdict:
        following = call.find(NextNonce)
        if following is not None:
            headers.set(NONCE, following.value)
        return PASS
