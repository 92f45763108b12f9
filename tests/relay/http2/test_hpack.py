"""Our decoder against RFC 7541 and the `hpack` library: the same answers, the same refusals."""

from __future__ import annotations

import tracemalloc

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.relay.http2 import huffman
from sidecar.relay.http2.errors import ConnectionFault
from sidecar.relay.http2.fields import Field
from sidecar.relay.http2.hpack import Decoder
from sidecar.relay.http2.hpack import _memo as memory
from tests.relay.http2.ends import fields_of

HARD, MOST = 65_536, 512
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def integer(value: int, prefix: int, first: int, more: int = 0) -> bytes:
    """RFC 7541 §5.1, with `more` octets than needed."""
    mask = (1 << prefix) - 1
    if value < mask and not more:
        return bytes((first | value,))
    octets = bytearray((first | mask,))
    value -= mask
    while value >= 0x80 or more:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
        if value < 0x80 and more:
            more -= 1
    octets.append(max(0, value))
    return bytes(octets)


def string(text: bytes, huffman: bool = False, said: int | None = None) -> bytes:
    octets = _huffman.encode(text) if huffman else text
    return integer(len(octets) if said is None else said, 7, 0x80 if huffman else 0) + octets


def _decode(decoder: Decoder, block: bytes) -> list[Field] | None:
    try:
        return fields_of(decoder.decode(block))
    except ConnectionFault:
        return None


def _reference(decoder: hpack.Decoder, block: bytes) -> list[Field] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except (hpack.HPACKError, IndexError):
        return None


def test_the_lengths_of_the_codes_are_those_of_the_specification() -> None:
    assert list(huffman._LENGTHS) == list(REQUEST_CODES_LENGTH)


# --- examples of RFC 7541, Appendix C ---------------------------------------------------------------------------

C3 = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
C4 = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [C3, C4])
def test_the_request_examples_of_the_specification(blocks: list[str]) -> None:
    decoder = Decoder(HARD, MOST)
    generations = []
    found = []
    for block in blocks:
        found.append(fields_of(decoder.decode(bytes.fromhex(block))))
        generations.append(decoder.generation)
    assert found[0] == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ]
    assert found[1][-2:] == [(b":authority", b"www.example.com"), (b"cache-control", b"no-cache")]
    assert found[2][-1] == (b"custom-key", b"custom-value")
    assert generations == [1, 2, 3]


# --- what must be refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("index 0", b"\x80"),
        ("index beyond both tables", b"\xbe"),
        ("index far beyond", integer(1 << 20, 7, 0x80)),
        ("integer cut", b"\xff"),
        ("integer cut later", b"\xff\x80\x80"),
        ("integer of six octets", b"\xff\x80\x80\x80\x80\x80\x01"),
        ("integer beyond 32 bits", b"\xff\xff\xff\xff\xff\x7f"),
        ("literal without a name", b"\x40"),
        ("literal without a value", b"\x40\x01a"),
        ("name longer than the block", b"\x40\x05ab"),
        ("value longer than the block", b"\x40\x01a\x05b"),
        ("value as long as memory", b"\x00\x01a" + integer(1 << 31, 7, 0)),
        ("name index beyond the tables", integer(80, 6, 0x40) + b"\x01a"),
        ("name index 62 of an empty table", integer(62, 4, 0x00) + b"\x01a"),
        ("table of 4097", integer(4097, 5, 0x20)),
        ("table of 2^31", integer(1 << 31, 5, 0x20)),
        ("table size after a field", b"\x82\x20"),
        ("table size after a literal", b"\x00\x01a\x01b\x20"),
        ("table size cut", b"\x3f"),
        ("EOS in a string", b"\x00\x01a\x84\xff\xff\xff\xff"),
        ("padding of an octet", b"\x00\x01a\x82\x1f\xff"),
        ("nothing but padding", b"\x00\x01a\x81\xff"),
        ("padding of zeros", b"\x00\x01a\x81\x18"),
        ("padding of 001", b"\x00\x01a\x81\x19"),
        ("padding of 011", b"\x00\x01a\x81\x1b"),
        ("padding of zeros in a name", b"\x00\x81\x18\x01b"),
        ("padding of zeros in the second field", b"\x82\x00\x01a\x81\x18"),
    ],
)
def test_refused(name: str, block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Decoder(HARD, MOST).decode(block)
    assert caught.value.code.name == "COMPRESSION_ERROR", name


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b"", []),
        (b"\x20", []),
        (b"\x20\x3f\xe1\x1f\x82", [(b":method", b"GET")]),
        (b"\x00\x01a\x81\x1f", [(b"a", b"a")]),
        (b"\x00\x01a\x80", [(b"a", b"")]),
        (b"\x00\x00\x00", [(b"", b"")]),
        (b"\x10\x01a\x01b", [(b"a", b"b")]),
        (integer(61, 7, 0x80), [(b"www-authenticate", b"")]),
        (b"\x00\x01a\x82\xfe\x3f", [(b"a", b"!")]),
    ],
)
def test_taken(block: bytes, fields: list[Field]) -> None:
    assert fields_of(Decoder(HARD, MOST).decode(block)) == fields


