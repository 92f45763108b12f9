"""Canonical requests only: what a call's header block must be before any rule sees it.

Source: architecture "Canonical requests only"; grpc/doc/PROTOCOL-HTTP2.md, "Requests". HTTP-level faults were
refused by `http2.fields` already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from interceptors.contract import Code, Codec, Deny, Headers, Method, RawField
from interceptors.plan import Plan
from sidecar.relay.grpc_wire import KNOWN_ENCODINGS, is_binary_value, parse_timeout
from sidecar.relay.http2.blocks import encode, encode_fresh
from sidecar.relay.http2.fields import RequestHead, is_secret
from sidecar.relay.routes import Route

PATH = re.compile(rb"/[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+[!#$%&'*+.^_`|~0-9A-Za-z-]+)?(?: ?;[ -~]*)?")
_AUTHORITY = re.compile(rb"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]+")  # RFC 3986 §3.2 without userinfo
_NAME = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
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
# What the loop over a request's fields looks for.
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


# Callers choose what is kept in these, so they are bounded. No credential is among it.
_sound: set[RawField] = set()  # fields that `_refuse_field` has passed
_sound_pseudo: set[RawField] = set()  # pseudo-headers that `_is_sound` has
_travelling: dict[bytes, bool] = {}  # by name
_starts: dict[tuple[bytes, bytes, bytes | None], bytes] = {}  # how blocks begin, by scheme, path and authority


def travels(name: bytes) -> bool:
    """Whether a caller's header of this name goes on to the upstream."""
    known = _travelling.get(name)
    if known is None:
        known = name not in _CONSUMED and not name.startswith(_CONSUMED_PREFIXES)
        if len(name) <= _LONGEST_KNOWN:
            if len(_travelling) >= _MOST_KNOWN:
                _travelling.clear()
            _travelling[name] = known
    return known


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
        for name, value in head.fields:
            if name not in _READ:
                continue
            if name == b"grpc-timeout":
                self.timeout = parse_timeout(value)
            elif name == b"grpc-encoding":
                self.encoding = value
            elif name == b"grpc-accept-encoding":
                self.understood = understood(value)
            elif name == b"host":
                self.authority = value
        self._start = _start(scheme, head.path, self.authority)
        self._travelling = [field for field in head.fields if travels(field[0])]
        self._blocks: dict[frozenset[bytes], bytes] = {}  # encoded, by the names that links took out

    def block(self, headers: Headers) -> bytes:
        """The header block for the upstream, without `grpc-timeout`. headers: this request's, edited by links or not.

        What links added goes as it is: they may set, and then vouch for, what the caller may not send.
        """
        block = self._blocks.get(headers.without) or self._encode(headers.without)
        return block + encode_fresh(headers.added) if headers.added else block

    def _encode(self, without: frozenset[bytes]) -> bytes:
        if len(self._blocks) >= _MOST_BLOCKS:
            self._blocks.clear()
        block = self._start + encode([field for field in self._travelling if field[0] not in without])
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
    seen: set[bytes] = set()
    for name, _ in head.fields:
        if name in SINGLE:
            if name in seen:
                return _invalid("repeated_header", f"header {name.decode()} appears twice")
            seen.add(name)
    if b"host" in seen and head.authority is not None:
        return _invalid("host", "header host beside :authority")
    if b"content-type" not in seen:
        return HttpRefusal(415, "request.content_type")
    assert head.path is not None
    if not _is_sound(b":path", head.path, PATH):
        return Deny(Code.UNIMPLEMENTED, "request.path", "path is not /package.Service/Method")
    if head.scheme not in (b"http", b"https"):
        return _invalid("scheme", ":scheme is neither http nor https")
    if head.authority is not None and not _is_sound(b":authority", head.authority, _AUTHORITY):
        return _invalid("authority", ":authority is not a host and perhaps a port")
    return _refuse_fields(head.fields, seen)


def _refuse_fields(fields: tuple[RawField, ...], seen: set[bytes]) -> Refusal | None:
    if b"te" not in seen:
        return _invalid("te", "header te is missing, expected trailers")
    for field in fields:
        if field not in _sound:
            refusal = _refuse_field(*field)
            if refusal is not None:
                return refusal
            _keep(field, _sound)
    return None


def _refuse_field(name: bytes, value: bytes) -> Refusal | None:
    if not _NAME.fullmatch(name):
        return _invalid("metadata_name", "a metadata name has characters outside 0-9 a-z _ - .")
    if not _VALUE.fullmatch(value):
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


def _is_sound(name: bytes, value: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Whether a pseudo-header is as `pattern` says; what passed once is known."""
    field = (name, value)
    if field not in _sound_pseudo:
        if not pattern.fullmatch(value):
            return False
        _keep(field, _sound_pseudo)
    return True


def _keep(field: RawField, known: set[RawField]) -> None:
    if len(field[0]) + len(field[1]) <= _LONGEST_KNOWN and not is_secret(field[0]):
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known.add(field)
