"""The `upstream` section: the model server, how to reach it, and what its calls look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from sidecar.config.addresses import ConnectAddress
from sidecar.config.faults import expected
from sidecar.config.fields import (
    Distinct,
    FilePath,
    Many,
    MethodName,
    Name,
    Section,
    ServiceName,
    written,
)
from sidecar.config.listen import ConnectionWindow, Count, ShortTime, StreamWindow

NAMES_MODELS = frozenset(("auto", "open-inference", "tf-serving"))  # protocols whose messages name their model

FieldPath: TypeAlias = Annotated[int, Field(ge=1, le=(1 << 29) - 1)]  # protobuf field numbers


class OpaqueMethod(Section):
    """The shape of one method. Said to be unary on a side, a second message there is refused."""

    name: MethodName = Field(description="Its name, such as `Classify`.")
    unary_request: bool = Field(False, description="Exactly one request message.")
    unary_response: bool = Field(False, description="Exactly one response message.")


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


def _only_one(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise expected("one address; this version forwards to a single model server")
        return value[0]
    return value


class Upstream(Section):
    """The model server."""

    address: Annotated[ConnectAddress, BeforeValidator(_only_one)] = Field(
        written("127.0.0.1:8001"), description="Where it listens: `host:port`, `[v6]:port` or `unix:///path`."
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
    connections: Annotated[int, Field(ge=1, le=256)] = Field(1, description="Connections kept open to it.")
    connect_timeout: ShortTime = Field(written("5s"), description="Time for a connection to be ready for calls.")
    queue: Count = Field(
        1000, description="Calls that wait for a connection or a free stream; one more is answered UNAVAILABLE."
    )
    stream_window: StreamWindow = Field(
        written("1MiB"), description="Bytes of one call's answer held for a slow caller (the HTTP/2 stream window)."
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
        """Whether it is on another host, as far as its address tells."""
        return not self.address.loopback
