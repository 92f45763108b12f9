"""TLS as bytes in, bytes out: one connection, either side. Sockets, timers and the event loop are not handled here.

The caller writes what `start`, `send` and `close` return, and what `pending` returns after each `receive` until
`handshaken` was true before it, and after any TlsError. What arises later (a KeyUpdate's answer) leaves with the
next `send`, which RFC 8446 4.6.3 asks for and no more.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from interceptors.facts import PeerCertificate
from sidecar.relay.certificates import verified_chain
from sidecar.relay.tls_errors import TlsBroken, TlsError, TlsRefused, refusal

ALPN: Final = "h2"
RECORD: Final = 16384  # bytes of plaintext in a record at most, RFC 8446 5.1; a larger read costs its allocation
SLICE: Final = 65536  # bytes moved through a BIO at a time, for it keeps what memory it once needed
GROUP: Final = 32  # records at a time: a KeyUpdate is 27 bytes, and costs as much as a megabyte
KEY_UPDATES: Final = "tls.key_updates"
UNSENT: Final = 4096  # bytes of answers to KeyUpdates that wait for a send: some 150, and no peer needs two
SILENT: Final = 100  # records without plaintext, as KeyUpdates are, of which one is forgotten for each
SPOKEN: Final = 1000  # with some: the most eager peers update their keys once in 2**24
_HEAD: Final = 5  # bytes of a record's header, RFC 8446 5.1: type, version, length
# RFC 8446 6 and RFC 7301 3.2: a fatal no_application_protocol alert in a plaintext record, in place of ServerHello.
NO_APPLICATION_PROTOCOL: Final = bytes((21, 3, 3, 0, 2, 2, 120))

Octets: TypeAlias = bytes | bytearray | memoryview
Admit: TypeAlias = Callable[[ssl.SSLObject], PeerCertificate | None]


class TlsChannel:
    """One TLS connection.

    admit: called once, when the handshake has ended and before any plaintext is given out; raises TlsRefused, or
    returns what the peer's certificate says.
    handshaken: the peer is admitted, and its plaintext flows.  closed: nothing more can be received, for the peer has
    sent close_notify or an error has ended the connection.
    certificate: what `admit` returned.  alpn: "h2" once handshaken.
    """

    __slots__ = (
        "_admit",
        "_answered",
        "_feed",
        "_flows",
        "_given",
        "_head",
        "_incoming",
        "_left",
        "_outgoing",
        "_read",
        "_records",
        "_server",
        "_take",
        "_tls",
        "_write",
        "alpn",
        "certificate",
        "closed",
        "handshaken",
    )

    def __init__(
        self, context: ssl.SSLContext, admit: Admit, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # Bound once: a look-up per call is a measurable part of what a small record costs.
        self._feed = self._incoming.write
        self._take = self._outgoing.read
        self._read = self._tls.read
        self._write = self._tls.write
        self._admit = admit
        self._server = server_side
        self._answered = False
        self._head = b""  # of a header that is not whole yet
        self._left = 0  # bytes to come of the record that has begun
        self._records = 0  # that have begun
        self._given = 0  # of them, those that had plaintext
        self.certificate: PeerCertificate | None = None
        self.alpn: str | None = None
        self.handshaken = False
        self._flows = False  # handshaken and not closed
        self.closed = False

    def chain(self) -> tuple[bytes, ...]:
        """The peer's chain as it was verified in the handshake: DER, leaf first, () without a certificate."""
        return verified_chain(self._tls)

    def start(self) -> bytes:
        """The client's first flight. Raises TlsError."""
        self._handshake()
        return self.pending()

    def receive(self, data: Octets) -> bytes:
        """Take what arrived, cut anywhere; the plaintext that became readable, b"" for none yet.

        What arrives after the peer's close_notify is dropped. Raises TlsError; the connection has ended
        then, but `pending` may hold an alert.
        """
        octets = data if isinstance(data, bytes) else bytes(data)
        end = self._group(octets, 0)
        if self._flows and end == len(octets):
            self._feed(octets)
            try:
                record = self._read(RECORD)
            except ssl.SSLWantReadError:
                return self._answers()
            except ssl.SSLZeroReturnError:
                return self._ended()
            except ssl.SSLError as error:
                raise self._failed(error) from error
            if not record:
                return self._ended()
            self._given += 1
            silent = self._records - self._given
            if silent <= SILENT and not self._incoming.pending and not self._outgoing.pending:
                return record
            return b"".join((record, *self._drain(), self._answers()))
        established = self.handshaken
        records: list[bytes] = []
        begin, view = 0, memoryview(octets)
        while begin < len(octets) and not self.closed:
            self._feed(view[begin:end])
            if self.handshaken or self._handshake():
                records += self._drain()
                self._hear()
                if established:
                    self._answers()
            begin = end
            end = self._group(octets, end)
        return b"".join(records)

    def _group(self, data: bytes, at: int) -> int:
        """The end of what is to be taken at a time from `at` on: so many records, so many bytes."""
        size, most = min(len(data), at + SLICE), self._records + GROUP
        left = self._left
        while at < size:
            if left:
                step = left if left < size - at else size - at
                at += step
                left -= step
            elif self._records == most:
                break
            elif not self._head and at + _HEAD <= size:
                left = data[at + 3] << 8 | data[at + 4]
                self._records += 1
                at += _HEAD
            else:
                lacking = _HEAD - len(self._head)
                self._head += data[at : min(at + lacking, size)]
                at += lacking
                if at <= size:
                    left = self._head[3] << 8 | self._head[4]
                    self._head = b""
                    self._records += 1
                else:
                    at = size
        self._left = left
        return at

    def _drain(self) -> list[bytes]:
        """Every record that is there whole. A read of RECORD bytes takes all of one, so none is left in OpenSSL."""
        records = []
        try:
            while self._incoming.pending:
                if not (record := self._read(RECORD)):
                    self._ended()
                    break
                self._given += 1
                records.append(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended()
        except ssl.SSLError as error:
            raise self._failed(error) from error
        return records

    def _answers(self) -> bytes:
        """Raise TlsBroken where the peer has us answer it while we have nothing to send: what waits is memory."""
        self._hear()
        if self._outgoing.pending > UNSENT:
            self._ended()
            raise TlsBroken(KEY_UPDATES, f"over {UNSENT} bytes of answers to KeyUpdates wait to be sent")
        return b""

    def _hear(self) -> None:
        """Raise TlsBroken where the peer updates its keys over and over."""
        if (silent := self._records - self._given) > SILENT:
            self._records, self._given = max(0, silent - self._given // SPOKEN), 0
            if self._records > SILENT:
                self._ended()
                raise TlsBroken(KEY_UPDATES, f"{silent} records without anything in them")

    def _failed(self, error: ssl.SSLError) -> TlsError:
        self._ended()
        return refusal(error, handshaken=self.handshaken)

    def _ended(self) -> bytes:
        """After an error or close_notify: an empty read tells it, SSLZeroReturnError where ours was sent before."""
        self.closed = True
        self._flows = False
        return b""

    def send(self, plaintext: Octets) -> bytes:
        """The records that carry `plaintext`, with anything else that waits to be sent. Raises TlsBroken.

        Join small parts first: each call begins a record of its own (22 bytes and about 1 µs). At most SLICE bytes.
        """
        try:
            # Whole, always: SSL_MODE_ENABLE_PARTIAL_WRITE is off, and a memory BIO never blocks.
            self._write(plaintext)
            return self._take()
        except ssl.SSLWantReadError as error:
            raise TlsBroken("tls.not_ready", "sent before the handshake has ended") from error
        except ssl.SSLError as error:
            raise self._failed(error) from error

    def pending(self) -> bytes:
        """What waits to be sent: a handshake flight, an alert. b"" for nothing."""
        return self._take()

    def close(self) -> bytes:
        """close_notify, once; what the peer still sends can be received. b"" where there is no connection to close."""
        # What is suppressed: it wants the peer's close_notify, the handshake has not ended, the connection is broken.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._take()

    def eof(self) -> None:
        """The transport has no more bytes. Raises TlsError unless the peer had sent close_notify."""
        if not self.handshaken:
            raise TlsRefused("tls.handshake", "connection closed during the handshake")
        if not self.closed:
            raise TlsBroken("tls.truncated", "connection closed without close_notify")

    def _handshake(self) -> bool:
        """Go on with the handshake; True once it has ended and the peer is admitted. Raises TlsError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._server and not self._answered:
                self._answer()
            return False
        except ssl.SSLError as error:
            raise self._failed(error) from error
        self.alpn = self._tls.selected_alpn_protocol()
        try:
            if self.alpn != ALPN:
                raise TlsRefused("tls.no_alpn", f"expected {ALPN}, agreed on {self.alpn or 'none'}")
            self.certificate = self._admit(self._tls)
        except TlsError:
            # The ssl module has no way to send another alert once the handshake has ended.
            self._ended()
            self._outgoing.write(self.close())
            raise
        self.handshaken = self._flows = True
        self._records = self._given = 0  # the handshake's own do not count
        return True

    def _answer(self) -> None:
        """Refuse a ClientHello that does not offer our protocol, before the server's first flight leaves.

        The ssl module goes on without a protocol where RFC 7301 3.2 demands an alert, and a client would learn of
        its refusal only after it had sent its certificate.
        """
        if not self._outgoing.pending:
            return
        self._answered = True
        if self._tls.selected_alpn_protocol() != ALPN:
            self._take()
            self._outgoing.write(NO_APPLICATION_PROTOCOL)
            self._ended()
            raise TlsRefused("tls.no_alpn", f"expected {ALPN} among the protocols offered")
