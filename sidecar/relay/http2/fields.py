"""Header fields at the HTTP level (RFC 9113 §8.2, §8.3): what a block says once it is decoded, and what is malformed.

gRPC's own rules about headers are `grpc_wire`'s; fields here are already plain (name, value) pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sidecar.relay.http2.errors import ErrorCode, StreamFault

Field = tuple[bytes, bytes]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_SPACES = (b" ", b"\t")
_SPACE: Final = 0x20
_TAB: Final = 0x09
_FORBIDDEN = b"\0\r\n"
_AROUND = re.compile(rb"\A[ \t]+|[ \t]+\Z")
_STATUS = re.compile(rb"[1-9][0-9][0-9]")
_WITHOUT_CONTENT = (204, 304)  # RFC 9110 §6.4.1
_CONNECTION_SPECIFIC = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_FIELD_OVERHEAD = 32  # RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE
_KNOWN_MOST = 4096
_KNOWN_LONGEST = 256
# What a line is for a request's head: above LENGTH they are pseudo-headers, a bit each.
REGULAR: Final = 0
LENGTH: Final = 1
METHOD: Final = 2
SCHEME: Final = 4
PATH: Final = 8
AUTHORITY: Final = 16
UNKNOWN: Final = 32
_KINDS: Final = {
    b":method": METHOD, b":scheme": SCHEME, b":path": PATH, b":authority": AUTHORITY, b"content-length": LENGTH,
}  # fmt: skip
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))
_CREDENTIAL_ENDS = (b"-key", b"-token", b"-secret")

_known_names: set[bytes] = set()


def is_secret(name: bytes) -> bool:
    """Whether values under this name are credentials: no cache that outlives their connection may keep them."""
    return name in _CREDENTIALS or name.removesuffix(b"-bin").endswith(_CREDENTIAL_ENDS)


class Line:
    """A field line. What has been found out about it stays with it, and so do lines with an HPACK table.

    size: RFC 9113 §6.5.2, bytes.  kind: what it is for a request's head.  sound: well formed; False until looked at.
    literal: as `blocks.encode_line` writes it, once it has been asked for.  note: what the layer above found out.
    """

    __slots__ = ("kind", "literal", "name", "note", "size", "sound", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.size = len(name) + len(value) + _FIELD_OVERHEAD
        kind = _KINDS.get(name)
        self.kind = kind if kind is not None else UNKNOWN if name[:1] == b":" else REGULAR
        self.sound = False
        self.literal: bytes | None = None
        self.note: object | None = None

    def check(self) -> None:
        """Raise StreamFault unless it is well formed."""
        name, value = self.name, self.value
        if self.kind > LENGTH:
            if _malformed(value):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "malformed pseudo-header")
        else:
            if name not in _known_names:
                _check_name(name)
            if _malformed(value):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "malformed header value")
            if name == b"te" and value != b"trailers":
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "connection-specific header")
        self.sound = True


def lines_of(fields: Iterable[Field]) -> list[Line]:
    return [Line(name, value) for name, value in fields]


def _check_name(name: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "malformed header name")
    if name in _CONNECTION_SPECIFIC:
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "connection-specific header")
    if len(name) <= _KNOWN_LONGEST:
        if len(_known_names) >= _KNOWN_MOST:
            _known_names.clear()
        _known_names.add(name)


def _malformed(value: bytes) -> bool:
    """RFC 9113 §8.2.1: NUL, CR or LF in a value, a space or tab around it."""
    if not value:
        return False
    first, last = value[0], value[-1]
    around = first in (_SPACE, _TAB) or last in (_SPACE, _TAB)
    return around or len(value.translate(None, _FORBIDDEN)) != len(value)


def _regular(lines: list[Line]) -> tuple[Field, ...]:
    """The fields of a request, each well formed. Raises StreamFault."""
    for line in lines:
        if line.kind > LENGTH:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "pseudo-header behind others")
        if not line.sound:
            line.check()
    return tuple([(line.name, line.value) for line in lines])


def _answered(lines: list[Line]) -> tuple[Field, ...]:
    """The fields of an answer, each well formed. Raises StreamFault."""
    return tuple([(line.name, line.value) if line.sound and line.kind <= LENGTH else _accepted(line) for line in lines])


def _accepted(line: Line) -> Field:
    """A field of an answer without whitespace around its value. Raises StreamFault.

    gRPC servers let it stand there, for they send `grpc-message` as an application wrote it, but RFC 9113 §8.2.1 does
    not. RFC 9110 §5.5 has it taken off before a value is looked at, as PROTOCOL-HTTP2.md allows for metadata; of a
    message nothing is lost, for there percent-encoding says the same.
    """
    if line.kind > LENGTH:
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "pseudo-header behind others")
    name, value = line.name, line.value
    if value[:1] in _SPACES or value[-1:] in _SPACES:
        if name == b"grpc-message":
            value = _AROUND.sub(lambda found: found[0].replace(b" ", b"%20").replace(b"\t", b"%09"), value)
        else:
            value = value.strip(b" \t")
        line = Line(name, value)
    line.check()
    return name, value


def list_size(lines: list[Line]) -> int:
    """RFC 9113 §6.5.2 size of a field list, bytes."""
    size = 0
    for line in lines:
        size += line.size
    return size


class RequestHead:
    """A request's header block.

    pseudo: the lines of its pseudo-headers.  lines, fields: the others.  length: its content-length or -1.
    fault: why it is malformed, or None.  oversize: beyond the list limits.
    note: what the layer above derived from it, kept with it while the block is cached.
    """

    __slots__ = (
        "authority",
        "fault",
        "fields",
        "length",
        "lines",
        "method",
        "note",
        "oversize",
        "path",
        "pseudo",
        "scheme",
    )

    def __init__(self, lines: list[Line]) -> None:
        self.oversize = False
        self.note: object | None = None
        self.fault: StreamFault | None = None
        self.method: bytes | None = None
        self.scheme: bytes | None = None
        self.path: bytes | None = None
        self.authority: bytes | None = None
        self.length = -1
        self.fields: tuple[Field, ...] = ()
        self.lines: list[Line] = []
        self.pseudo: list[Line] = []
        try:
            self._read(lines)
        except StreamFault as fault:
            self.fault = fault.with_traceback(None)  # kept with the block: no frame may live as long

    def _read(self, lines: list[Line]) -> None:
        at = seen = 0
        for line in lines:
            kind = line.kind
            if kind <= LENGTH:
                break
            if seen & kind:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "repeated pseudo-header")
            if not line.sound:
                line.check()
            if kind == PATH:
                self.path = line.value
            elif kind == AUTHORITY:
                self.authority = line.value
            elif kind == METHOD:
                self.method = line.value
            elif kind == SCHEME:
                self.scheme = line.value
            seen |= kind
            at += 1
        self.pseudo = lines[:at]
        self.lines = regular = lines[at:]
        self.fields = fields = _regular(regular)
        if seen & UNKNOWN or not self.method or not self.scheme or not self.path:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "pseudo-headers missing, unknown or empty")
        self.length = content_length(fields)


class ResponseHead:
    """A response's header block; status 0 when it is malformed.  length: its content-length or -1, of what it has."""

    __slots__ = ("fault", "fields", "length", "note", "oversize", "status")

    def __init__(self, lines: list[Line]) -> None:
        self.oversize = False
        self.note: object | None = None
        self.fault: StreamFault | None = None
        self.status = 0
        self.length = -1
        self.fields: tuple[Field, ...] = ()
        try:
            if not lines or lines[0].name != b":status" or not _STATUS.fullmatch(lines[0].value):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "response without one :status")
            self.fields = _answered(lines[1:])
            self.status = int(lines[0].value)
            length = content_length(self.fields)
            # RFC 9113 §8.1.1: a response that has no content by definition may declare some other's length.
            self.length = -1 if self.status in _WITHOUT_CONTENT else length
            if self.status == 101:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "status 101 does not exist in HTTP/2")
        except StreamFault as fault:
            self.fault = fault.with_traceback(None)


class TrailerBlock:
    """A trailing header block."""

    __slots__ = ("fault", "fields", "note", "oversize")

    def __init__(self, lines: list[Line]) -> None:
        self.oversize = False
        self.note: object | None = None
        self.fault: StreamFault | None = None
        self.fields: tuple[Field, ...] = ()
        try:
            self.fields = self._read(lines)
        except StreamFault as fault:
            self.fault = fault.with_traceback(None)

    def _read(self, lines: list[Line]) -> tuple[Field, ...]:
        return _answered(lines)


class RequestTrailers(TrailerBlock):
    """Trailers of a request, to which no leniency is owed."""

    __slots__ = ()

    def _read(self, lines: list[Line]) -> tuple[Field, ...]:
        return _regular(lines)


def content_length(fields: Sequence[Field]) -> int:
    """The declared length in bytes, or -1. Raises StreamFault when it is not one number (RFC 9113 §8.1.1)."""
    found: bytes | None = None
    for name, value in fields:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or (found is not None and value != found):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "malformed content-length")
            found = value
    return -1 if found is None else int(found)
