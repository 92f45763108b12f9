"""Sequences of requests are their caller's own: the ids by which requests belong together are made to differ.

A model server that keeps state between requests tells sequences apart by the parameter `sequence_id` alone, and whoever
says another's id is in that sequence. So the id that goes upstream is a keyed hash of it and of who calls. Where an
answer has it again, the caller's own takes its place.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import (
    PASS,
    Call,
    Code,
    CodecError,
    Deny,
    Forward,
    Interceptor,
    Message,
    Method,
    Parameter,
    Verdict,
    View,
)
from interceptors.facts import Principal

PARAMETER: Final = "sequence_id"
KEY: Final = 32  # bytes of the key
MOST_NAMED: Final = 1024  # sequences of one call whose answers are mapped back

MALFORMED: Final = Deny(Code.INVALID_ARGUMENT, "sequences.malformed", "request message cannot be read")
MALFORMED_ANSWER: Final = Deny(Code.INTERNAL, "sequences.malformed_answer", "response message cannot be read")


class Named:
    """The sequences that a call has named. ids: what went upstream → what the caller said."""

    __slots__ = ("ids",)

    def __init__(self) -> None:
        self.ids: Bounded[Parameter, Parameter] = Bounded(MOST_NAMED)


class Sequences(Interceptor):
    """Gives each principal ids of its own; refuses a request whose id cannot be told.

    0 and "" are no ids, they say that a request is in no sequence (Triton, "Sequence Extension"), and stay.
    """

    name = "sequences"
    view = View.BYTES
    needs = frozenset({Principal})
    awaits = Named

    def __init__(self, key: bytes) -> None:
        """key: KEY bytes, secret, the same wherever a sequence's requests may come in. Raises ValueError."""
        if len(key) != KEY:
            raise ValueError(f"expected a key of {KEY} bytes, got {len(key)}")
        self._key = key

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.BYTES if method.parameters else None

    def on_request(self, call: Call, message: Message) -> Verdict:
        raw = message.raw
        try:
            edited = call.codec.with_parameter(raw, False, PARAMETER, partial(self._own, call))
        except CodecError:
            return MALFORMED
        return PASS if edited is raw else Forward((Message(edited),))

    def on_response(self, call: Call, message: Message) -> Verdict:
        named = call.find(Named)
        if named is None:
            return PASS
        raw = message.raw
        try:
            edited = call.codec.with_parameter(raw, True, PARAMETER, partial(_theirs, named))
        except CodecError:
            return MALFORMED_ANSWER
        return PASS if edited is raw else Forward((Message(edited),))

    def _own(self, call: Call, said: Parameter) -> Parameter:
        principal = call.find(Principal)
        if not said or principal is None:  # without a principal the chain only observes
            return said
        named = call.find(Named)
        if named is None:
            call.put(named := Named())
        upstream = own(self._key, principal, said)
        named.ids.keep(upstream, said)
        return upstream


def own(key: bytes, principal: Principal, said: Parameter) -> Parameter:
    """The id upstream of the sequence `said` of `principal`: from 1 to 2**63 - 1, or 32 characters.

    Two that are not the same are as likely to meet as any two numbers of 63 bits, or 128, drawn at random.
    """
    digest = blake2b(digest_size=16, key=key, person=PARAMETER.encode())
    kind = "integer" if isinstance(said, int) else "string"
    for part in (principal.tenant, principal.name, kind, str(said)):
        octets = part.encode("utf-8", "surrogatepass")
        digest.update(len(octets).to_bytes(8, "big"))  # no two lists of parts are the same octets
        digest.update(octets)
    if isinstance(said, int):
        # Positive for whoever takes it for signed, and not 0, which is no id.
        return int.from_bytes(digest.digest()[:8], "big") >> 1 or 1
    return digest.hexdigest()


def _theirs(named: Named, said: Parameter) -> Parameter | None:
    """What the caller called a sequence; of one that he did not name, he is not told."""
    return named.ids.get(said) if said else said
