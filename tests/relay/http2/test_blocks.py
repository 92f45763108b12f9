"""Header blocks: what is encoded decodes to itself, and the cache never serves what a table no longer says."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.relay.http2.blocks import TABLE_SIZE_ZERO, HeaderBlocks, encode, encode_fresh, hard_limit
from sidecar.relay.http2.blocks import _memo as memory
from sidecar.relay.http2.errors import ConnectionFault
from sidecar.relay.http2.fields import Field, Line, RequestHead, TrailerBlock, lines_of, list_size
from sidecar.relay.http2.hpack import Decoder
from sidecar.relay.http2.limits import Limits
from tests.relay.http2.ends import REQUEST, RESPONSE, TRAILERS, fields_of, limits

names = st.sampled_from([
    b":authority", b":path", b":method", b":scheme", b":status", b"content-type", b"user-agent", b"date", b"x-a", b"te",
]) | st.binary(max_size=300)  # fmt: skip
values = st.sampled_from([b"", b"POST", b"http", b"https", b"200", b"trailers"]) | st.binary(max_size=300)
field_lists = st.lists(st.tuples(names, values), max_size=20)


def _both(block: bytes) -> list[list[Field]]:
    ours = fields_of(Decoder(1 << 20, 1000).decode(block))
    theirs = hpack.Decoder(1 << 20).decode(block, raw=True)
    assert all(isinstance(field, hpack.NeverIndexedHeaderTuple) for field in theirs if len(field[1]) > 8)
    return [ours, [(bytes(name), bytes(value)) for name, value in theirs]]


@given(field_lists)
def test_what_is_encoded_decodes_to_itself_and_enters_no_table(fields: list[Field]) -> None:
    for block in (encode(fields), encode(fields), encode_fresh(fields), TABLE_SIZE_ZERO + encode(fields)):
        assert _both(block) == [fields, fields]
    decoder = hpack.Decoder()
    decoder.decode(encode(fields), raw=True)
    assert len(decoder.header_table.dynamic_entries) == 0


def test_common_fields_are_short() -> None:
    assert encode(((b":method", b"POST"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"))) == (
        b"\x83\x86\x87\x88"
    )


def test_the_memo_stays_bounded() -> None:
    for number in range(10_000):
        encode(((b"x", b"%d" % number),))
    encode(((b"y", b"z" * 1000),))
    assert len(memory) <= 4096
    assert all(len(value) <= 256 for value in memory.values())


@pytest.mark.parametrize(
    "name", [b"authorization", b"cookie", b"x-api-key", b"x-auth-token", b"a-secret", b"a-token-bin"]
)
def test_the_memo_keeps_no_credential(name: bytes) -> None:
    encoded = encode(((name, b"s3cret"),))
    assert _both(encoded) == [[(name, b"s3cret")]] * 2
    assert not [field for field in memory if field[0] == name]


# --- the cache --------------------------------------------------------------------------------------------------

_entries = st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2", b"v" * 2000]))


@st.composite
def _blocks(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Blocks of a client whose encoder really uses the table, said again and again, and a few by hand."""
    encoder = hpack.Encoder()
    found: list[bytes] = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            encoder.header_table_size = draw(st.sampled_from([0, 100, 4096]))
        if kind < 6 or not found:
            found.append(encoder.encode(draw(st.lists(_entries, max_size=4)), huffman=draw(st.booleans())))
        elif kind < 8:
            found.append(draw(st.sampled_from(found)))
        else:
            found.append(
                draw(st.sampled_from([b"\xbe", b"\xbf", b"\xbe\xc0", b"\x7e\x01z", b"\x20", b"\x3f\xe1\x1f", b"\x88"]))
            )
    return [(draw(st.sampled_from(["request", "response", "trailers"])), block) for block in found]


@settings(max_examples=300)
@given(_blocks())
def test_with_a_cache_as_without(blocks: list[tuple[str, bytes]]) -> None:
    cached, plain = HeaderBlocks(Limits(), of_answers=True), Decoder(hard_limit(Limits()), 512)
    for kind, block in blocks:
        try:
            expected: list[Line] | None = plain.decode(block)
        except ConnectionFault:
            expected = None
        try:
            found = getattr(cached, kind)(block)
        except ConnectionFault:
            assert expected is None
            return
        assert expected is not None
        fault = type(found)(expected).fault
        assert (found.fault is None) == (fault is None)
        if fault is None:
            assert found.fields == type(found)(expected).fields


def test_a_block_is_decoded_once_while_the_table_stands_still() -> None:
    blocks = HeaderBlocks(Limits(), of_answers=True)
    block = encode(REQUEST)
    head = blocks.request(block)
    assert blocks.request(block) is head
    assert isinstance(blocks.trailers(encode(TRAILERS)), TrailerBlock)
    assert blocks.response(encode(RESPONSE)) is blocks.response(encode(RESPONSE))
    blocks.trailers(b"\x40\x01a\x01b")
    again = blocks.request(block)
    assert again is not head
    referring = block + b"\xbe"
    assert blocks.request(referring).fields[-1] == (b"a", b"b")
    assert blocks.request(referring) is blocks.request(referring)
    blocks.trailers(b"\x40\x01a\x01c")
    assert blocks.request(referring).fields[-1] == (b"a", b"c")


@pytest.mark.parametrize(
    ("fields", "oversize"),
    [
        ([(b"a", b"b")] * 128, False), ([(b"a", b"b")] * 129, True), ([(b"a", bytes(16_384 - 33))], False),
        ([(b"a", bytes(16_384 - 32))], True),
    ],
)  # fmt: skip
def test_lists_beyond_their_limit_are_marked(fields: list[Field], oversize: bool) -> None:
    assert HeaderBlocks(Limits(), of_answers=True).trailers(encode(fields)).oversize is oversize


def test_what_a_cache_holds_is_bounded() -> None:
    """A block of one octet references says far more than its length: what is kept is measured by what it says."""
    blocks = HeaderBlocks(limits(header_count=10_000), of_answers=True)
    blocks.trailers(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    for number in range(1, 1000):
        blocks.trailers(b"\xbe" * (number % 16 + 1) + encode(((b"x", b"%d" % number),)))
        blocks.request(encode(((b"y", b"v" * 2000), (b"x", b"%d" % number))))
        held: list[TrailerBlock | RequestHead] = [*blocks._trailers.values(), *blocks._requests.values()]
        assert sum(list_size(lines_of(head.fields)) for head in held) <= 64 << 10
    assert blocks._requests
    for number in range(1000):
        blocks.trailers(encode(((b"x", b"%d" % number),)))
    assert 0 < len(blocks._trailers) <= 64


def test_trailers_of_requests_are_read_as_requests_are() -> None:
    block = encode(((b"a", b" b"),))
    assert HeaderBlocks(Limits(), of_answers=True).trailers(block).fields == ((b"a", b"b"),)
    assert HeaderBlocks(Limits(), of_answers=False).trailers(block).fault is not None
