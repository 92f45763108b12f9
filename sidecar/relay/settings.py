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
    message_s: for a request message once it is due, as long as hardly any of it comes.  read_s: for an answer that
    waits to be read, as long as nothing of it is.
    buffered_per_connection: the same of one connection.  calls: open at once.  adaptive: whether the model server's
    latency limits them further.  memory: bytes that the process may hold before it takes no more calls.
    handshakes: in progress at once.
    idle_s: a connection without calls.  keepalive_s: quiet time after which a PING must be answered.
    """

    limits: Limits = field(default_factory=Limits)
    message: int = 16 << 20
    response_message: int = 16 << 20
    decompressed: int = 64 << 20
    buffered: int = 256 << 20
    buffered_per_connection: int = 128 << 20
    calls: int = 10_000
    adaptive: bool = True
    memory: int = 3 << 30
    handshakes: int = 256
    handshake_s: float = 10.0
    header_s: float = 10.0
    message_s: float = 20.0
    read_s: float = 300.0
    idle_s: float = 3600.0
    keepalive_s: float = 60.0
    connections_per_source: int = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """A place to connect to: a host, by name or IP address, and a port; or a Unix socket's path, its host being ""."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How an endpoint that is connected shows that it can serve.

    grpc: whether grpc.health.v1 is asked, about `service`; else the connection is enough.
    failures: checks in a row without an answer that end its use; an answer other than SERVING ends it at once.
    """

    grpc: bool = False
    service: str = ""
    interval_s: float = 5.0
    timeout_s: float = 1.0
    failures: int = 2


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """When an endpoint that fails calls is left out, though connected, and for how long.

    failures: failed calls in a row, 0 for no such rule.  ratio: of failed calls among at least `calls` within
    `interval_s`, 0 for no such rule.  base_s, most_s: the first time out, and the longest.  share: of endpoints that
    may be out at once, below 1.
    """

    failures: int = 5
    ratio: float = 0.5
    calls: int = 20
    interval_s: float = 10.0
    base_s: float = 10.0
    most_s: float = 300.0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """When a call is tried again.

    attempts: how often a unary request that was answered UNAVAILABLE, or whose connection broke, before anything of an
    answer came; it may have been processed.  backoff_s: before the first of these.
    budget: tries again for each call, where the model server has had the call before; reserve: as many at once.
    """

    attempts: int = 0
    backoff_s: float = 0.05
    budget: float = 0.1
    reserve: int = 10


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Where calls go.

    connections: to each endpoint; connections_most: the same while all streams of those are taken.
    calls_most: open at one endpoint, 0 for no limit but its own.  try_s: from a whole request to the head of its
    answer, 0 for no limit.  queue: calls that may wait for a connection or a free stream, queue_s: how long each.
    wait: calls wait while no endpoint can be reached; else they fail at once, but for the first attempt.
    dns_s: between two look-ups of a name, dns_least_s: the same after a failed connection.
    keepalive_s: silence during a call after which a PING must be answered within keepalive_answer_s.
    backoff_first_s, backoff_most_s: between attempts to connect; a connection that lasts the latter is no failure.
    """

    targets: tuple[Target, ...]
    connections: int = 1
    connections_most: int = 1
    connect_s: float = 5.0
    calls_most: int = 0
    try_s: float = 0.0
    queue: int = 1000
    queue_s: float = 5.0
    wait: bool = False
    dns_s: float = 30.0
    dns_least_s: float = 1.0
    backoff_first_s: float = 0.1
    backoff_most_s: float = 2.0
    keepalive_s: float = 10.0
    keepalive_answer_s: float = 5.0
    health: HealthSettings = HealthSettings()
    ejection: EjectionSettings = EjectionSettings()
    retries: RetrySettings = RetrySettings()
    limits: Limits = field(default_factory=Limits)
