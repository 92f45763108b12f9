"""Proofs of internal calls: what was sealed opens, and nothing else does."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.internal import mac
from sidecar.internal.mac import Caller, SealError

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
NONCE = b"n" * mac.NONCE_SIZE
METHOD = "/langtrain.v1.SidecarService/Drain"
ALICE = Caller("spiffe", "spiffe://example.org/team/alice", "default", "192.0.2.7")
NOW = 1000.0
TEXTS = st.text(max_size=40)


def why(key: bytes, method: str, sealed: bytes, now: float = NOW) -> str:
    with pytest.raises(SealError) as error:
        mac.unseal(key, method, sealed, now)
    return error.value.why


ROLES = st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20), max_size=8).map(tuple)


@given(st.builds(Caller, TEXTS, TEXTS, TEXTS, TEXTS, ROLES), st.binary(min_size=16, max_size=16))
def test_what_is_sealed_opens(caller: Caller, nonce: bytes) -> None:
    call = mac.unseal(KEY, METHOD, mac.seal(KEY, caller, METHOD, nonce, NOW), NOW)
    assert (call.caller, call.nonce, call.expires) == (caller, nonce, NOW + mac.LIFE_S)


def test_of_too_many_roles_none_is_told() -> None:
    """Some of them would be an arbitrary choice, and all of them more than a header may be."""
    for count, told in ((8, 8), (9, 0)):
        caller = replace(ALICE, roles=("x" * 127,) * count)
        opened = mac.unseal(KEY, METHOD, mac.seal(KEY, caller, METHOD, NONCE, NOW), NOW)
        assert len(opened.caller.roles) == told


def test_any_flipped_bit_refuses() -> None:
    sealed = mac.seal(KEY, ALICE, METHOD, NONCE, NOW)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert why(KEY, METHOD, bytes(flipped)) == "internal.forged"


@given(st.binary(max_size=200))
def test_what_nobody_sealed_refuses(sealed: bytes) -> None:
    assert why(KEY, METHOD, sealed) == "internal.forged"


def test_another_key_or_method_refuses() -> None:
    sealed = mac.seal(KEY, ALICE, METHOD, NONCE, NOW)
    assert why(OTHER_KEY, METHOD, sealed) == "internal.forged"
    assert why(KEY, "/langtrain.v1.SidecarService/GetStatus", sealed) == "internal.forged"
    assert why(KEY, METHOD, sealed + b"\0") == "internal.forged"
    assert why(KEY, METHOD, bytes(mac.LONGEST + 1)) == "internal.malformed"


@pytest.mark.parametrize("now", [NOW + mac.LIFE_S, NOW + 1e6, NOW - 1.5, 0.0])
def test_it_holds_for_seconds_only(now: float) -> None:
    """Nor does one that claims to hold for long."""
    assert why(KEY, METHOD, mac.seal(KEY, ALICE, METHOD, NONCE, NOW), now) == "internal.expired"


def test_no_two_callers_are_sealed_alike() -> None:
    """The same letters, parted otherwise: a prefix cannot move from one field into its neighbour."""
    one, other = Caller("cn", "cn:ab", "c", "d"), Caller("cn", "cn:a", "bc", "d")
    first, second = (mac.seal(KEY, caller, METHOD, NONCE, NOW) for caller in (one, other))
    assert first[:-32] != second[:-32]
    assert first[-32:] != second[-32:]


def fields(*proofs: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/grpc"), *((b"x-langtrain-proof-bin", b64encode(each)) for each in proofs)]


PROOF = mac.prove(KEY, METHOD, NONCE)


def test_an_answer_proves_that_the_key_is_known() -> None:
    mac.verify_reply(KEY, METHOD, NONCE, fields(PROOF))
    mac.verify_reply(KEY, METHOD, NONCE, [(b"x-langtrain-proof-bin", b64encode(PROOF).rstrip(b"="))])


@pytest.mark.parametrize(
    "answer",
    [
        fields(),
        fields(PROOF, PROOF),
        fields(mac.prove(OTHER_KEY, METHOD, NONCE)),
        fields(mac.prove(KEY, METHOD, b"m" * 16)),
        fields(mac.prove(KEY, "/langtrain.v1.SidecarService/GetStatus", NONCE)),
        fields(PROOF[:-1]),
        fields(b""),
        # What the relay itself sent, sent back: its tag is of another domain.
        fields(mac.seal(KEY, ALICE, METHOD, NONCE, NOW)[-32:]),
        [(b"x-langtrain-proof-bin", b"!")],
    ],
)
def test_an_answer_without_the_proof_refuses(answer: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(SealError):
        mac.verify_reply(KEY, METHOD, NONCE, answer)


def test_the_header_field_is_as_grpc_spells_it() -> None:
    sealed = mac.seal(KEY, replace(ALICE, source="x"), METHOD, NONCE, NOW)
    name, value = mac.field(sealed)
    assert name == b"x-langtrain-internal-bin"
    assert b"=" not in value
    assert mac.from_wire(value) == sealed


def test_keys_and_nonces_have_one_size() -> None:
    with pytest.raises(ValueError, match="key is 31 bytes, expected 32"):
        mac.prove(KEY[1:], METHOD, NONCE)
    with pytest.raises(ValueError, match="nonce is 15 bytes, expected 16"):
        mac.seal(KEY, ALICE, METHOD, NONCE[1:], NOW)