def test_an_entry_leaves_a_table_that_shrinks() -> None:
    decoder = Decoder(HARD, MOST)
    decoder.decode(b"\x40\x01a\x01b\x40\x01c\x01d")
    assert _decode(decoder, b"\xbe\xbf") == [(b"c", b"d"), (b"a", b"b")]
    assert _decode(decoder, integer(40, 5, 0x20) + b"\xbe") == [(b"c", b"d")]
    assert _decode(decoder, b"\xbf") is None


def test_an_entry_longer_than_the_table_empties_it() -> None:
    decoder = Decoder(HARD, MOST)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40" + string(b"n") + string(b"v" * 5000))
    assert _decode(decoder, b"\xbe") is None


def test_a_list_far_beyond_its_limit_ends_the_connection() -> None:
    insert = b"\x40\x01a" + string(b"v" * 4000)
    for block, honest in ((insert + b"\xbe" * 15, True), (insert + b"\xbe" * 16, False)):
        decoder = Decoder(HARD, MOST)
        if honest:
            assert len(decoder.decode(block)) == 16
            continue
        with pytest.raises(ConnectionFault) as caught:
            decoder.decode(block)
        assert caught.value.code.name == "ENHANCE_YOUR_CALM"


def test_an_entry_of_the_table_is_one_line_for_as_long_as_it_stands_there() -> None:
    decoder = Decoder(HARD, MOST)
    (line,) = decoder.decode(b"\x40\x01a\x01b")
    assert decoder.decode(b"\xbe\xbe") == [line, line]
    assert decoder.decode(b"\x7e\x01c")[0].name is line.name
    assert Decoder(HARD, MOST).decode(b"\x40\x01a\x01b") != [line]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *[(name, False) for name in (
            b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key", b"x-auth-token",
            b"a-secret", b"x-api-key-bin", b"Authorization", b"X-API-KEY",
        )],
        *[(name, True) for name in (b"x-keys", b"keys-of", b"tokens", b"token", b"x-key-id", b"authorizations")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [b"\x00", b"\x10"])
def test_what_outlives_a_connection_holds_no_credential(name: bytes, kept: bool, first: bytes) -> None:
    block = first + string(name) + string(b"czNjcmV0")
    lines = [Decoder(HARD, MOST).decode(block)[0] for _ in range(2)]
    assert fields_of(lines) == [(name, b"czNjcmV0")] * 2
    assert (lines[0] is lines[1]) == kept
    assert ((name, string(b"czNjcmV0")) in memory) == kept


@pytest.mark.parametrize("first", [b"\x00", b"\x10"])
@pytest.mark.parametrize("huffman", [False, True])
def test_a_connection_remembers_its_own_credentials_and_no_others(first: bytes, huffman: bool) -> None:
    decoder, token = Decoder(HARD, MOST), b"Bearer " + b"token" * 100
    block = first + string(b"authorization") + string(token, huffman)
    (line,) = decoder.decode(block)
    assert fields_of([line]) == [(b"authorization", token)]
    assert decoder.decode(block + block) == [line, line]
    assert Decoder(HARD, MOST).decode(block) != [line]
    assert fields_of(decoder.decode(first + string(b"cookie") + string(token, huffman))) == [(b"cookie", token)]


def test_what_a_connection_remembers_stays_bounded() -> None:
    decoder = Decoder(HARD, MOST)
    for number in range(200):
        block = b"\x10" + string(b"authorization") + string(b"%0*d" % (number * 20, number))
        for _ in range(2):
            assert fields_of(decoder.decode(block)) == [(b"authorization", b"%0*d" % (number * 20, number))]
        held = decoder._own.items()
        assert sum(len(spelt[1]) + len(line.name) + len(line.value) for spelt, line in held) <= 8 << 10


def test_what_a_connection_remembers_of_short_credentials_takes_little_memory() -> None:
    block = b"".join(b"\x10" + string(b"cookie") + string(b"%d" % number) for number in range(2_000))
    decoders = [Decoder(HARD << 10, 4_000) for _ in range(10)]
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for decoder in decoders:
            decoder.decode(block)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        if started:
            tracemalloc.stop()
    assert held <= len(decoders) * (16 << 10)


