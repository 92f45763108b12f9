"""The model server's header blocks as they travel on, and the status that ends a call."""

from __future__ import annotations

from typing import Final

from interceptors.contract import Code, Headers, RawField, Trailers
from sidecar.relay.grpc_wire import percent_decode, percent_encode, status_of
from sidecar.relay.http2.blocks import encode
from sidecar.relay.http2.errors import ErrorCode
from sidecar.relay.http2.fields import ResponseHead, TrailerBlock, lines_of

# grpc/doc/http-grpc-status-mapping.md: what a client makes of an answer without grpc-status. For records only: the
# answer itself crosses as it is.
_HTTP_STATUS: Final[dict[int, Code]] = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
# grpc/doc/PROTOCOL-HTTP2.md, "Errors": the same of RST_STREAM.
_RESET_STATUS: Final[dict[int, Code]] = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
_STATUS: Final = (b"grpc-status", b"grpc-message")


class Answer:
    """A response's or trailers' header block; shared while its source is cached.

    fields: without pseudo-headers and without content-length, which no longer holds once a message is rewritten or
    the call is refused half-way.  status: the gRPC status, or what a client would make of its absence.
    """

    __slots__ = ("block", "encoding", "fields", "status")

    def __init__(self, source: ResponseHead | TrailerBlock) -> None:
        self.fields = tuple([field for field in source.fields if field[0] != b"content-length"])
        self.encoding = next((value for name, value in self.fields if name == b"grpc-encoding"), b"")
        self.block = encode(_pseudo(source) + self.fields)
        self.status = status_of(self.fields)
        if self.status < 0:
            self.status = int(http_code(source.status) if isinstance(source, ResponseHead) else Code.UNKNOWN)


def answer_of(source: ResponseHead | TrailerBlock) -> Answer:
    note = source.note
    if note is None:
        note = source.note = Answer(source)
    assert isinstance(note, Answer)
    return note


def http_code(status: int) -> Code:
    return _HTTP_STATUS.get(status, Code.UNKNOWN)


def reset_code(code: int) -> Code:
    return _RESET_STATUS.get(code, Code.INTERNAL)


def as_trailers(last: ResponseHead | TrailerBlock) -> Trailers:
    """What links are shown of the block that ended the response."""
    answer = answer_of(last)
    message = next((value for name, value in answer.fields if name == b"grpc-message"), b"")
    rest = tuple([field for field in answer.fields if field[0] not in _STATUS])
    return Trailers(answer.status, percent_decode(message), Headers(rest))


def edited_block(last: ResponseHead | TrailerBlock, trailers: Trailers) -> bytes:
    """What `last` becomes after the links' edits; status and message stay to the letter unless they were replaced."""
    fields: tuple[RawField, ...] = trailers.headers.fields
    if not trailers.changed:
        return encode((*_pseudo(last), *fields, *[field for field in last.fields if field[0] in _STATUS]))
    # The details belong to the status that was replaced, and so does an HTTP status.
    fields = tuple([field for field in fields if field[0] != b"grpc-status-details-bin"])
    fields += ((b"grpc-status", b"%d" % int(trailers.status)),)
    if trailers.message:
        fields += ((b"grpc-message", percent_encode(trailers.message)),)
    return encode((((b":status", b"200"),) if isinstance(last, ResponseHead) else ()) + fields)


def taken_apart(last: ResponseHead) -> tuple[bytes, TrailerBlock]:
    """An answer of trailers only as a head and trailers, for messages to stand between."""
    fields = answer_of(last).fields
    head = tuple([field for field in fields if field[0] == b"content-type"])
    rest = [field for field in fields if field[0] != b"content-type"]
    return encode(_pseudo(last) + head), TrailerBlock(lines_of(rest))


def _pseudo(source: ResponseHead | TrailerBlock) -> tuple[RawField, ...]:
    return ((b":status", b"%d" % source.status),) if isinstance(source, ResponseHead) else ()
