"""Requests that must not reach a model server, and how each is refused: data for tests in memory and of a process.

Malformed by RFC 9113 §8.1.1 is a stream error; what HTTP allows and gRPC does not gets a status.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from tests.relay.raw import Field

PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 1, 11
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 8, 12, 13
MALFORMED: Final = ("reset", PROTOCOL_ERROR)
NOT_GRPC: Final = ("http", 415, INVALID_ARGUMENT)
MIB: Final = 1 << 20
PING: Final = b"\0\0\0\0\4ping"


class Odd(NamedTuple):
    """fields: given the honest ones.  body: DATA frames.  outcome: as `RawClient.outcome`."""

    fields: Callable[[list[Field]], list[Field]]
    outcome: tuple[Any, ...]
    body: tuple[bytes, ...] = (PING,)
    trailers: tuple[Field, ...] = ()


def honest(path: bytes) -> list[Field]:
    """A request as gRPC wants it."""
    return [
        (b":method", b"POST"), (b":scheme", b"https"), (b":path", path), (b":authority", b"model:1"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"user-agent", b"grpc-test/1"),
    ]  # fmt: skip


def _set(name: bytes, value: bytes | None) -> Callable[[list[Field]], list[Field]]:
    """With another value of a field, or without it."""

    def change(fields: list[Field]) -> list[Field]:
        changed = []
        for field in fields:
            if field[0] != name:
                changed.append(field)
            elif value is not None:
                changed.append((name, value))
        return changed

    return change


def _add(*extra: Field) -> Callable[[list[Field]], list[Field]]:
    return lambda fields: [*fields, *extra]


def _twice(name: bytes, value: bytes) -> Callable[[list[Field]], list[Field]]:
    """The field twice, its pseudo-headers still first."""

    def change(fields: list[Field]) -> list[Field]:
        rest = [field for field in fields if field[0] != name]
        if name.startswith(b":"):
            return [(name, value), (name, value), *rest]
        return [*rest, (name, value), (name, value)]

    return change


def _same(fields: list[Field]) -> list[Field]:
    return fields


PATHS: Final = {
    "no slash": (b"t.S", ("grpc", UNIMPLEMENTED)),
    "one slash": (b"/t.S", ("grpc", UNIMPLEMENTED)),
    "only a slash": (b"/", ("grpc", UNIMPLEMENTED)),
    "empty": (b"", MALFORMED),
    "star": (b"*", ("grpc", UNIMPLEMENTED)),
    "double slash first": (b"//t.S/Unary", ("grpc", UNIMPLEMENTED)),
    "double slash": (b"/t.S//Unary", ("grpc", UNIMPLEMENTED)),
    "slash behind": (b"/t.S/Unary/", ("grpc", UNIMPLEMENTED)),
    "three parts": (b"/t/S/Unary", ("grpc", UNIMPLEMENTED)),
    "up": (b"/t.S/../t.S/Unary", ("grpc", UNIMPLEMENTED)),
    "dot": (b"/./t.S/Unary", ("grpc", UNIMPLEMENTED)),
    "dots only": (b"/../..", ("grpc", UNIMPLEMENTED)),
    "empty part": (b"/t..S/Unary", ("grpc", UNIMPLEMENTED)),
    "dot behind": (b"/t.S./Unary", ("grpc", UNIMPLEMENTED)),
    "digit first": (b"/1t.S/Unary", ("grpc", UNIMPLEMENTED)),
    "escape": (b"/t.S/%55nary", ("grpc", UNIMPLEMENTED)),
    "escape of C": (b"/t.S/%43", ("grpc", UNIMPLEMENTED)),
    "escaped slash": (b"/t.S%2fUnary", ("grpc", UNIMPLEMENTED)),
    "query": (b"/t.S/Unary?x", ("grpc", UNIMPLEMENTED)),
    "fragment": (b"/t.S/Unary#x", ("grpc", UNIMPLEMENTED)),
    "semicolon": (b"/t.S/Unary;x=1", ("grpc", UNIMPLEMENTED)),
    "backslash": (b"/t.S\\Unary", ("grpc", UNIMPLEMENTED)),
    "space": (b"/t.S/Un ary", ("grpc", UNIMPLEMENTED)),
    "space behind": (b"/t.S/Unary ", MALFORMED),
    "tab": (b"/t.S/Un\tary", ("grpc", UNIMPLEMENTED)),
    "NUL": (b"/t.S/Unary\0", MALFORMED),
    "NUL within": (b"/t.S/Un\0ary", MALFORMED),
    "newline behind": (b"/t.S/Unary\n", MALFORMED),
    "carriage return": (b"/t.S/Unary\r", MALFORMED),
    "CRLF and a header": (b"/t.S/Unary\r\nx: y", MALFORMED),
    "not UTF-8": (b"/t.S/Unary\xff", ("grpc", UNIMPLEMENTED)),
    "overlong UTF-8": (b"/t.S/\xc0\xafUnary", ("grpc", UNIMPLEMENTED)),
    "look-alike": ("/t.S/Unarу".encode(), ("grpc", UNIMPLEMENTED)),  # the last letter is Cyrillic
    "absolute": (b"https://model:1/t.S/Unary", ("grpc", UNIMPLEMENTED)),
    "long": (b"/t.S/" + b"U" * 20_000, ("grpc", RESOURCE_EXHAUSTED)),
}
REPEATED: Final = {
    ":method": (b"POST", MALFORMED), ":scheme": (b"https", MALFORMED), ":path": (b"/t.S/Unary", MALFORMED),
    ":authority": (b"model:1", MALFORMED),
} | {
    name: (value, ("grpc", INVALID_ARGUMENT))
    for name, value in {
        "te": b"trailers", "content-type": b"application/grpc", "user-agent": b"x", "host": b"model:1",
        "authorization": b"Bearer x", "content-length": b"9", "grpc-timeout": b"1S", "grpc-encoding": b"gzip",
        "grpc-accept-encoding": b"gzip", "grpc-message-type": b"a.B", "grpc-previous-rpc-attempts": b"1",
        "grpc-trace-bin": b"AA", "grpc-tags-bin": b"AA", "traceparent": b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-00",
    }.items()
}  # fmt: skip
METADATA: Final = {
    "CR LF in a value": ((b"x-a", b"a\r\nx-b: c"), MALFORMED),
    "LF in a value": ((b"x-a", b"a\nb"), MALFORMED),
    "NUL in a value": ((b"x-a", b"a\0b"), MALFORMED),
    "space before a value": ((b"x-a", b" a"), MALFORMED),
    "tab behind a value": ((b"x-a", b"a\t"), MALFORMED),
    "tab in a value": ((b"x-a", b"a\tb"), ("grpc", INVALID_ARGUMENT)),
    "control in a value": ((b"x-a", b"a\x7fb"), ("grpc", INVALID_ARGUMENT)),
    "Latin-1 in a value": ((b"x-a", b"caf\xe9"), ("grpc", INVALID_ARGUMENT)),
    "upper case": ((b"X-a", b"a"), MALFORMED),
    "upper case within": ((b"x-A", b"a"), MALFORMED),
    "empty name": ((b"", b"a"), MALFORMED),
    "space in a name": ((b"x a", b"a"), MALFORMED),
    "NUL in a name": ((b"x\0a", b"a"), MALFORMED),
    "newline in a name": ((b"x\na", b"a"), MALFORMED),
    "colon in a name": ((b"x:a", b"a"), MALFORMED),
    "name outside gRPC's": ((b"x!a", b"a"), ("grpc", INVALID_ARGUMENT)),
    "bad base64": ((b"x-bin", b"!!!"), ("grpc", INVALID_ARGUMENT)),
    "base64 of no length": ((b"x-bin", b"A"), ("grpc", INVALID_ARGUMENT)),
    "base64 of URLs": ((b"x-bin", b"-_-_"), ("grpc", INVALID_ARGUMENT)),
    "connection": ((b"connection", b"close"), MALFORMED),
    "transfer-encoding": ((b"transfer-encoding", b"chunked"), MALFORMED),
    "upgrade": ((b"upgrade", b"h2c"), MALFORMED),
    "keep-alive": ((b"keep-alive", b"1"), MALFORMED),
    "pseudo-header behind": ((b":path", b"/t.S/Other"), MALFORMED),
    "unknown pseudo-header": ((b":x", b"a"), MALFORMED),
    ":status": ((b":status", b"200"), MALFORMED),
    "20 KiB": ((b"x-a", b"a" * 20_480), ("grpc", RESOURCE_EXHAUSTED)),
    "1 MiB": ((b"x-a", b"a" * MIB), ("goaway", ENHANCE_YOUR_CALM)),
    "host beside :authority": ((b"host", b"model:1"), ("grpc", INVALID_ARGUMENT)),
    "another host": ((b"host", b"other"), ("grpc", INVALID_ARGUMENT)),
    "timeout without unit": ((b"grpc-timeout", b"1"), ("grpc", INVALID_ARGUMENT)),
    "timeout of nine digits": ((b"grpc-timeout", b"123456789S"), ("grpc", INVALID_ARGUMENT)),
    "negative timeout": ((b"grpc-timeout", b"-1S"), ("grpc", INVALID_ARGUMENT)),
    "no content-length": ((b"content-length", b"nine"), MALFORMED),
    "negative content-length": ((b"content-length", b"-9"), MALFORMED),
    "content-length of two": ((b"content-length", b"9, 9"), MALFORMED),
    "content-length too short": ((b"content-length", b"8"), MALFORMED),
    "content-length too long": ((b"content-length", b"10"), MALFORMED),
}
HEADS: Final = {
    "GET": Odd(_set(b":method", b"GET"), ("http", 405, INVALID_ARGUMENT)),
    "CONNECT": Odd(_set(b":method", b"CONNECT"), ("http", 405, INVALID_ARGUMENT)),
    "lower-case method": Odd(_set(b":method", b"post"), ("http", 405, INVALID_ARGUMENT)),
    "no method": Odd(_set(b":method", None), MALFORMED),
    "no scheme": Odd(_set(b":scheme", None), MALFORMED),
    "no path": Odd(_set(b":path", None), MALFORMED),
    "another scheme": Odd(_set(b":scheme", b"ftp"), ("grpc", INVALID_ARGUMENT)),
    "userinfo": Odd(_set(b":authority", b"user@model:1"), ("grpc", INVALID_ARGUMENT)),
    "no te": Odd(_set(b"te", None), ("grpc", INVALID_ARGUMENT)),
    "another te": Odd(_set(b"te", b"gzip"), MALFORMED),
    "te and more": Odd(_set(b"te", b"trailers, gzip"), MALFORMED),
    "no content-type": Odd(_set(b"content-type", None), NOT_GRPC),
    "JSON": Odd(_set(b"content-type", b"application/json"), NOT_GRPC),
    "gRPC-Web": Odd(_set(b"content-type", b"application/grpc-web+proto"), NOT_GRPC),
    "upper-case type": Odd(_set(b"content-type", b"Application/GRPC"), NOT_GRPC),
    "nothing at all": Odd(lambda fields: [], MALFORMED),
    "many fields": Odd(_add(*[(b"x-a", b"")] * 200), ("grpc", RESOURCE_EXHAUSTED)),
    "very many fields": Odd(_add(*[(b"x-a", b"")] * 2_000), ("goaway", ENHANCE_YOUR_CALM)),
}
LONG: Final = b"\0\0\0\x40\0" + bytes(0x4000)
BODIES: Final = {
    "two messages": Odd(_same, ("grpc", UNIMPLEMENTED), (PING + PING,)),
    "two messages in two frames": Odd(_same, ("grpc", UNIMPLEMENTED), (PING, PING)),
    "a second message begun": Odd(_same, ("grpc", INTERNAL), (PING, PING[:6])),
    "no message": Odd(_same, ("grpc", UNIMPLEMENTED), ()),
    "no message in a frame": Odd(_same, ("grpc", UNIMPLEMENTED), (b"",)),
    "a length beyond the body": Odd(_same, ("grpc", INTERNAL), (b"\0\0\0\0\5ping",)),
    "a length far beyond it": Odd(_same, ("grpc", INTERNAL), (b"\0\0\0\x20\0ping",)),
    "half a prefix": Odd(_same, ("grpc", INTERNAL), (b"\0\0\0",)),
    "bytes behind the message": Odd(_same, ("grpc", INTERNAL), (PING + b"\0\0",)),
    "a length beyond the limit": Odd(_same, ("grpc", RESOURCE_EXHAUSTED), (b"\0\xff\xff\xff\xffping",)),
    "a length just beyond it": Odd(_same, ("grpc", RESOURCE_EXHAUSTED), (b"\0\1\0\0\1ping",)),
    "an unknown flag": Odd(_same, ("grpc", INTERNAL), (b"\2" + PING[1:],)),
    "trailers": Odd(_same, ("grpc", INVALID_ARGUMENT), (PING,), ((b"x-last", b"1"),)),
    "trailers with a status": Odd(_same, ("grpc", INVALID_ARGUMENT), (PING,), ((b"grpc-status", b"0"),)),
    "malformed trailers": Odd(_same, MALFORMED, (PING,), ((b"X-Last", b"1"),)),
    "pseudo-header in trailers": Odd(_same, MALFORMED, (PING,), ((b":path", b"/t.S/Other"),)),
}


def every() -> Iterator[tuple[str, Odd]]:
    for name, (path, outcome) in PATHS.items():
        yield f"path: {name}", Odd(_set(b":path", path), outcome)
    for name, (value, outcome) in REPEATED.items():
        change = _twice(name.encode(), value)
        if name == "host":
            change = _without_authority(change)
        yield f"twice: {name}", Odd(change, outcome)
    for name, (field, outcome) in METADATA.items():
        yield f"metadata: {name}", Odd(_add(field), outcome)
    for name, odd in HEADS.items():
        yield f"head: {name}", odd
    for name, odd in BODIES.items():
        yield f"body: {name}", odd


def _without_authority(change: Callable[[list[Field]], list[Field]]) -> Callable[[list[Field]], list[Field]]:
    return lambda fields: change([field for field in fields if field[0] != b":authority"])


def with_metadata() -> tuple[Field, ...]:
    """Odd at first sight, and all right."""
    return (
        (b"x-empty", b""), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"0-9_.z", b"~ !\"#$%&'()"), (b"x-bin", b"AAE"),
        (b"x-bin", b"AAE="), (b"y-bin", b""), (b"z-bin", base64.b64encode(bytes(range(256)))), (b"x-a", b"a, b"),
        (b"content-length", b"9"), (b"grpc-timeout", b"99999999H"), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"),
    )  # fmt: skip
