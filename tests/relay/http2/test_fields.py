"""What a decoded block says, and what is malformed (RFC 9113 §8.2, §8.3)."""

from __future__ import annotations

import pytest

from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import (
    Field,
    RequestHead,
    RequestTrailers,
    ResponseHead,
    TrailerBlock,
    lines_of,
    list_size,
)
from tests.relay.http2.ends import REQUEST, RESPONSE, TRAILERS

PSEUDO = REQUEST[:4]
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def test_a_request_says() -> None:
    head = RequestHead(lines_of(REQUEST))
    assert (head.method, head.scheme, head.path, head.authority) == (b"POST", b"http", b"/a.B/C", b"localhost")
    assert (head.fields, head.length, head.fault, head.oversize) == (REQUEST[4:], -1, None, False)
    assert RequestHead(lines_of((*PSEUDO[:3],))).authority is None


@pytest.mark.parametrize(
    "fields",
    [
        *[tuple(field for field in REQUEST if field[0] != name) for name in (b":method", b":scheme", b":path")],
        *[(*REQUEST[:at], REQUEST[at], *REQUEST[at:]) for at in range(4)],
        *[(*REQUEST[:at], (REQUEST[at][0], b""), *REQUEST[at + 1 :]) for at in range(3)],
        (*PSEUDO, (b":protocol", b"websocket")), (*PSEUDO, (b":status", b"200")), (*PSEUDO, (b":", b"x")),
        (*PSEUDO[:3], (b"te", b"trailers"), PSEUDO[3]), (*PSEUDO, (b"x", b"y"), (b":path", b"/a.B/D")), (),
        ((b":method", b"CONNECT"), (b":authority", b"localhost")),
        *[(*PSEUDO[:2], (b":path", path)) for path in (b"/a\x00", b"/a\n", b"/a\r\n", b" /a", b"/a ", b"\t")],
    ],
)  # fmt: skip
def test_malformed_pseudo_headers(fields: tuple[Field, ...]) -> None:
    fault = RequestHead(lines_of(fields)).fault
    assert fault is not None
    assert fault.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "field",
    [
        *[(bytes((octet,)), b"v") for octet in range(256) if octet not in TOKEN],
        (b"", b"v"), (b"a b", b"v"), (b"Ab", b"v"), (b"a:", b"v"), (b"caf\xc3\xa9", b"v"), (b"a\n", b"v"),
        *[(b"a", value) for value in (b"\x00", b"a\x00b", b"a\r", b"a\nb", b"\r\n", b"a\r\nb: c")],
        (b"connection", b"keep-alive"), (b"proxy-connection", b"x"), (b"keep-alive", b"x"), (b"upgrade", b"h2c"),
        (b"transfer-encoding", b"chunked"), (b"te", b"gzip"), (b"te", b"trailers, deflate"), (b"te", b""),
    ],
)  # fmt: skip
def test_malformed_fields_wherever_they_stand(field: Field) -> None:
    for _ in range(2):  # the second time what is known to be good would be
        for found in (
            RequestHead(lines_of((*PSEUDO, field))),
            ResponseHead(lines_of((*RESPONSE, field))),
            TrailerBlock(lines_of((*TRAILERS, field))),
            RequestTrailers(lines_of((*TRAILERS, field))),
        ):
            assert found.fault is not None, found
            assert found.fault.code is ErrorCode.PROTOCOL_ERROR
            assert found.fault.__traceback__ is None


@pytest.mark.parametrize(
    "field",
    [
        (b"a", b""), (b"a", b"b c"), (b"a", b"b\tc"), (b"a", b"\xff\xfe"), (b"a", b"\x01\x7f"), (b"te", b"trailers"),
        *[(bytes((octet,)), b"v") for octet in b"!#$%&'*+-.^_`|~09az"], (b"x" * 300, b"y" * 300),
    ],
)  # fmt: skip
def test_well_formed_fields(field: Field) -> None:
    for _ in range(2):
        assert RequestHead(lines_of((*PSEUDO, field))).fault is None
        assert ResponseHead(lines_of((*RESPONSE, field))).fields[-1] == field
        assert TrailerBlock(lines_of((field,))).fields == (field,)
        assert RequestTrailers(lines_of((field,))).fields == (field,)


@pytest.mark.parametrize("value", [b" a", b"a ", b"\ta", b"a\t", b" ", b"\t \t"])
def test_whitespace_around_a_request_value_is_malformed(value: bytes) -> None:
    """RFC 9113 §8.2.1."""
    assert RequestHead(lines_of((*PSEUDO, (b"a", value)))).fault is not None
    assert RequestTrailers(lines_of(((b"a", value),))).fault is not None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"a", b" b c\t", b"b c"), (b"a", b" \t", b""), (b"grpc-message", b"a b", b"a b"),
        (b"grpc-message", b" a b ", b"%20a b%20"), (b"grpc-message", b"\t a\t", b"%09%20a%09"),
        (b"grpc-message", b"  ", b"%20%20"), (b"grpc-message", b"100% ", b"100%%20"), (b"grpc-message", b"", b""),
    ],
)  # fmt: skip
def test_whitespace_around_an_answers_value_is_taken_off_and_a_message_keeps_it(
    name: bytes, value: bytes, expected: bytes
) -> None:
    """RFC 9110 §5.5; gRPC servers send what an application wrote."""
    for _ in range(2):
        assert TrailerBlock(lines_of(((b"grpc-status", b"3"), (name, value)))).fields == (
            (b"grpc-status", b"3"),
            (name, expected),
        )
        assert ResponseHead(lines_of((*RESPONSE, (name, value)))).fields[-1] == (name, expected)


def test_a_status_is_three_digits() -> None:
    assert [ResponseHead(lines_of(((b":status", value),))).status for value in (b"100", b"200", b"599", b"999")] == [
        100,
        200,
        599,
        999,
    ]
    for value in (b"101", b"099", b"2", b"20x", b"+20", b" 200", b"200 ", b"2000", b"", b"\xb2\xb2\xb2"):
        assert ResponseHead(lines_of(((b":status", value),))).fault is not None


def test_a_response_without_content_may_declare_a_length() -> None:
    """RFC 9113 §8.1.1."""
    declared = (b"content-length", b"5")
    lengths = [ResponseHead(lines_of(((b":status", status), declared))).length for status in (b"200", b"204", b"304")]
    assert lengths == [5, -1, -1]
    assert ResponseHead(lines_of(((b":status", b"304"), (b"content-length", b"five")))).fault is not None


def test_the_size_of_a_list() -> None:
    """RFC 9113 §6.5.2: names and values, and 32 for each field."""
    assert list_size([]) == 0
    assert list_size(lines_of([(b"abc", b"de"), (b"", b"")])) == 5 + 64


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key", b"x-auth-token", b"a-secret",
        b"x-api-key-bin",
    ],
)  # fmt: skip
def test_credentials_are_fields_like_others(name: bytes) -> None:
    field = (name, b"czNjcmV0")
    for head in (
        RequestHead(lines_of((*REQUEST, field))),
        ResponseHead(lines_of((*RESPONSE, field))),
        RequestTrailers(lines_of((field,))),
    ):
        assert head.fault is None
        assert field in head.fields
    assert RequestHead(lines_of((*REQUEST, (name, b"a\0")))).fault is not None
