"""Canonical requests only: what a call's header block must be before any rule sees it.

Source: architecture "Canonical requests only"; grpc/doc/PROTOCOL-HTTP2.md, "Requests". HTTP-level faults were
refused by `http2.fields` already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from interceptors.contract import VALUE_OCTETS, Code, Codec, Deny, Headers, Method, RawField
from interceptors.plan import Plan
from sidecar.relay.grpc_wire import KNOWN_ENCODINGS, is_binary_value, parse_timeout
from sidecar.relay.http2.blocks import encode, encode_fresh, encode_line
from sidecar.relay.http2.fields import AUTHORITY, LENGTH, PATH, SCHEME, Line, RequestHead
from sidecar.relay.routes import Route

_PATH = re.compile(rb"/[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+[!#$%&'*+.^_`|~0-9A-Za-z-]+)?(?: ?;[ -~]*)?")
_AUTHORITY = re.compile(rb"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]+")  # RFC 3986 §3.2 without userinfo
_NAME = re.compile(rb"[0-9a-z_.-]+")
# Headers with one meaning per call: said twice, client and server could read different ones.
SINGLE = frozenset((
    b"host", b"authorization", b"content-type", b"content-length", b"te", b"grpc-timeout", b"grpc-encoding",
    b"grpc-accept-encoding", b"grpc-message-type", b"grpc-previous-rpc-attempts", b"grpc-trace-bin", b"grpc-tags-bin",
    b"user-agent", b"traceparent",
))  # fmt: skip
# What stops here: the relay derives or consumes it, or only a proxy in front may claim it.
_CONSUMED = frozenset(
    (b"host", b"content-length", b"grpc-timeout", b"forwarded", b"x-forwarded-client-cert", b"x-real-ip")
)
_CONSUMED_PREFIXES = (b"x-forwarded-", b"x-langtrain-")
# What the loop over a request's headers looks for.
_READ = frozenset((b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"host"))
_MOST_BLOCKS = 8
_MOST_KNOWN = 4096
_LONGEST_KNOWN = 256
# How the paths of those begin who watch or mend the sidecar: they are taken while others are refused.
RESERVED = ("/langtrain.", "/grpc.health.v1.", "/grpc.reflection.")


Shape: TypeAlias = tuple[Method, Codec, Plan, Route]


@dataclass(frozen=True, slots=True)
class HttpRefusal:
    """A request that is not gRPC at all: answered with an HTTP status."""

    status: int
    reason: str


Refusal = Deny | HttpRefusal


class _Told:
    """What gRPC says of a header.

    bit: 0 where it may be repeated, else its place among SINGLE.  read: whether the relay goes by it.
    travels: whether it goes on to the upstream.  refusal: why no request may have it, or None.
    """

    __slots__ = ("bit", "read", "refusal", "travels")

    def __init__(self, bit: int, read: bool, travels: bool, refusal: Refusal | None) -> None:
        self.bit = bit
        self.read = read
        self.travels = travels
        self.refusal = refusal


_PSEUDO = _Told(0, False, False, None)
_BITS = {name: 1 << at for at, name in enumerate(sorted(SINGLE))}
_HOST, _TYPE, _TE = _BITS[b"host"], _BITS[b"content-type"], _BITS[b"te"]
# Callers choose what is kept in these, so they are bounded. No credential is among it.
_names: dict[bytes, _Told] = {}  # of headers whose value is sound
_starts: dict[tuple[bytes, bytes, bytes | None], bytes] = {}  # how blocks begin, by scheme, path and authority


def _told(line: Line) -> _Told:
    """What there is to say of a line, kept with it."""
    note = line.note
    if type(note) is _Told:
        return note
    told = _PSEUDO if line.kind > LENGTH else _names.get(line.name) or _of_name(line.name)
    refusal = told.refusal or _refuse_line(line)
    if refusal is not told.refusal:
        told = _Told(told.bit, told.read, told.travels, refusal)
    line.note = told
    return told


def _of_name(name: bytes) -> _Told:
    sound = _NAME.fullmatch(name) is not None
    refusal = None if sound else _invalid("metadata_name", "a metadata name has characters outside 0-9 a-z _ - .")
    travels = name not in _CONSUMED and not name.startswith(_CONSUMED_PREFIXES)
    told = _Told(_BITS.get(name, 0), name in _READ, travels, refusal)
    if len(name) <= _LONGEST_KNOWN:
        if len(_names) >= _MOST_KNOWN:
            _names.clear()
        _names[name] = told
    return told


def _start(scheme: bytes, path: bytes, authority: bytes | None) -> bytes:
    """How the header block towards the upstream begins."""
    key = (scheme, path, authority)
    known = _starts.get(key)
    if known is None:
        known = encode((
            (b":method", b"POST"), (b":scheme", scheme), (b":path", path), (b":authority", authority or b"localhost"),
        ))  # fmt: skip
        if len(known) <= _LONGEST_KNOWN:
            if len(_starts) >= _MOST_KNOWN:
                _starts.clear()
            _starts[key] = known
    return known


class Request:
    """What the relay needs of a canonical request; shared by all calls with the same header block.

    understood: what stands in place of `grpc-accept-encoding` where links look at the answer, None for itself.
    path: "/package.Service/Method".  timeout: seconds or None.  shape: the method, its codec, its plan and
    who answers it, once known.  reserved: whether its calls have places of their own when others are refused.
    """

    __slots__ = (
        "_blocks",
        "_start",
        "_travelling",
        "authority",
        "encoding",
        "fields",
        "path",
        "reserved",
        "shape",
        "timeout",
        "understood",
    )

    def __init__(self, head: RequestHead, scheme: bytes) -> None:
        assert head.path is not None
        self.path = head.path.decode("ascii")
        self.reserved = self.path.startswith(RESERVED)
        self.fields = head.fields
        self.timeout: float | None = None
        self.encoding = b""
        self.understood: tuple[RawField, ...] | None = None
        self.shape: Shape | None = None
        self.authority = head.authority
        self._travelling: list[Line] = []
        for line in head.lines:
            told = _told(line)
            if told.travels:
                self._travelling.append(line)
            if told.read:
                self._read(line.name, line.value)
        self._start = _start(scheme, head.path, self.authority)
        self._blocks: dict[frozenset[bytes], bytes] = {}  # encoded, by the names that links took out

    def _read(self, name: bytes, value: bytes) -> None:
        if name == b"grpc-timeout":
            self.timeout = parse_timeout(value)
        elif name == b"grpc-encoding":
            self.encoding = value
        elif name == b"grpc-accept-encoding":
            self.understood = understood(value)
        elif name == b"host":
            self.authority = value

    def block(self, headers: Headers) -> bytes:
        """The header block for the upstream, without `grpc-timeout`. headers: this request's, edited by links or not.

        What links added goes as it is: they may set, and then vouch for, what the caller may not send.
        """
        block = self._blocks.get(headers.without) or self._encode(headers.without)
        return block + encode_fresh(headers.added) if headers.added else block

    def _encode(self, without: frozenset[bytes]) -> bytes:
        if len(self._blocks) >= _MOST_BLOCKS:
            self._blocks.clear()
        block = self._start + b"".join([encode_line(line) for line in self._travelling if line.name not in without])
        self._blocks[without] = block
        return block


def understood(accepted: bytes) -> tuple[RawField, ...] | None:
    """`grpc-accept-encoding` without the encodings that we do not know, None where there are none of those."""
    offered = [name.strip() for name in accepted.split(b",")]
    known = [name for name in offered if name in KNOWN_ENCODINGS]
    if len(known) == len(offered):
        return None
    return ((b"grpc-accept-encoding", b",".join(known)),) if known else ()


def _invalid(reason: str, public: str) -> Deny:
    return Deny(Code.INVALID_ARGUMENT, f"request.{reason}", public)


def refuse(head: RequestHead) -> Refusal | None:
    """Why a request is not taken, or None."""
    if head.oversize:
        return Deny(Code.RESOURCE_EXHAUSTED, "request.headers_too_large", "request headers are beyond the limit")
    if head.method != b"POST":
        return HttpRefusal(405, "request.method")
    seen = 0
    refusal: Refusal | None = None
    for line in head.lines:
        told = _told(line)
        if seen & told.bit:
            return _invalid("repeated_header", f"header {line.name.decode()} appears twice")
        seen |= told.bit
        if refusal is None:
            refusal = told.refusal
    if seen & _HOST and head.authority is not None:
        return _invalid("host", "header host beside :authority")
    if not seen & _TYPE:
        return HttpRefusal(415, "request.content_type")
    for line in head.pseudo:
        told = _told(line)
        if told.refusal is not None:
            return told.refusal
    if not seen & _TE:
        return _invalid("te", "header te is missing, expected trailers")
    return refusal


def _refuse_line(line: Line) -> Refusal | None:
    kind, value = line.kind, line.value
    if kind <= LENGTH:
        return _refuse_value(line.name, value)
    if kind == PATH and not _PATH.fullmatch(value):
        return Deny(Code.UNIMPLEMENTED, "request.path", "path is not /package.Service/Method")
    if kind == SCHEME and value not in (b"http", b"https"):
        return _invalid("scheme", ":scheme is neither http nor https")
    if kind == AUTHORITY and not _AUTHORITY.fullmatch(value):
        return _invalid("authority", ":authority is not a host and perhaps a port")
    return None


def _refuse_value(name: bytes, value: bytes) -> Refusal | None:
    if value.translate(None, VALUE_OCTETS):
        return _invalid("metadata_value", f"value of metadata {name.decode()} is not printable ASCII")
    if name.endswith(b"-bin") and not is_binary_value(value):
        return _invalid("metadata_base64", f"value of metadata {name.decode()} is not base64")
    if name == b"host" and not _AUTHORITY.fullmatch(value):
        return _invalid("authority", "header host is not a host and perhaps a port")
    if name == b"content-type" and not _CONTENT_TYPE.fullmatch(value):
        return HttpRefusal(415, "request.content_type")
    if name == b"grpc-timeout" and parse_timeout(value) is None:
        return _invalid("timeout", "grpc-timeout is not 1 to 8 digits and a unit of H M S m u n")
    return None
