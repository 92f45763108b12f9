"""The relay's end of calls to the services process: sealed when a stream opens, believed when the answer is proved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from interceptors.contract import Call, RawField
from interceptors.facts import DEFAULT_TENANT, Principal
from sidecar.internal import mac
from sidecar.internal.mac import Caller
from sidecar.relay.http2.fields import ResponseHead, lines_of

PUBLIC: Final = "the sidecar's services are not available"  # what a caller is told where the proof fails
_PROOF: Final = mac.PROOF_HEADER.encode()


class InternalCalls:
    """key: of this boot.  clock: seconds of CLOCK_BOOTTIME.  bits: n → n random bytes, unpredictable."""

    def __init__(self, key: bytes, clock: Callable[[], float], bits: Callable[[int], bytes]) -> None:
        self._key = key
        self._clock = clock
        self._bits = bits

    def seal(self, call: Call) -> tuple[bytes, RawField]:
        """The nonce of one stream, and the header field it is opened with; a stream tried again is sealed again."""
        nonce = self._bits(mac.NONCE_SIZE)
        sealed = mac.seal(self._key, caller(call), call.method.path, nonce, self._clock())
        return nonce, mac.field(sealed)

    def verified(self, call: Call, nonce: bytes, head: ResponseHead) -> ResponseHead:
        """The head of an answer that proves itself, without the proof. Raises SealError."""
        mac.verify_reply(self._key, call.method.path, nonce, head.fields)
        rest = [field for field in head.fields if field[0] != _PROOF]
        return ResponseHead(lines_of([(b":status", b"%d" % head.status), *rest]))


def caller(call: Call) -> Caller:
    """Whom a call is made for; nobody, where the chain lets it pass without a principal."""
    principal = call.find(Principal)
    if principal is None:
        return Caller("", "", DEFAULT_TENANT, call.peer.source)
    return Caller(principal.kind, principal.name, principal.tenant, call.peer.source, tuple(sorted(principal.roles)))