def test_what_outlives_a_connection_stays_bounded() -> None:
    for number in range(5_000):
        Decoder(HARD, MOST).decode(b"\0" + string(b"x") + string(b"%d" % number))
    Decoder(HARD, MOST).decode(b"\0" + string(b"y") + string(b"z" * 1000))
    Decoder(HARD, MOST).decode(b"\x40" + string(b"y") + string(b"z"))
    assert len(memory) <= 4096
    assert (b"x", string(b"4999")) in memory
    assert not [field for field in memory if field[0] == b"y"]


def test_fields_far_beyond_their_limit_end_the_connection() -> None:
    assert len(Decoder(HARD, 10).decode(b"\x82" * 10)) == 10
    with pytest.raises(ConnectionFault) as caught:
        Decoder(HARD, 10).decode(b"\x82" * 11)
    assert caught.value.code.name == "ENHANCE_YOUR_CALM"


# --- against the other library ----------------------------------------------------------------------------------

_texts = st.binary(max_size=12) | st.sampled_from([b"v" * 130, b"grpc-status", b"\x00\xff", b"x" * 3000])


@st.composite
def _strings(draw: st.DrawFn) -> bytes:
    text, huffman = draw(_texts), draw(st.booleans())
    octets = string(text, huffman)
    if huffman and draw(st.integers(0, 3)) == 0:
        octets = integer(len(text), 7, 0x80) + text  # whatever those bits say
    if draw(st.integers(0, 19)) == 0:
        octets = string(text, huffman, said=draw(st.sampled_from([0, 1, 126, 127, 128, 1 << 20, 1 << 32, 1 << 34])))
    return octets


@st.composite
def _representations(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 9))
    index = draw(st.integers(0, 66) | st.sampled_from([0, 61, 62, 63, 127, 128, 200, 1 << 16, (1 << 32) - 1]))
    if kind < 4:
        return integer(index, 7, 0x80, draw(st.sampled_from([0, 0, 0, 1])))
    if kind == 4:
        return integer(draw(st.sampled_from([0, 30, 31, 32, 40, 100, 4095, 4096, 4097, 1 << 20])), 5, 0x20)
    prefix, first = draw(st.sampled_from([(6, 0x40), (6, 0x40), (4, 0), (4, 0x10)]))
    index = draw(st.sampled_from([0, 0, 1, 15, 31, 61, 62, 63, 64, 90]))
    return integer(index, prefix, first) + (b"" if index else draw(_strings())) + draw(_strings())


@st.composite
def _hostile(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    block = bytearray(b"".join(draw(st.lists(_representations(), max_size=5))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        if block:
            block[draw(st.integers(0, len(block) - 1))] = draw(st.integers(0, 255))
    return bytes(block[: draw(st.integers(0, len(block)))]) if draw(st.integers(0, 9)) == 0 else bytes(block)


@settings(max_examples=1500, deadline=None)
@given(st.lists(_hostile(), min_size=1, max_size=6))
@example([b"\x3f\xff\xff\xff\xff\x0f"])
@example([b"\xff\x80\x80\x80\x80\x00"])
def test_hostile_blocks_meet_the_same_fate_as_in_hpack(blocks: list[bytes]) -> None:
    ours, theirs = Decoder(HARD, MOST), hpack.Decoder(HARD)
    for block in blocks:
        expected = _reference(theirs, block)
        found = _decode(ours, block)
        assert found == expected, block.hex()
        if found is None:
            return


@settings(max_examples=400, deadline=None)
@given(st.binary(min_size=1, max_size=300))
@example(b"\xff" * 30)
@example(b"\x1f" * 130)
def test_any_huffman_string_is_decoded_as_hpack_does_or_refused_by_both(coded: bytes) -> None:
    block = b"\0\x01a" + integer(len(coded), 7, 0x80) + coded
    assert _decode(Decoder(HARD, MOST), block) == _reference(hpack.Decoder(HARD), block)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=20_000))
def test_huffman_strings_of_any_length(text: bytes) -> None:
    assert huffman.decode(_huffman.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), max_size=8), max_size=8),
    st.booleans(),
    st.lists(st.sampled_from([0, 64, 1000, 4096]), max_size=3),
)
def test_what_hpack_encodes_we_decode(lists: list[list[Field]], huffman: bool, sizes: list[int]) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(HARD, MOST)
    for number, fields in enumerate(lists):
        for size in sizes[number : number + 2]:
            encoder.header_table_size = size
        assert fields_of(decoder.decode(encoder.encode(fields, huffman=huffman))) == fields
