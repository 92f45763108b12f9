"""The `listen` section: where callers come in, how TLS greets them, and what one of them may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer

from sidecar.config.addresses import ListenAddress
from sidecar.config.faults import expected
from sidecar.config.fields import FilePath, Section, Spelt, Within, section_or_defaults, written
from sidecar.config.units import Duration, Rate, Size

SECOND, MINUTE, DAY = Duration(1), Duration(60), Duration(86400)
WINDOW_MIN, WINDOW_MAX = Size(64 << 10), Size(1 << 30)  # RFC 9113 §6.9.1, §6.9.2: a stream's is 65,535 to begin with
MESSAGE_MAX = Size(2 << 30)

StreamWindow: TypeAlias = Annotated[Size, Within(WINDOW_MIN, WINDOW_MAX)]
ConnectionWindow: TypeAlias = Annotated[Size, Within(WINDOW_MIN, WINDOW_MAX)]
ShortTime: TypeAlias = Annotated[Duration, Within(Duration(0.1), Duration(300))]
ReadTime: TypeAlias = Annotated[Duration, Within(Duration(0.1), DAY)]
LongTime: TypeAlias = Annotated[Duration, Within(SECOND, Duration(30 * 86400))]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]


class Limits(Section):
    """What one peer, or one connection, may cost. Sizes count bytes; rates are per connection."""

    concurrent_streams: Count = Field(100, description="Calls open at once on one connection.")
    header_list: Annotated[Size, Within(Size(4 << 10), Size(1 << 20))] = Field(
        written("16KiB"), description="Size of one call's headers, counted as in RFC 9113 section 10.5.1."
    )
    header_count: Annotated[int, Field(ge=16, le=10_000)] = Field(128, description="Header fields of one call.")
    continuations: Annotated[int, Field(ge=1, le=1_000)] = Field(
        32, description="CONTINUATION frames in one header block."
    )
    message: Annotated[Size, Within(Size(1 << 10), MESSAGE_MAX)] = Field(
        written("16MiB"), description="One request message as it travels, compressed or not."
    )
    response_message: Annotated[Size, Within(Size(1 << 10), MESSAGE_MAX)] = Field(
        written("16MiB"), description="One response message as it travels, compressed or not."
    )
    decompressed: Annotated[Size, Within(Size(1 << 10), MESSAGE_MAX)] = Field(
        written("64MiB"), description="One message after decompression, where an interceptor reads it."
    )
    stream_window: StreamWindow = Field(
        written("1MiB"), description="Bytes a slow reader holds in memory for one call (the HTTP/2 stream window)."
    )
    connection_window: ConnectionWindow = Field(
        written("16MiB"), description="The same for all calls of a connection together."
    )
    buffered: Annotated[Size, Within(Size(1 << 20), Size(1 << 40))] = Field(
        written("256MiB"),
        description="Bytes of messages that interceptors must see whole, in the whole process. Beyond it calls are "
        "refused; beyond three fourths of it connections that hold some get no new ones.",
    )
    buffered_per_connection: Annotated[Size, Within(Size(1 << 20), Size(1 << 40))] = Field(
        written("128MiB"), description="The same for all calls of one connection together."
    )
    calls: Count = Field(
        10_000,
        description="Calls open at once in one process. Beyond it new ones are refused, but for health checks and the "
        "sidecar's own services.",
    )
    adaptive: bool = Field(
        True,
        description="Whether new calls are refused while more wait for the model server than it answers within a "
        "second, and then while its answers take much longer than is usual for their methods.",
    )
    memory: Annotated[Size, Within(Size(128 << 20), Size(1 << 40))] | None = Field(
        None,
        description="Memory of one process beyond which it takes no new calls; without it one and a half times "
        "`worker_memory`.",
    )
    handshakes: Count = Field(
        256,
        description="TLS handshakes in progress at once in one process. Connections beyond it are closed; one that "
        "stands still for a second yields to others.",
    )
    output: Annotated[Size, Within(Size(64 << 10), Size(1 << 30))] = Field(
        written("4MiB"), description="Frames other than DATA that wait for a peer which does not read."
    )
    handshake: ShortTime = Field(written("10s"), description="Time for the TLS handshake and the HTTP/2 preface.")
    header_time: ShortTime = Field(written("10s"), description="Time for one header block to arrive whole.")
    message_time: ShortTime = Field(
        written("20s"),
        description="Time for a request message to arrive once it has begun, or once a unary call has; a second more "
        "for every 500 bytes that come. It stands still while the connection brings 500 bytes a second for each call "
        "that owes a message.",
    )
    read_time: ReadTime = Field(
        written("5m"),
        description="Time for which something of an answer may wait while the client reads nothing of it: then its "
        "call ends; and its connection, where that takes nothing either.",
    )
    idle: LongTime = Field(written("1h"), description="A connection without calls is closed after this time.")
    keepalive: LongTime = Field(
        written("1m"), description="A silent connection is pinged after this time and closed when no answer comes."
    )
    connections_per_source: Count = Field(1000, description="Connections open at once from one IP address.")
    resets: Rate = Field(
        written({"rate": "100/second", "burst": 200}),
        description="Calls cancelled by the peer, or reset because of what it sent (CVE-2023-44487, CVE-2025-8671).",
    )
    refusals: Rate = Field(
        written({"rate": "100/second", "burst": 2000}),
        description="Calls opened beyond `concurrent_streams`, or after the sidecar has said that it takes no more.",
    )
    pings: Rate = Field(written({"rate": "10/second", "burst": 100}), description="PING frames.")
    settings: Rate = Field(written({"rate": "10/second", "burst": 100}), description="SETTINGS frames.")
    priorities: Rate = Field(written({"rate": "100/second", "burst": 1000}), description="PRIORITY frames.")
    empty_data: Rate = Field(
        written({"rate": "10/second", "burst": 100}),
        description="DATA frames without data, beyond the first of each stream, that end none.",
    )
    unknown: Rate = Field(
        written({"rate": "10/second", "burst": 100}), description="Frames of types that are not known, and GOAWAY."
    )
    window_updates: Rate = Field(
        written({"rate": "20000/second", "burst": 100000}),
        description="WINDOW_UPDATE frames, and others that cost as little.",
    )


class ListenTls(Section):
    """TLS 1.3 towards callers."""

    certificate: FilePath = Field(
        written("certs/server.pem"), description="PEM file: the sidecar's certificate, then its intermediates."
    )
    key: FilePath = Field(
        written("certs/server-key.pem"), description="PEM file: the certificate's private key, unencrypted."
    )
    client_ca: FilePath | None = Field(
        None,
        description="PEM file: the CAs of client certificates, for identities outside trust domains with a CA of "
        "their own.",
    )
    client_certificates: Literal["required", "optional", "none"] = Field(
        "required",
        description="Whether callers must present a certificate. With `optional` a caller without one connects and is "
        "denied call by call; with `none` no certificate is asked for.",
    )
    crl: FilePath | None = Field(
        None,
        description="PEM file: certificate revocation lists. Once set, every issuing CA needs a list that is current, "
        "else its certificates are refused.",
    )
    unsafe_allow_missing_crl: bool = Field(
        False, description="UNSAFE: with `crl`, accept certificates of a CA that has no revocation list in it."
    )


def _tls(value: Any) -> Any:
    if value == "none":
        return None
    # Nothing, as an empty `tls:` reads, must not turn TLS off.
    if value is None or not isinstance(value, dict | ListenTls):
        raise expected("a mapping with certificate, key and client_ca, or none")
    return value


class Listen(Section):
    """Where callers connect."""

    address: ListenAddress = Field(
        written("127.0.0.1:8443"),
        description="Where to listen: `host:port`, `[v6]:port` or `unix:///path`. Port 0 takes a free one.",
    )
    tls: Annotated[
        ListenTls | None,
        BeforeValidator(_tls),
        Spelt({"const": "none"}),
        PlainSerializer(lambda tls: "none" if tls is None else tls.model_dump(mode="json")),
    ] = Field(
        written({}),
        description="TLS towards callers; the text `none` turns it off, on loopback and Unix sockets only.",
    )
    unsafe_plaintext: bool = Field(False, description="UNSAFE: allow `tls: none` on an address that other hosts reach.")
    grace: Annotated[Duration, Within(Duration(0), DAY)] = Field(
        written("30s"), description="Time that open calls are given to end when the sidecar stops."
    )
    limits: Annotated[Limits, BeforeValidator(section_or_defaults)] = Field(
        written({}), description="What one peer may cost."
    )
