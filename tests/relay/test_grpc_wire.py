"""gRPC over HTTP/2: messages cut from bytes however they come, compression within bounds, and the text of headers."""

from __future__ import annotations

import base64
import binascii
import gzip
import tracemalloc
import zlib
from collections.abc import Iterable
from itertools import pairwise
from urllib.parse import unquote_to_bytes

import hpack
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.contract import Code, Deny, Detail
from sidecar.relay.grpc_wire import (
    HOLD,
    Deframer,
    Passage,
    WireFault,
    cardinality,
    denial_block,
    frame,
    http_refusal_block,
    is_binary_value,
    parse_timeout,
    percent_decode,
    percent_encode,
    status_details,
    status_of,
    timeout_field,
    unframe,
)

LIMIT = 1 << 20


def prefixed(message: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


def _cut(octets: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(at), len(octets)]
    return [octets[begin:end] for begin, end in pairwise(places)]


def _decode(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]


_messages = st.lists(
    st.builds(prefixed, st.binary(max_size=20) | st.integers(0, 3 * HOLD).map(bytes), st.sampled_from([0, 1])),
    max_size=6,
)
_cuts = st.lists(st.integers(0, 3 * HOLD), max_size=8)

# --- messages cut from bytes ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(_messages, _cuts)
def test_a_passage_lets_everything_through_and_short_messages_whole(messages: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(messages)
    passage, out, starts = Passage(LIMIT), b"", {0}
    for message in messages:
        starts.add(max(starts) + len(message))
    for piece in _cut(octets, [at for at in cuts if at < len(octets)]):
        if piece:
            out += passage.feed(piece)
        # What has gone ends between messages, or within one too long to be held.
        inside = max(start for start in starts if start <= len(out))
        if inside != len(out):
            size = int.from_bytes(octets[inside + 1 : inside + 5], "big")
            assert size + 5 > HOLD
    assert out == octets
    assert passage.count == len(messages)
    passage.finish()


@settings(max_examples=300, deadline=None)
@given(_messages, _cuts)
def test_a_deframer_gives_each_message_once(messages: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(messages)
    deframer, found, fed = Deframer(LIMIT), [], 0
    for piece in _cut(octets, [at for at in cuts if at < len(octets)]):
        found += deframer.feed(piece)
        fed += len(piece)
        assert deframer.have == fed - sum(map(len, found))
        assert deframer.count == len(found)
    assert found == messages
    assert all(type(message) is bytes for message in found)
    deframer.finish()


@given(_messages)
def test_byte_by_byte(messages: list[bytes]) -> None:
    octets = b"".join(messages)[:3000]
    passage, deframer, whole = Passage(LIMIT), Deframer(LIMIT), Deframer(LIMIT)
    out, found = b"", []
    for at in range(len(octets)):
        out += passage.feed(octets[at : at + 1])
        found += deframer.feed(octets[at : at + 1])
    assert found == (whole.feed(octets) if octets else [])
    assert octets.startswith(out)
    assert passage.count >= deframer.count


@pytest.mark.parametrize("make", [Passage, Deframer])
@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("octets", "code", "reason"),
    [
        (prefixed(b"x" * 100), Code.RESOURCE_EXHAUSTED, "message.too_large"),
        (b"\x00" + (100).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED, "message.too_large"),
        (b"\x01\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED, "message.too_large"),
        (prefixed(b"") + prefixed(b"x" * 100), Code.RESOURCE_EXHAUSTED, "message.too_large"),
        (b"\x02" + bytes(4), Code.INTERNAL, "message.flag"),
        (b"\xff" + bytes(4) + b"abc", Code.INTERNAL, "message.flag"),
        (prefixed(b"a" * 50) + b"\x80" + bytes(4), Code.INTERNAL, "message.flag"),
    ],
)
def test_what_no_message_may_be(
    make: type[Passage] | type[Deframer], step: int, octets: bytes, code: Code, reason: str
) -> None:
    side = make(99)

    def feed() -> None:
        for at in range(0, len(octets), step):
            side.feed(octets[at : at + step])

    with pytest.raises(WireFault) as caught:
        feed()
    assert (caught.value.deny.code, caught.value.deny.reason) == (code, reason)


def test_what_is_amid_a_long_message_may_be_passed_by() -> None:
    message = prefixed(bytes(3 * HOLD))
    passage, left = Passage(LIMIT), len(message) - HOLD - 1
    assert not passage.amid(1)
    assert passage.feed(message[: HOLD + 1]) == message[: HOLD + 1]
    assert passage.amid(left)
    assert not passage.amid(left + 1)
    passage.skip(left - 1)
    with pytest.raises(WireFault):
        passage.finish()
    assert not passage.amid(2)
    assert passage.feed(message[-1:] + prefixed(b"abc")[:6]) == message[-1:]
    assert passage.count == 1
    assert not passage.amid(1)  # a short part of what follows waits: nothing may overtake it


@pytest.mark.parametrize("make", [Passage, Deframer])
def test_a_message_of_the_limit_passes(make: type[Passage] | type[Deframer]) -> None:
    side = make(99)
    side.feed(prefixed(b"x" * 99))
    side.finish()
    assert side.count == 1


@pytest.mark.parametrize("make", [Passage, Deframer])
@pytest.mark.parametrize("cut", [1, 4, 5, 6, 50, 104, 20_004])
def test_a_stream_that_ends_within_a_message(make: type[Passage] | type[Deframer], cut: int) -> None:
    side = make(LIMIT)
    octets = prefixed(b"y" * (100 if cut < 105 else 20_000))
    side.feed(octets[:cut])
    with pytest.raises(WireFault) as caught:
        side.finish()
    assert (caught.value.deny.code, caught.value.deny.reason) == (Code.INTERNAL, "message.truncated")


def test_how_much_is_held() -> None:
    """A long message goes on as it comes; a short one waits until it is whole."""
    passage = Passage(LIMIT)
    short, long = prefixed(bytes(HOLD - 5)), prefixed(bytes(HOLD - 4))
    assert passage.feed(short[:-1]) == b""
    assert passage.feed(short[-1:] + long[:5]) == short + long[:5]
    assert passage.feed(long[5:10]) == long[5:10]
    assert passage.count == 2


def test_messages_in_scraps_are_held_as_bytes() -> None:
    """An object for each scrap would cost many times what it says."""
    octets = prefixed(bytes(range(256)) * 2000)
    deframer = Deframer(LIMIT)
    tracemalloc.start()
    try:
        for at in range(0, len(octets) - 2, 2):
            assert deframer.feed(octets[at : at + 2]) == []
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert deframer.have > 500_000
    assert held < 1.3 * deframer.have
    assert deframer.feed(octets[deframer.have :]) == [octets]


@settings(max_examples=100)
@given(st.lists(st.sampled_from([1, 3, 1023, 1024, 5000]), min_size=1, max_size=30))
def test_scraps_and_long_pieces_in_any_order(sizes: list[int]) -> None:
    octets = prefixed(bytes(number % 253 for number in range(sum(sizes))))
    deframer, at, found = Deframer(LIMIT), 0, []
    for size in [5, *sizes]:
        found += deframer.feed(octets[at : at + size])
        at += size
    assert found == [octets]


@pytest.mark.parametrize(
    ("count", "ended", "fault"),
    [(0, False, False), (1, False, False), (1, True, False), (0, True, True), (2, False, True)],
)
def test_one_message_on_a_unary_side(count: int, ended: bool, fault: bool) -> None:
    if not fault:
        cardinality(count, ended)
        return
    with pytest.raises(WireFault) as caught:
        cardinality(count, ended)
    assert caught.value.deny.code is Code.UNIMPLEMENTED


# --- compression ------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3000), st.sampled_from([b"", b"identity", b"gzip", b"deflate", b"snappy"]))
def test_a_frame_opens_to_what_it_was_made_of(raw: bytes, encoding: bytes) -> None:
    packed = frame(raw, encoding)
    assert packed[0] == (encoding in (b"gzip", b"deflate"))
    assert int.from_bytes(packed[1:5], "big") == len(packed) - 5
    assert unframe(packed, encoding, len(raw)) == raw


def test_what_others_compress_opens() -> None:
    raw = b"some text, some text, some text"
    assert unframe(prefixed(gzip.compress(raw), 1), b"gzip", 100) == raw
    assert unframe(prefixed(zlib.compress(raw), 1), b"deflate", 100) == raw
    assert unframe(prefixed(raw), b"gzip", 100) == raw, "a message need not be compressed where it may be"


_TEXT = b"text " * 50


@pytest.mark.parametrize(
    ("octets", "encoding", "code", "reason"),
    [
        (_TEXT, b"", Code.INTERNAL, "message.flag"),
        (_TEXT, b"identity", Code.INTERNAL, "message.flag"),
        (_TEXT, b"snappy", Code.UNIMPLEMENTED, "message.encoding"),
        (_TEXT, b"gzip", Code.INTERNAL, "message.compression"),
        (b"", b"gzip", Code.INTERNAL, "message.compression"),
        (zlib.compress(_TEXT), b"gzip", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT), b"deflate", Code.INTERNAL, "message.compression"),
        (zlib.compress(_TEXT)[2:-4], b"deflate", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT)[:-1], b"gzip", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT)[:-9], b"gzip", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT)[:-5] + b"\x00\x00\x00\x00\x00", b"gzip", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT) + b"\x00", b"gzip", Code.INTERNAL, "message.compression"),
        (gzip.compress(_TEXT) + gzip.compress(_TEXT), b"gzip", Code.INTERNAL, "message.compression"),
        (zlib.compress(_TEXT) + b"tail", b"deflate", Code.INTERNAL, "message.compression"),
    ],
)
def test_what_does_not_open(octets: bytes, encoding: bytes, code: Code, reason: str) -> None:
    with pytest.raises(WireFault) as caught:
        unframe(prefixed(octets, 1), encoding, 1000)
    assert (caught.value.deny.code, caught.value.deny.reason) == (code, reason)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_exactly_the_limit_opens(encoding: bytes) -> None:
    for size in (0, 1, 1000, 100_000):
        assert unframe(frame(bytes(size), encoding), encoding, size) == bytes(size)
        assert unframe(frame(bytes(size + 1), encoding), encoding, size) is None


