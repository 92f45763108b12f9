"""Canonical requests only: every odd one is refused with its reason before any rule sees it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import Code, Deny, Headers
from sidecar.relay.http2.blocks import HeaderBlocks, encode
from sidecar.relay.http2.errors import ConnectionFault
from sidecar.relay.http2.fields import Field, RequestHead, lines_of
from sidecar.relay.http2.limits import Limits
from sidecar.relay.requests import SINGLE, HttpRefusal, Request, refuse
from sidecar.relay.requests import _names as names
from sidecar.relay.requests import _starts as starts

VECTORS = Path(__file__).parent.parent / "vectors"
BASE: dict[bytes, bytes] = {
    b":method": b"POST", b":scheme": b"https", b":path": b"/inference.GRPCInferenceService/ModelInfer",
    b":authority": b"example.org:8443", b"te": b"trailers", b"content-type": b"application/grpc",
}  # fmt: skip


def verdict(fields: list[Field]) -> str:
    """ "taken", the HTTP status of a refusal, CODE and reason of a denial, or "malformed", which is a reset."""
    try:
        head = HeaderBlocks(Limits(), of_answers=False).request(encode(fields))
    except ConnectionFault as fault:
        return f"connection {fault.code.name}"
    if head.fault is not None:
        return "malformed"
    refusal = refuse(head)
    if refusal is None:
        return "taken"
    if isinstance(refusal, HttpRefusal):
        return f"{refusal.status} {refusal.reason}"
    return f"{refusal.code.name} {refusal.reason}"


def _with(*more: Field, **changes: bytes | None) -> list[Field]:
    """The base request; `path=b"x"` puts another pseudo-header or header in place, None takes it out."""
    fields = dict(BASE)
    for name, value in changes.items():
        key = name.replace("_", "-").encode()
        key = b":" + key if b":" + key in BASE else key
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return [*fields.items(), *more]


def test_the_base_is_taken() -> None:
    assert verdict(_with()) == "taken"


# --- :path ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"/a/b",
        b"/A.B.C/d",
        b"/_a._b/_",
        b"/a1.b2/c3",
        b"/inference.GRPCInferenceService/ModelInfer",
        b"/a/" + b"b" * 4000,
    ],
)
def test_paths_that_are_taken(path: bytes) -> None:
    assert verdict(_with(path=path)) == "taken"


@pytest.mark.parametrize(
    "path",
    [
        b"a/b", b"a.B/C", b"/", b"//", b"/a", b"/a/", b"//b", b"/a//b", b"/a/b/", b"/a/b/c", b"/../a/b", b"/a/../b",
        b"/./a", b"/a.B/../C", b"/a/b%43", b"/a%2Fb", b"/%61/b", b"/a/b?x", b"/a/b?", b"/a/b#f", b"/a/b;v", b"/a b/c",
        b"/a/b c",
        b"/.a/b", b"/a./b", b"/a..b/c", b"/a/.b", b"/a/b.c", b"/1a/b", b"/a/1b", b"/a.1/b", b"/a-b/c", b"/a/b-c",
        b"/a/b~", b"*", b"http://h/a/b", b"/a/b\\c", b"\\a\\b", b"/a/\xc3\xa9", b"/\xff/b", b"/a/b\xff", b"/a/b\x7f",
        b"/a/b\x01",
        b"/a/b\t\tc", b"/A/B,/C/D", b"/a/b\xa0",
    ],
)  # fmt: skip
def test_paths_outside_the_pattern(path: bytes) -> None:
    assert verdict(_with(path=path)) == "UNIMPLEMENTED request.path"


@pytest.mark.parametrize(
    "path", [b"", b"/a/b\n", b"/a/b\r\n", b"\n/a/b", b"/a/b\x00", b"/a\x00/b", b"/a/b ", b" /a/b", b"/a/b\t"]
)
def test_paths_that_no_field_may_hold(path: bytes) -> None:
    assert verdict(_with(path=path)) == "malformed"


@given(st.binary(max_size=30))
def test_any_path_is_the_pattern_or_refused(path: bytes) -> None:
    found = verdict(_with(path=path))
    service, slash, method = path[1:].partition(b"/")
    parts = [*service.split(b"."), method]
    names = all(part.isascii() and part.decode().isidentifier() for part in parts)
    assert (found == "taken") == (path[:1] == b"/" and slash == b"/" and names)


# --- call headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SINGLE))
@pytest.mark.parametrize("same", [True, False])
def test_every_call_header_twice(name: bytes, same: bool) -> None:
    values = {
        b"content-type": b"application/grpc", b"te": b"trailers", b"grpc-timeout": b"1S", b"content-length": b"7",
    }  # fmt: skip
    first = values.get(name, b"AAAA")
    second = first if same or name in (b"te", b"content-length") else first + first[-1:]
    found = verdict([*(field for field in _with(authority=None) if field[0] != name), (name, first), (name, second)])
    assert found == "INVALID_ARGUMENT request.repeated_header"


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path", b":authority"])
def test_every_pseudo_header_twice(name: bytes) -> None:
    assert verdict([(name, BASE[name]), *BASE.items()]) == "malformed"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (_with((b"host", b"example.org:8443")), "INVALID_ARGUMENT request.host"),
        (_with((b"host", b"other")), "INVALID_ARGUMENT request.host"),
        (_with((b"host", b"example.org"), authority=None), "taken"),
        (_with(authority=None), "taken"),
        (_with((b"host", b"a b"), authority=None), "INVALID_ARGUMENT request.authority"),
        (_with((b"host", b""), authority=None), "INVALID_ARGUMENT request.authority"),
        (_with(te=None), "INVALID_ARGUMENT request.te"),
        (_with(te=b"gzip"), "malformed"),
        (_with(te=b"trailers, gzip"), "malformed"),
        (_with(te=b"Trailers"), "malformed"),
        (_with(method=b"GET"), "405 request.method"),
        (_with(method=b"post"), "405 request.method"),
        (_with(method=b"PUT"), "405 request.method"),
        (_with(scheme=b"ftp"), "INVALID_ARGUMENT request.scheme"),
        (_with(scheme=b"HTTP"), "INVALID_ARGUMENT request.scheme"),
        (_with((b"connection", b"close")), "malformed"),
        (_with((b"content-length", b"5")), "taken"),
        (_with((b"content-length", b"five")), "malformed"),
        (_with((b"content-length", b"5"), (b"content-length", b"6")), "malformed"),
        (_with((b":path", b"/a/b")), "malformed"),
        (_with((b":unknown", b"x")), "malformed"),
    ],
)
def test_call_headers(fields: list[Field], expected: str) -> None:
    assert verdict(fields) == expected


@pytest.mark.parametrize(
    "value", [b"localhost", b"127.0.0.1:80", b"[::1]:443", b"a_b.c-d", b"%2Frun%2Fmodel.sock", b"a"]
)
def test_authorities_that_are_taken(value: bytes) -> None:
    assert verdict(_with(authority=value)) == "taken"


@pytest.mark.parametrize(
    "value", [b"", b"user@host", b"a/b", b"a b", b"a?b", b"a#b", b"a\\b", b"\xc3\xa9", b'"a"', b"a\x7f"]
)
def test_authorities_that_are_none(value: bytes) -> None:
    assert verdict(_with(authority=value)) == "INVALID_ARGUMENT request.authority"


@pytest.mark.parametrize(
    "value", [b"application/grpc", b"application/grpc+proto", b"application/grpc+json",
              b"application/grpc;charset=utf-8", b"application/grpc+proto; a=b", b"application/grpc ;a"],
)  # fmt: skip
def test_content_types_that_are_taken(value: bytes) -> None:
    assert verdict(_with(content_type=value)) == "taken"


@pytest.mark.parametrize(
    "value", [b"", b"text/html", b"application/grpc-web", b"application/grpc-web+proto", b"application/grpcx",
              b"application/json", b"Application/grpc", b"application/grpc+", b"application/grpc+proto,text/html",
              b"application/grpc, text/html",
              b"application/grpc+a b", b"application/grpc+(a)", b"application/grpc,application/grpc"],
)  # fmt: skip
def test_content_types_that_are_not_grpc(value: bytes) -> None:
    """PROTOCOL-HTTP2.md: 415 for what does not begin with application/grpc; here for what is not it."""
    assert verdict(_with(content_type=value)) == "415 request.content_type"


def test_no_content_type() -> None:
    assert verdict(_with(content_type=None)) == "415 request.content_type"


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"1s", b"-1S", b"123456789S", b"1.5S", b"15 seconds", b"1S,2S"])
def test_timeouts_that_are_none(value: bytes) -> None:
    assert verdict(_with((b"grpc-timeout", value))) == "INVALID_ARGUMENT request.timeout"


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ((b"x-a", b"b\r\nc: d"), "malformed"), ((b"x-a", b"b\nc"), "malformed"), ((b"x-a", b"b\rc"), "malformed"),
        ((b"x-a", b"b\x00"), "malformed"), ((b"x-\x00", b"b"), "malformed"), ((b"X-A", b"b"), "malformed"),
        ((b"x-\xc3\xa9", b"b"), "malformed"), ((b"", b"b"), "malformed"), ((b"x a", b"b"), "malformed"),
        ((b"x-a", b" b"), "malformed"), ((b"x-a", b"b "), "malformed"),
        ((b"x!a", b"b"), "INVALID_ARGUMENT request.metadata_name"),
        ((b"x|a", b"b"), "INVALID_ARGUMENT request.metadata_name"),
        ((b"x-a", b"b\tc"), "INVALID_ARGUMENT request.metadata_value"),
        ((b"x-a", b"caf\xc3\xa9"), "INVALID_ARGUMENT request.metadata_value"),
        ((b"x-a", b"\x7f"), "INVALID_ARGUMENT request.metadata_value"),
        ((b"x-a", b"\x01"), "INVALID_ARGUMENT request.metadata_value"),
        ((b"x-bin", b"***"), "INVALID_ARGUMENT request.metadata_base64"),
        ((b"x-bin", b"AAAAA"), "INVALID_ARGUMENT request.metadata_base64"),
        ((b"x-bin", b"AA-_"), "INVALID_ARGUMENT request.metadata_base64"),
        ((b"grpc-trace-bin", b"?"), "INVALID_ARGUMENT request.metadata_base64"),
        ((b"x-bin", b"AAE="), "taken"), ((b"x-bin", b"AAE"), "taken"), ((b"x-bin", b""), "taken"),
        ((b"x-a", b""), "taken"), ((b"x_a.b-c", b"~ !"), "taken"), ((b"x-binary", b"***"), "taken"),
    ],
)  # fmt: skip
def test_metadata(field: Field, expected: str) -> None:
    assert verdict(_with(field)) == expected


def test_metadata_may_repeat_and_passes_in_order() -> None:
    mine = [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x-bin", b"AA"), (b"x-bin", b"AQ")]
    fields = _with(*mine)
    assert verdict(fields) == "taken"
    assert _upstream(fields)[-5:] == mine


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (1, 15_000, "taken"), (1, 17_000, "RESOURCE_EXHAUSTED request.headers_too_large"),
        (122, 1, "taken"), (123, 1, "RESOURCE_EXHAUSTED request.headers_too_large"),
        (1, 1 << 20, "connection ENHANCE_YOUR_CALM"),
    ],
)  # fmt: skip
def test_large_metadata(count: int, size: int, expected: str) -> None:
    assert verdict(_with(*[(b"x-%d" % number, b"v" * size) for number in range(count)])) == expected


# --- what goes on to the model server ---------------------------------------------------------------------------------


def _upstream(fields: list[Field], scheme: bytes = b"http") -> list[Field]:
    request = Request(RequestHead(lines_of(fields)), scheme)
    return _decoded(request.block(Headers(request.fields)))


def _decoded(block: bytes) -> list[Field]:
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]


def test_the_relay_writes_the_pseudo_headers() -> None:
    assert _upstream(_with()) == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", BASE[b":path"]), (b":authority", BASE[b":authority"]),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    assert _upstream(_with((b"host", b"a.example"), authority=None))[3] == (b":authority", b"a.example")
    assert _upstream(_with(authority=None), b"https")[1:4:2] == [(b":scheme", b"https"), (b":authority", b"localhost")]


@pytest.mark.parametrize(
    "name",
    [b"content-length", b"grpc-timeout", b"forwarded", b"x-forwarded-client-cert", b"x-forwarded-for",
     b"x-forwarded-host", b"x-real-ip", b"x-langtrain-identity", b"x-langtrain-"],
)  # fmt: skip
def test_what_stops_here(name: bytes) -> None:
    fields = _with((name, b"1S"), (b"x-mine", b"goes"))
    assert name not in dict(_upstream(fields))
    assert (b"x-mine", b"goes") in _upstream(fields)


def test_what_the_call_says_of_itself_goes_on() -> None:
    for name in (
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"user-agent",
        b"authorization",
        b"traceparent",
        b"x-langtrai",
    ):
        assert (name, b"v") in _upstream(_with((name, b"v")))


def test_fields_that_links_changed() -> None:
    fields = _with((b"x-a", b"1"), (b"x-forwarded-for", b"me"))
    request = Request(RequestHead(lines_of(fields)), b"http")

    def sent(*names: bytes, added: tuple[Field, ...] = ()) -> list[Field]:
        headers = Headers(request.fields)
        headers.edit(frozenset(names), added)
        return _decoded(request.block(headers))

    whole = _upstream(fields)
    long = (b"x-" + b"n" * 200, b"v" * 300)
    assert sent(added=((b"x-added", b"2"), long)) == [*whole, (b"x-added", b"2"), long]
    without = [field for field in whole if field[0] != b"x-a"]
    assert sent(b"x-a") == sent(b"x-a") == without
    assert sent(b"x-a", added=((b"x-a", b"2"),)) == [*without, (b"x-a", b"2")]
    # Whatever links take out, few blocks are kept with a request.
    assert all(sent(b"x-a", b"x-%d" % number) == without for number in range(100))


def test_a_link_may_vouch_for_what_the_caller_may_not_say() -> None:
    request = Request(RequestHead(lines_of(_with((b"x-forwarded-for", b"me")))), b"http")
    headers = Headers(request.fields)
    headers.set(b"x-forwarded-for", b"192.0.2.1")
    sent = _decoded(request.block(headers))
    assert [value for name, value in sent if name == b"x-forwarded-for"] == [b"192.0.2.1"]


def test_what_the_relay_needs_to_know() -> None:
    request = Request(RequestHead(lines_of(_with((b"grpc-timeout", b"250m"), (b"grpc-encoding", b"gzip")))), b"http")
    assert (request.path, request.timeout, request.encoding) == (BASE[b":path"].decode(), 0.25, b"gzip")
    assert Request(RequestHead(lines_of(_with())), b"http").timeout is None


# --- published header sets --------------------------------------------------------------------------------------------

BAD_CLIENT = {
    "simple_request": "taken",
    "server_registered_method": "taken",
    # Compression that the model server does not know is its own to refuse; what it may answer with is a hint.
    "badreq_algorithm": "taken",
    "badreq_encoding": "taken",
    "badreq_content_type": "415 request.content_type",
    "badreq_te": "malformed",
    "badreq_2path": "malformed",
    "simple_request_unusual": "INVALID_ARGUMENT request.repeated_header",
    "simple_request_unusual2": "INVALID_ARGUMENT request.repeated_header",
    "bad_timeout": "INVALID_ARGUMENT request.timeout",
    "large_metadata": "RESOURCE_EXHAUSTED request.headers_too_large",
}


def _read(name: str) -> list[Field]:
    fields: list[Field] = []
    for line in (VECTORS / "grpc-badclient" / f"{name}.headers").read_bytes().splitlines():
        if line and not line.startswith(b"#"):
            key, _, value = line[1:].partition(b":")
            fields.append((line[:1] + key, value.strip()))
    return fields


@pytest.mark.parametrize("name", BAD_CLIENT)
def test_the_header_sets_of_grpcs_bad_client(name: str) -> None:
    fields = _read(name)
    if not any(key == b":path" for key, _ in fields):
        fields = [*_with(), *fields]  # two of the sets are what a test adds to a request
    pseudo = [field for field in fields if field[0][:1] == b":"]
    assert verdict([*pseudo, *(field for field in fields if field[0][:1] != b":")]) == BAD_CLIENT[name]


def test_the_vectors_are_as_published() -> None:
    sums = [line.split() for line in (VECTORS / "SHA256SUMS").read_text().splitlines()]
    assert {Path(name).stem for _, name in sums if name.endswith(".headers")} == set(BAD_CLIENT)
    for digest, name in sums:
        assert hashlib.sha256((VECTORS / name).read_bytes()).hexdigest() == digest, name


def test_a_denial_says_nothing_of_values() -> None:
    for fields in (_with((b"x-a", b"s\xc3\xa9cret")), _with((b"x-bin", b"secret*")), _with((b"host", b"secret"))):
        refusal = refuse(RequestHead(lines_of(fields)))
        assert isinstance(refusal, Deny)
        assert "secret" not in refusal.public
        assert refusal.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-api-key", b"x-auth-token", b"a-secret"])
def test_what_is_known_of_names_and_blocks_holds_no_credential(name: bytes) -> None:
    assert verdict([*BASE.items(), (name, b"s3cret"), (b"x-kept", b"value")]) == "taken"
    assert b"x-kept" in names
    assert "s3cret" not in repr((names, starts))
    assert "value of metadata" in str(refuse(RequestHead(lines_of([*BASE.items(), (name, b"\x80")]))))
    assert verdict([*BASE.items(), (name, b"s3cret")]) == "taken"


def test_what_is_known_of_names_stays_bounded() -> None:
    for number in range(5_000):
        assert verdict([*BASE.items(), (b"x-%d" % number, b"v"), (b"y" * 300, b"v")]) == "taken"
    assert len(names) <= 4096
    assert max(map(len, names)) <= 256
