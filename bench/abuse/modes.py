"""The attacks of clients: each is what one connection does until it is cut, or the time is over."""

from __future__ import annotations

import contextlib
import itertools
import select
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.abuse import keyupdate
from bench.abuse.peer import (
    BODY,
    DENIED,
    ECHO,
    END_HEADERS,
    GZIP_BOMB,
    INFER,
    LARGE,
    REFUSED,
    SLOW,
    OverError,
    Peer,
    block,
    body,
    data,
    frame,
    head,
    whole,
)
from sidecar.relay.http2 import frames

Attack = Callable[[Peer], None]
Make = Callable[[int], bytes]  # frames by stream id

ABUSE: Final = "langtrain_sidecar_abuse_closures_total"
ERRORS: Final = "langtrain_sidecar_connection_errors_total"
DENIALS: Final = "langtrain_sidecar_denials_total"
TLS: Final = "langtrain_sidecar_tls_errors_total"
NOTHING: Final = ("", "")  # of what anybody may do, and limits of rates are for
BATCH: Final = 50  # streams, or frames, sent at a time
HALF_OPEN: Final = 200  # handshakes that one peer begins and leaves


@dataclass(frozen=True, slots=True)
class Mode:
    """attack: raises CutError when the sidecar ends the connection; a new one is made whenever it returns.

    counted: metric and reason under which it must show.  cuts: whether its connections, or calls, are ended and it
    sees so.  connections: at once.  greets: TLS and the preface come first.
    """

    attack: Attack
    counted: tuple[str, str]
    cuts: bool = True
    connections: int = 4
    greets: bool = True


# --- resets -----------------------------------------------------------------------------------------------------


def streams(make: Make) -> Attack:
    """Streams without end, each opened by `make` and at once spoilt."""

    def attack(peer: Peer) -> None:
        while True:
            peer.send(*map(make, peer.ids(BATCH)))

    return attack


def on_itself(number: int) -> bytes:
    return frame(frames.PRIORITY, 0, number, struct.pack(">LB", number, 16))


RESETS: Final[dict[str, Make]] = {
    # CVE-2023-44487
    "rapid-reset": lambda number: whole(number, SLOW) + frames.rst_stream(number, 8),
    # CVE-2025-8671, the six of its finders
    "led: WINDOW_UPDATE of 0": lambda number: whole(number, SLOW) + frames.window_update(number, 0),
    "led: window beyond 2^31-1": lambda number: whole(number, SLOW) + frames.window_update(number, frames.MAX_WINDOW),
    "led: HEADERS after the end": lambda number: whole(number, SLOW) + head(number, SLOW, end=True),
    "led: DATA after the end": lambda number: whole(number, SLOW) + data(number),
    # and others of the kind
    "led: DATA beyond content-length": lambda number: (
        head(number, REFUSED, ((b"content-length", b"6"),)) + data(number) + data(number)
    ),
    "malformed requests": lambda number: head(number, REFUSED, ((b"Upper", b"case"),), end=True),
}
LED_OTHERWISE: Final[dict[str, Make]] = {
    "led: PRIORITY of 4 bytes": lambda number: whole(number, SLOW) + frame(frames.PRIORITY, 0, number, bytes(4)),
    "led: PRIORITY on itself": lambda number: whole(number, SLOW) + on_itself(number),
}


# --- floods -----------------------------------------------------------------------------------------------------


def flood(octets: bytes, opening: bytes = b"") -> Attack:
    """The same frame without end, after others."""

    def attack(peer: Peer) -> None:
        peer.send(opening)
        while True:
            peer.send(octets * BATCH)

    return attack


def _unfinished(stream: int) -> bytes:
    return frame(frames.HEADERS, 0, stream, block(REFUSED))


FLOODS: Final[dict[str, tuple[Attack, str]]] = {
    "CONTINUATION": (flood(frame(frames.CONTINUATION, 0, 1), _unfinished(1)), "header block too long"),
    "CONTINUATION, full": (
        flood(frame(frames.CONTINUATION, 0, 1, bytes(16_384)), _unfinished(1)),
        "header block too long",
    ),
    "PING": (flood(frames.ping(bytes(8), False)), "flood of PING frames"),
    "SETTINGS": (flood(frames.settings([(frames.INITIAL_WINDOW_SIZE, 65_535)])), "flood of SETTINGS"),
    "PRIORITY": (flood(on_itself(1)), "flood of PRIORITY frames"),
    "WINDOW_UPDATE": (flood(frames.window_update(0, 1)), "flood of WINDOW_UPDATE frames"),
    "empty DATA": (flood(data(1, b""), head(1, REFUSED)), "flood of empty DATA frames"),
    "unknown frames": (flood(frame(0xBB, 0, 0, bytes(100))), "flood of unknown frames"),
}