def test_a_bomb_unfolds_no_further_than_the_limit() -> None:
    bomb = prefixed(gzip.compress(bytes(64 << 20), 9), 1)
    assert len(bomb) < 70_000
    tracemalloc.start()
    try:
        assert unframe(bomb, b"gzip", 1 << 20) is None
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


# --- the text of headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"0S", 0.0),
        (b"99999999H", 99_999_999 * 3600.0), (b"00000001S", 1.0),
        *[(value, None) for value in (b"", b"S", b"1", b"1s", b"1h", b"123456789S", b"-1S", b"+1S", b"1.5S", b" 1S",
                                      b"1S ", b"1S\n", b"15 seconds", b"1SS", b"0x1S", b"\xb2S", b"1\x00S")],
    ],
)  # fmt: skip
def test_timeouts(value: bytes, seconds: float | None) -> None:
    found = parse_timeout(value)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(-10, 1e12))
def test_what_is_left_is_said_in_eight_digits_and_never_more(seconds: float) -> None:
    name, value = timeout_field(seconds)
    found = parse_timeout(value)
    assert name == b"grpc-timeout"
    assert found is not None
    assert found <= max(seconds, 1e-6) * (1 + 1e-12)
    if 0.001 < seconds < 99_999_999:
        assert found > seconds * 0.99
    assert found > 0


