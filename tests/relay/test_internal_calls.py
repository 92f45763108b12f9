"""Calls to the services process as the relay makes them: whom they say they are for, and which answers count."""

from __future__ import annotations

import base64

import pytest

from interceptors.contract import Call, Headers, Method, Peer
from interceptors.facts import Principal
from sidecar.internal import mac
from sidecar.internal.mac import Caller, SealError
from sidecar.relay.http2.fields import ResponseHead, lines_of
from sidecar.relay.internal_calls import InternalCalls

KEY = bytes(range(32))
PATH = "/langtrain.v1.SidecarService/GetStatus"
CALLS = InternalCalls(KEY, lambda: 1000.0, lambda count: b"n" * count)


def made(principal: Principal | None = None) -> Call:
    call = Call(Method(PATH, True, True), Headers(()), Peer("192.0.2.7:4711", "192.0.2.7", None), 0.0)
    if principal is not None:
        call.put(principal)
    return call


@pytest.mark.parametrize(
    ("principal", "caller"),
    [
        (Principal("dns", "dns:host", "acme"), Caller("dns", "dns:host", "acme", "192.0.2.7")),
        (
            Principal("user", "user:a/b", roles=frozenset(("b", "a"))),
            Caller("user", "user:a/b", "default", "192.0.2.7", ("a", "b")),
        ),
        (None, Caller("", "", "default", "192.0.2.7")),
    ],
)
def test_a_call_says_whom_it_is_for(principal: Principal | None, caller: Caller) -> None:
    nonce, (name, value) = CALLS.seal(made(principal))
    assert name == b"x-langtrain-internal-bin"
    opened = mac.unseal(KEY, PATH, mac.from_wire(value), 1000.0)
    assert (opened.caller, opened.nonce) == (caller, nonce)


def test_an_answer_that_proves_itself_loses_the_proof() -> None:
    proof = base64.b64encode(mac.prove(KEY, PATH, b"n" * 16))
    head = ResponseHead(lines_of([
        (b":status", b"200"), (b"content-type", b"application/grpc"), (b"x-langtrain-proof-bin", proof), (b"own", b"1"),
    ]))  # fmt: skip
    clean = CALLS.verified(made(), b"n" * 16, head)
    assert (clean.status, clean.fields) == (200, ((b"content-type", b"application/grpc"), (b"own", b"1")))
    with pytest.raises(SealError):
        CALLS.verified(made(), b"m" * 16, head)
    with pytest.raises(SealError):
        CALLS.verified(made(), b"n" * 16, clean)
