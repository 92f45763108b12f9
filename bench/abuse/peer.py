"""One hostile connection, and the frames that attacks are made of. Nothing here keeps HTTP/2's rules."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode

ECHO = "/abuse.Model/Echo"
SLOW = "/abuse.Model/Slow"  # answered after a while
LARGE = "/abuse.Model/Large"  # answered with much
REFUSED = "/abuse.Refused/Allowed"  # by its rules; what is asked of it here never may reach the model server
DENIED = "/abuse.Refused/Denied"  # by the rules
INFER = "/inference.GRPCInferenceService/ModelInfer"  # its messages are decoded, for the rules name models

END_STREAM, END_HEADERS = frames.END_STREAM, frames.END_HEADERS
BODY = b"\0\0\0\0\x01x"  # a whole gRPC message
_PIECE = 256 << 10  # bytes handed to the kernel at a time
_LEAVE_S = 0.5

Fields = Iterable[tuple[bytes, bytes]]


class CutError(Exception):
    """The sidecar has ended the connection, or did not take it."""


class OverError(Exception):
    """The time of the attack is over."""


@dataclass(slots=True)
class Tally:
    """What became of an attack's connections. codes: of the GOAWAYs that ended some.  resets: RST_STREAM frames."""

    connections: int = 0
    cut: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    resets: int = 0

    @property
    def ended(self) -> int:
        """Connections and calls that the sidecar has ended."""
        return self.cut + self.resets

    def record(self) -> dict[str, object]:
        return {
            "connections": self.connections,
            "cut": self.cut,
            "codes": dict(self.codes),
            "resets": self.resets,
        }


@dataclass(frozen=True, slots=True)
class Target:
    """Where the sidecar listens. context: makes the client's side of TLS; None for plaintext.  source: own address."""

    host: str
    port: int
    context: Callable[[], ssl.SSLContext] | None
    source: str = "127.0.0.1"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 5.0, (self.source, 0))


class Peer:
    """A connection to the sidecar. It reads while it sends, unless `deaf`, so that neither side waits for the other.

    until: when the attack is over, on the monotonic clock.
    """

    def __init__(self, target: Target, until: float, tally: Tally) -> None:
        self.target = target
        self.until = until
        self.tally = tally
        self.deaf = False
        self.context = target.context() if target.context is not None else None
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._out = bytearray()
        self._in = bytearray()
        self._next = 1

    def connect(self) -> None:
        """TCP and TLS. Raises CutError, OverError."""
        self.tally.connections += 1
        try:
            self._socket = self.target.connect()
        except OSError as error:
            raise CutError("not accepted") from error
        self._socket.setblocking(False)
        if self.context is not None:
            self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
            while not self._handshake():
                self._turn(0.1)

    def greet(self, settings: Iterable[tuple[int, int]] = ()) -> None:
        """The preface and our SETTINGS."""
        self.send(frames.PREFACE, frames.settings(list(settings)))

    def hello(self) -> bytes:
        """The first flight of a handshake."""
        assert self.context is not None
        tls = self.context.wrap_bio(ssl.MemoryBIO(), self._outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return self._outgoing.read()

    def _handshake(self) -> bool:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise CutError("TLS refused") from error
        finally:
            self._out += self._outgoing.read()
        return True

    def ids(self, count: int) -> Iterator[int]:
        """The next stream ids."""
        first, self._next = self._next, self._next + 2 * count
        return iter(range(first, self._next, 2))

    def send(self, *octets: bytes) -> None:
        """Raises CutError, OverError."""
        data = b"".join(octets)
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self.send_sealed(data)

    def send_sealed(self, data: bytes) -> None:
        """Send bytes below TLS."""
        self._out += data
        while self._out:
            self._turn(0.1)
        self._turn(0.0)

    def wait(self, seconds: float) -> None:
        """Do nothing but read. Raises CutError, OverError."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._turn(min(0.05, seconds))

    def _turn(self, seconds: float) -> None:
        """Send and receive what can be, waiting so long for either."""
        assert self._socket is not None
        if time.monotonic() > self.until:
            raise OverError
        poll = select.poll()
        wanted = (0 if self.deaf else select.POLLIN) | (select.POLLOUT if self._out else 0)
        poll.register(self._socket, wanted | select.POLLRDHUP)
        for _, found in poll.poll(1000 * seconds):
            try:
                if found & select.POLLIN:
                    self._receive(self._socket.recv(_PIECE))
                elif found & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                    raise CutError("closed")
                if found & select.POLLOUT:
                    sent = self._socket.send(memoryview(self._out)[:_PIECE])
                    del self._out[:sent]
            except BlockingIOError:
                continue
            except OSError as error:
                raise CutError("closed") from error

    def _receive(self, data: bytes) -> None:
        if not data:
            raise CutError("closed")
        if self._tls is None:
            self._in += data
        else:
            self._incoming.write(data)
            try:
                while plain := self._tls.read(1 << 16):
                    self._in += plain
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise CutError("TLS ended") from error
        self._look()

    def _look(self) -> None:
        """Go over the frames that are whole."""
        at = 0
        while len(self._in) - at >= frames.HEADER_LENGTH:
            word, _, _ = frames.HEADER.unpack_from(self._in, at)
            begin = at + frames.HEADER_LENGTH
            if begin + (word >> 8) > len(self._in):
                break
            at = begin + (word >> 8)
            if word & 0xFF == frames.RST_STREAM:
                self.tally.resets += 1
            elif word & 0xFF == frames.GOAWAY:
                code = int.from_bytes(self._in[begin + 4 : begin + 8], "big")
                self.tally.codes[CODES.get(code, str(code))] += 1
        del self._in[:at]

    def leave(self) -> None:
        """Close, and wait a moment until the sidecar has as well."""
        if self._socket is None:
            return
        with self._socket as connection:
            try:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(_LEAVE_S)
                until = time.monotonic() + _LEAVE_S
                while time.monotonic() < until and connection.recv(_PIECE):
                    pass
            except OSError:
                pass  # it is closed


CODES = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED", 6: "FRAME_SIZE_ERROR",
         9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM"}  # fmt: skip


def block(path: str, more: Fields = ()) -> bytes:
    """The header block of a gRPC request."""
    return encode((
        (b":method", b"POST"), (b":scheme", b"https"), (b":path", path.encode()), (b":authority", b"localhost"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *more,
    ))  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.frame_header(len(payload), kind, flags, stream) + payload


def head(stream: int, path: str = ECHO, more: Fields = (), end: bool = False) -> bytes:
    return frame(frames.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(path, more))


def data(stream: int, payload: bytes = BODY, end: bool = False) -> bytes:
    return frame(frames.DATA, END_STREAM if end else 0, stream, payload)


def whole(stream: int, path: str = ECHO, more: Fields = ()) -> bytes:
    """A unary request."""
    return head(stream, path, more) + data(stream, end=True)


def body(stream: int, octets: bytes) -> bytes:
    """DATA frames that end a stream."""
    pieces = range(0, len(octets), frames.DEFAULT_FRAME)
    return b"".join(
        data(stream, octets[at : at + frames.DEFAULT_FRAME], at + frames.DEFAULT_FRAME >= len(octets)) for at in pieces
    )


def gzipped_zeros(mebibytes: int) -> bytes:
    """A gRPC message that is flagged compressed, whose end never comes: each block says the same, in 1,000 bytes."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + mebibyte * mebibytes
    return b"\x01" + len(packed).to_bytes(4, "big") + packed


GZIP_BOMB = gzipped_zeros(66)  # beyond `listen.limits.decompressed`
