"""The `upstream` section: the model server, how to reach it, and what its calls look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer

from sidecar.config.addresses import ConnectAddress
from sidecar.config.fields import (
    Distinct,
    FilePath,
    Many,
    MethodName,
    Name,
    PermissionName,
    Section,
    ServiceName,
    Spelt,
    Within,
    section_or_defaults,
    written,
)
from sidecar.config.listen import ConnectionWindow, Count, LongTime, ShortTime, StreamWindow
from sidecar.config.units import Duration

NAMES_MODELS = frozenset(("auto", "open-inference", "tf-serving"))  # protocols whose messages name their model

HealthService: TypeAlias = Annotated[ServiceName, Field(max_length=127)]
Connections: TypeAlias = Annotated[int, Field(ge=1, le=256)]
ShortDelay: TypeAlias = Annotated[Duration, Within(Duration(0), Duration(5))]
FieldPath: TypeAlias = Annotated[int, Field(ge=1, le=(1 << 29) - 1)]  # protobuf field numbers


class OpaqueMethod(Section):
    """The shape of one method. Said to be unary on a side, a second message there is refused."""

    name: MethodName = Field(description="Its name, such as `Classify`.")
    unary_request: bool = Field(False, description="Exactly one request message.")
    unary_response: bool = Field(False, description="Exactly one response message.")
    permission: PermissionName | None = Field(None, description="What a call needs; unset, as of the service.")


class OpaqueService(Section):
    """A service that the sidecar knows only by what is said here."""

    service: ServiceName = Field(description="Its full name, such as `acme.v1.Scorer`.")
    methods: Many[OpaqueMethod] = Field(
        (), description="Methods of known shape; any other counts as streaming on both sides."
    )
    model_field: Many[FieldPath] = Field(
        (),
        description="Where request messages name the model: protobuf field numbers from the outside in, such as "
        "`[1]` or `[2, 1]`. Empty where they name none.",
    )
    permission: PermissionName | None = Field(
        None, description="What a call needs, such as `models.inference`; unset, `upstream.opaque`."
    )


class UpstreamTls(Section):
    """TLS 1.3 towards the model server."""

    ca: FilePath = Field(
        description="PEM file: the CAs of the model server's certificate; nobody else can vouch for it."
    )
    certificate: FilePath | None = Field(None, description="PEM file: the sidecar's client certificate, for mTLS.")
    key: FilePath | None = Field(None, description="PEM file: that certificate's private key, unencrypted.")
    server_name: Name | None = Field(
        None, description="The name its certificate must bear, where it is not the host of `upstream.address`."
    )
    unsafe_allow_tls12: bool = Field(False, description="UNSAFE: accept TLS 1.2 from a model server without TLS 1.3.")


class Health(Section):
    """How an endpoint shows that it can serve. Without more, a connection that answers is enough."""

    check: Literal["tcp", "grpc"] = Field(
        "tcp",
        description="`grpc`: ask `grpc.health.v1.Health/Check`, and use the endpoint only while it says SERVING. One "
        "without that service counts as healthy, with a warning.",
    )
    service: HealthService | None = Field(None, description="The service asked about; unset, the server as a whole.")
    interval: ShortTime = Field(written("5s"), description="Time between two checks.")
    timeout: ShortTime = Field(written("1s"), description="Time for an answer.")
    failures: Annotated[int, Field(ge=1, le=100)] = Field(
        2,
        description="Checks without an answer, in a row, that end its use. Another answer than SERVING does at once.",
    )


class Ejection(Section):
    """When an endpoint that is connected but fails calls is left out. Never the last one, nor more than `share`."""

    failures: Annotated[int, Field(ge=0, le=10_000)] = Field(
        5, description="Failed calls in a row: UNAVAILABLE, reset or timed out. 0 for no such rule."
    )
    ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Share of failed calls within `interval`. 0 for no such rule."
    )
    calls: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        20, description="Calls within `interval` below which their share says nothing."
    )
    interval: ShortTime = Field(written("10s"), description="Time over which calls are counted.")
    time: ShortTime = Field(
        written("10s"), description="Time out; each further time adds as much, each good while takes as much off."
    )
    time_most: LongTime = Field(written("5m"), description="The longest time out.")
    share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="Share of the endpoints that may be out at once; one of several always may."
    )


class Retries(Section):
    """When a call is tried again. One that the model server certainly did not process always is, twice at most."""

    attempts: Annotated[int, Field(ge=0, le=5)] = Field(
        0,
        description="How often a unary request is tried again that was answered UNAVAILABLE, or whose connection "
        "broke, before anything of an answer came. The model server may have processed it: only for calls that may "
        "run twice.",
    )
    backoff: ShortDelay = Field(written("50ms"), description="Time before the first of these; it doubles each time.")
    budget: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Tries again, as a share of the calls, beyond which none is made."
    )
    reserve: Annotated[int, Field(ge=0, le=10_000)] = Field(
        10, description="Tries again that the budget allows at once, and before there have been calls."
    )


def _listed(value: Any) -> Any:
    """One address, or several."""
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def _shortest(addresses: tuple[Any, ...]) -> Any:
    return str(addresses[0]) if len(addresses) == 1 else [str(address) for address in addresses]


Addresses: TypeAlias = Annotated[
    tuple[ConnectAddress, ...],
    Field(min_length=1, max_length=64),
    BeforeValidator(_listed),
    Distinct,
    PlainSerializer(_shortest),
    Spelt({"type": "string", "title": "address"}),
]


class Upstream(Section):
    """The model server."""

    address: Addresses = Field(
        written("127.0.0.1:8001"),
        description="Where it listens: `host:port`, `[v6]:port` or `unix:///path`, or a list of these. Each is an "
        "endpoint, a name as many as it has addresses; calls go to the one that has the fewest.",
    )
    tls: UpstreamTls | None = Field(None, description="TLS towards it. Needed where it is on another host.")
    protocol: Literal["auto", "open-inference", "tf-serving", "opaque"] = Field(
        "auto",
        description="What its calls mean, for rules that name models. `auto` tells by the service's name; `opaque` "
        "knows nothing but `services`.",
    )
    services: Many[OpaqueService] = Field((), description="Services of other protocols, described by hand.")
    ports: Annotated[Many[Annotated[int, Field(ge=1, le=65535)]], Distinct] = Field(
        (), description="Further loopback ports that the model server opens on this host, such as for metrics."
    )
    connections: Connections = Field(1, description="Connections kept open to each endpoint.")
    connections_most: Connections | None = Field(
        None,
        description="The same while all streams that the endpoint allows on those are taken; unset, `connections`.",
    )
    calls_most: Count | None = Field(
        None, description="Calls open at once at one endpoint; unset, as many as it allows itself."
    )
    dns_refresh: ShortTime = Field(
        written("30s"),
        description="Time between two look-ups of a name. After a failed connection it is looked up soon.",
    )
    connect_timeout: ShortTime = Field(written("5s"), description="Time for a connection to be ready for calls.")
    per_try_timeout: LongTime | None = Field(
        None,
        description="Time from the end of a request to the head of its answer; unset, only deadlines end it.",
    )
    keepalive: Annotated[Duration, Within(Duration(1), Duration(3600))] = Field(
        written("10s"),
        description="Silence during a call after which the endpoint is pinged; twice in a silence, then every 310 s, "
        "for gRPC servers take more for abuse.",
    )
    keepalive_timeout: ShortTime = Field(
        written("5s"), description="Time for the answer to a ping; without one the connection is given up."
    )
    when_unready: Literal["fail_fast", "wait"] = Field(
        "fail_fast",
        description="While no endpoint can serve, calls fail at once (but wait for the first attempt to connect), or "
        "`wait` for `queue_timeout`.",
    )
    queue: Count = Field(
        1000, description="Calls that wait for a connection or a free stream; one more is answered UNAVAILABLE."
    )
    queue_timeout: ShortTime = Field(written("5s"), description="Time for which a call waits there.")
    health: Annotated[Health, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="How an endpoint shows that it can serve."
    )
    ejection: Annotated[Ejection, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="When an endpoint that fails calls is left out."
    )
    retries: Annotated[Retries, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="When a call is tried again."
    )
    stream_window: StreamWindow = Field(
        written("1MiB"),
        description="Bytes of one call's answer held for a slow caller, at most (the HTTP/2 stream window). A call "
        "begins with 64 KiB, and gets the rest when its answer comes fast and is read as fast.",
    )
    connection_window: ConnectionWindow = Field(
        written("256MiB"),
        description="The same for all calls of a connection together. When three quarters are held, the caller who "
        "holds most loses the calls that it does not read.",
    )
    unsafe_open_upstream: bool = Field(
        False,
        description="UNSAFE: serve although the model server can be reached around the sidecar, or over the network "
        "without TLS.",
    )

    @property
    def remote(self) -> bool:
        """Whether any of it is on another host, as far as its address tells."""
        return not all(address.loopback for address in self.address)