# --- slowness ---------------------------------------------------------------------------------------------------


def zero_window(peer: Peer) -> None:
    """Ask for much on every stream and let nothing come; ask again when that is taken away."""
    peer.connect()
    peer.greet([(frames.INITIAL_WINDOW_SIZE, 0)])
    while True:
        before = peer.tally.resets
        peer.send(*(whole(number, LARGE) for number in peer.ids(100)))
        while peer.tally.resets < before + 100:
            peer.wait(0.05)


def one_byte_window(peer: Peer) -> None:
    """The same, and let come a byte at a time."""
    peer.connect()
    peer.greet([(frames.INITIAL_WINDOW_SIZE, 1)])
    numbers = list(peer.ids(100))
    peer.send(*(whole(number, LARGE) for number in numbers))
    while True:
        peer.send(*(frames.window_update(number, 1) for number in numbers))


def never_reads(peer: Peer) -> None:
    """Windows as large as they go, and a socket that nobody reads."""
    peer.connect()
    peer.greet([(frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)])
    peer.send(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
    peer.deaf = True
    peer.send(*(whole(number, LARGE) for number in peer.ids(100)))
    peer.wait(3600)


def slow_headers(peer: Peer) -> None:
    """A header block that comes a byte at a time."""
    octets = block(REFUSED)
    peer.send(frame(frames.HEADERS, 0, 1, octets[:1]))
    for at in range(1, len(octets)):
        peer.wait(1.0)
        peer.send(frame(frames.CONTINUATION, 0, 1, octets[at : at + 1]))


def slow_preface(peer: Peer) -> None:
    peer.connect()
    for octet in frames.PREFACE:
        peer.send(bytes((octet,)))
        peer.wait(1.0)


def slow_bodies(peer: Peer) -> None:
    """Messages that come a byte at a time, on every stream."""
    numbers = list(peer.ids(100))
    peer.send(*(head(number, REFUSED) + data(number, b"\0\0\0\x30\0") for number in numbers))
    while True:
        peer.wait(0.2)
        peer.send(*(data(number, b"x") for number in numbers))


# --- TLS --------------------------------------------------------------------------------------------------------


def half_open_tls(peer: Peer) -> None:
    """Ask for handshakes that the sidecar has to work for, and leave them there."""
    hello = peer.hello()
    with contextlib.ExitStack() as stack:
        stalled = select.poll()
        for _ in range(HALF_OPEN):
            peer.tally.connections += 1
            with contextlib.suppress(OSError):
                connection = stack.enter_context(peer.target.connect())
                connection.sendall(hello)
                stalled.register(connection, select.POLLRDHUP)
        left = HALF_OPEN
        while left > 0:
            for file, _ in stalled.poll(100):
                stalled.unregister(file)
                peer.tally.cut += 1
                left -= 1
            if time.monotonic() > peer.until:
                raise OverError


def handshakes(peer: Peer) -> None:
    """Whole handshakes, one after the other, for nothing."""
    peer.connect()
    peer.greet()


def key_updates(peer: Peer) -> None:
    """TLS 1.3 has no renegotiation; what it has is KeyUpdate (RFC 8446 4.6.3), which asks for an answer."""
    assert peer.context is not None
    secrets = keyupdate.listen(peer.context)
    peer.connect()
    updates = keyupdate.Updates(secrets())
    while True:
        peer.send_sealed(b"".join(itertools.islice(updates, BATCH)))


def old_tls(peer: Peer) -> None:
    """TLS 1.2, which could be renegotiated."""
    assert peer.context is not None
    peer.context.minimum_version = peer.context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer.connect()


# --- header tables, compression, protobuf -----------------------------------------------------------------------


def _inserted(name: bytes, value: bytes) -> bytes:
    """RFC 7541 §6.2.1: a literal that enters the table, for short names and values below 16 KiB."""
    size = len(value)
    length = bytes((size,)) if size < 127 else bytes((127, (size - 127) & 0x7F | 0x80, (size - 127) >> 7))
    return b"\x40" + bytes((len(name),)) + name + length + value


def hpack_bomb(peer: Peer) -> None:
    """One entry of 4,000 bytes, then a byte for each further one."""
    first, second = peer.ids(2)
    peer.send(frame(frames.HEADERS, END_HEADERS, first, block(REFUSED) + _inserted(b"a", b"v" * 4000)))
    peer.send(frame(frames.HEADERS, END_HEADERS, second, block(REFUSED) + b"\xbe" * 8000))
    peer.wait(3600)


def table_churn(peer: Peer) -> None:
    """The table emptied and filled again with every request."""
    fields = b"".join(_inserted(b"x-%02d" % number, b"%030d" % number) for number in range(60))
    octets = b"\x20\x3f\xe1\x1f" + block(ECHO) + fields  # a size of 0, then of 4,096
    while True:
        peer.send(*(
            frame(frames.HEADERS, END_HEADERS, number, octets) + data(number, end=True) for number in peer.ids(BATCH)
        ))  # fmt: skip


def gently(make: Make, seconds: float = 0.01) -> Attack:
    """Requests that are answered by refusing them: a few at a time, within the limit of streams."""

    def attack(peer: Peer) -> None:
        while True:
            peer.send(*map(make, peer.ids(10)))
            peer.wait(seconds)

    return attack


# Groups within groups: `start group 5` ten thousand times, and as often its end.
DEPTH_BOMB: Final = b"\0" + (20_000).to_bytes(4, "big") + b"\x2b" * 10_000 + b"\x2c" * 10_000
REFUSALS: Final[dict[str, tuple[Make, str]]] = {
    "calls that rules deny": (lambda number: whole(number, DENIED), "authorize.no_rule"),
    "headers beyond the limit": (
        lambda number: whole(number, REFUSED, [(b"x-%03d" % at, b"v" * 105) for at in range(120)]),
        "request.headers_too_large",
    ),
    "messages that are cut": (
        lambda number: head(number, REFUSED) + data(number, BODY[:-1], True),
        "message.truncated",
    ),
    "gzip bombs": (
        lambda number: head(number, INFER, ((b"grpc-encoding", b"gzip"),)) + body(number, GZIP_BOMB),
        "message.decompressed_too_large",
    ),
    "protobuf depth bombs": (lambda number: head(number, INFER) + body(number, DEPTH_BOMB), "authorize.malformed"),
}

MODES: Final[dict[str, Mode]] = {
    **{name: Mode(streams(make), (ABUSE, "too many resets")) for name, make in RESETS.items()},
    "led: PRIORITY of 4 bytes": Mode(
        streams(LED_OTHERWISE["led: PRIORITY of 4 bytes"]), (ERRORS, "http2.frame_size_error")
    ),
    "led: PRIORITY on itself": Mode(
        streams(LED_OTHERWISE["led: PRIORITY on itself"]), (ABUSE, "flood of PRIORITY frames")
    ),
    **{f"{name} flood": Mode(attack, (ABUSE, reason)) for name, (attack, reason) in FLOODS.items()},
    "zero window": Mode(zero_window, (ABUSE, "client.slow"), greets=False),
    "one-byte window": Mode(one_byte_window, (ABUSE, "flood of WINDOW_UPDATE frames"), greets=False),
    "never reads": Mode(never_reads, (ABUSE, "client.slow"), cuts=False, greets=False),
    "slow headers": Mode(slow_headers, (ABUSE, "front.header_timeout"), connections=20),
    "slow preface": Mode(slow_preface, (ABUSE, "front.preface_timeout"), connections=20, greets=False),
    "slow bodies": Mode(slow_bodies, (ABUSE, "message.slow")),
    "half-open TLS": Mode(half_open_tls, (ABUSE, "front.handshake_timeout"), connections=2, greets=False),
    "handshakes": Mode(handshakes, NOTHING, cuts=False, greets=False),
    "KeyUpdate flood": Mode(key_updates, (ABUSE, "tls.key_updates"), greets=False),
    "TLS 1.2": Mode(old_tls, (TLS, "tls.version"), greets=False),
    "HPACK bomb": Mode(hpack_bomb, (ABUSE, "header list far beyond its limit")),
    "table churn": Mode(table_churn, NOTHING, cuts=False),
    **{name: Mode(gently(make), (DENIALS, reason), cuts=False) for name, (make, reason) in REFUSALS.items()},
}