@given(st.text(st.characters(codec="utf-8")))
def test_a_message_survives_and_stands_as_headers_allow(message: str) -> None:
    value = percent_encode(message)
    assert all(0x20 <= octet <= 0x7E for octet in value)
    assert value == value.strip(b" ")
    assert percent_decode(value) == message
    assert unquote_to_bytes(value) == message.encode()


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("", b""), ("plain", b"plain"), ("a b", b"a b"), ("100%", b"100%25"), ("\r\n\t", b"%0D%0A%09"),
        ("é", b"%C3%A9"),
        ("\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n",
         b"%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A"),
        (" around ", b"%20around%20"), ("  ", b"%20%20"), ("\x7f~", b"%7F~"), ("\ud800", b"?"),
    ],
)  # fmt: skip
def test_messages_on_the_wire(message: str, value: bytes) -> None:
    assert percent_encode(message) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"%41%zz%4", "A%zz%4"), (b"%", "%"), (b"%%41", "%A"), (b"%c3%a9", "é"), (b"%FF", "�"), (b"a%20b", "a b"),
        (b"%E2%98", "�"), (b"\xff", "�"),
    ],
)  # fmt: skip
def test_messages_that_are_not_well_formed_stay_as_far_as_they_are(value: bytes, message: str) -> None:
    """PROTOCOL-HTTP2.md, "Responses": decoding must not error out, nor discard what does not decode."""
    assert percent_decode(value) == message


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.booleans())
def test_binary_values(values: list[bytes], padded: bool) -> None:
    encoded = [base64.b64encode(value) for value in values]
    assert is_binary_value(b",".join(value if padded else value.rstrip(b"=") for value in encoded))


