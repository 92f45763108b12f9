"""What the relay is told by whoever composes the program: values only, sizes in bytes and times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.relay.http2.limits import Limits


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """How clients are taken.

    limits: of each connection.  message: largest request message.  decompressed: largest after inflating.
    buffered: bytes of messages that links must see whole, over all connections.  handshake_s: from accept to
    the end of the TLS handshake.  header_s: for a header block once begun, and for the preface.
    idle_s: a connection without calls.  keepalive_s: quiet time after which a PING must be answered.
    """

    limits: Limits = field(default_factory=Limits)
    message: int = 16 << 20
    response_message: int = 16 << 20
    decompressed: int = 64 << 20
    buffered: int = 256 << 20
    handshake_s: float = 10.0
    header_s: float = 10.0
    idle_s: float = 3600.0
    keepalive_s: float = 60.0
    connections_per_source: int = 1000


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Where calls go. host is "" for a Unix socket, whose path is `path`.

    queue: calls that may wait for a connection or a free stream, queue_s: how long each.
    keepalive_s: silence during a call after which a PING must be answered. gRPC servers close a connection that sends
    PINGs more often than every five minutes (grpc/doc/keepalive.md), calls included.
    backoff_first_s, backoff_most_s: between attempts to connect; a connection that lasts the latter is no failure.
    """

    host: str
    port: int
    path: str = ""
    connections: int = 1
    connect_s: float = 5.0
    queue: int = 1000
    queue_s: float = 5.0
    backoff_first_s: float = 0.1
    backoff_most_s: float = 5.0
    keepalive_s: float = 310.0
    limits: Limits = field(default_factory=Limits)

    @property
    def address(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