@pytest.mark.parametrize(
    "value",
    [b"A", b"AAAAA", b"AA=", b"AAA==", b"AA===", b"=", b"====", b"AAAA=", b"A=AA", b"AA-_", b"AA AA", b"AA\n",
     b"AA==AA==", b"A,AA", b"AA;AA", b"\xff\xff", b"AA\x00A", b"AA==,A", b"*", b" AA", b"AA "],
)  # fmt: skip
def test_what_is_no_binary_value(value: bytes) -> None:
    assert not is_binary_value(value)


@given(st.text("AQw+/=,- \n", max_size=12).map(str.encode))
def test_binary_values_are_what_the_library_decodes(value: bytes) -> None:
    """Of one value without commas: base64 with all of its padding, or none."""
    if b"," in value:
        return
    whole = value if value.endswith(b"=") else value + b"=" * (-len(value) % 4)
    try:
        base64.b64decode(whole, validate=True)
        expected = len(whole) % 4 == 0 and not value.endswith(b"===")
    except binascii.Error:
        expected = False
    assert is_binary_value(value) == expected


def test_a_long_value_that_is_nearly_base64_is_refused_at_once() -> None:
    assert not is_binary_value(b"A" * 1_000_001 + b"!")
    assert not is_binary_value(b"AA," * 300_000 + b"A")


# --- denials ----------------------------------------------------------------------------------------------------------


def _deny() -> Deny:
    info = error_details_pb2.ErrorInfo(reason="TOO_MANY", domain="langtrain", metadata={"a": "b"})
    packed = any_pb2.Any()
    packed.Pack(info)
    return Deny(
        Code.RESOURCE_EXHAUSTED, "limit.rate", "slow down: 100 % ☺", (Detail(packed.type_url, packed.value),) * 2,
        ((b"retry-after", b"3"),),
    )  # fmt: skip


def test_details_are_a_status_as_googles_own_code_reads_it() -> None:
    deny = _deny()
    status = status_pb2.Status.FromString(status_details(deny))
    assert (status.code, status.message, len(status.details)) == (8, deny.public, 2)
    info = error_details_pb2.ErrorInfo()
    assert status.details[1].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("TOO_MANY", {"a": "b"})


@given(st.sampled_from(Code), st.text(max_size=300), st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=300))))
def test_any_details_are_a_status(code: Code, public: str, details: list[tuple[str, bytes]]) -> None:
    deny = Deny(code, "a.b", public, tuple(Detail(url, value) for url, value in details))
    status = status_pb2.Status.FromString(status_details(deny))
    assert (status.code, status.message) == (int(code), public)
    assert [(detail.type_url, detail.value) for detail in status.details] == details


def test_a_denial_before_and_after_a_head() -> None:
    deny = _deny()
    first, later = _decode(denial_block(deny, False)), _decode(denial_block(deny, True))
    assert first == [(b":status", b"200"), (b"content-type", b"application/grpc"), *later]
    assert later[:2] == [(b"grpc-status", b"8"), (b"grpc-message", b"slow down: 100 %25 %E2%98%BA")]
    assert later[3:] == [(b"retry-after", b"3")]
    name, value = later[2]
    assert name == b"grpc-status-details-bin"
    assert is_binary_value(value)
    assert base64.b64decode(value + b"=" * (-len(value) % 4)) == status_details(deny)
    assert _decode(denial_block(Deny(Code.NOT_FOUND, "a.b", "gone"), True)) == [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"gone"),
    ]


def test_a_refusal_in_http() -> None:
    found = dict(_decode(http_refusal_block(415, Deny(Code.INVALID_ARGUMENT, "a.b", "not gRPC"))))
    assert found[b":status"] == b"415"
    assert found[b"grpc-status"] == b"3"


@pytest.mark.parametrize(
    ("value", "status"), [(b"0", 0), (b"16", 16), (b"99", 99), (b"", -1), (b"x", -1), (b"-1", -1), (b"1000", -1)]
)
def test_the_status_of_trailers(value: bytes, status: int) -> None:
    assert status_of(((b"a", b"7"), (b"grpc-status", value), (b"grpc-status", b"9"))) == status
    assert status_of(((b"a", b"7"),)) == -1
