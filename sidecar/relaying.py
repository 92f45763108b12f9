"""A config → the values that the relay is told: limits, endpoints, what is known of methods."""

from __future__ import annotations

from sidecar.config.addresses import Address, TcpAddress, UnixAddress
from sidecar.config.model import Config
from sidecar.config.units import Rate as ConfigRate
from sidecar.relay.codecs.registry import Codecs, registry
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.settings import (
    EjectionSettings,
    FrontSettings,
    HealthSettings,
    RetrySettings,
    Target,
    UpstreamSettings,
)


def rate(value: ConfigRate) -> Rate:
    return Rate(value.per_second, value.burst)


def front_settings(config: Config) -> FrontSettings:
    """The listener's limits as the relay takes them."""
    limits = config.listen.limits
    return FrontSettings(
        limits=Limits(
            concurrent_streams=limits.concurrent_streams,
            header_list=limits.header_list,
            header_count=limits.header_count,
            continuations=limits.continuations,
            output=limits.output,
            stream_window=limits.stream_window,
            connection_window=limits.connection_window,
            resets=rate(limits.resets),
            refusals=rate(limits.refusals),
            pings=rate(limits.pings),
            settings=rate(limits.settings),
            priorities=rate(limits.priorities),
            empty_data=rate(limits.empty_data),
            unknown=rate(limits.unknown),
            window_updates=rate(limits.window_updates),
        ),
        message=limits.message,
        response_message=limits.response_message,
        decompressed=limits.decompressed,
        buffered=limits.buffered,
        buffered_per_connection=limits.buffered_per_connection,
        calls=limits.calls,
        adaptive=limits.adaptive,
        memory=config.memory,
        handshakes=limits.handshakes,
        handshake_s=limits.handshake,
        header_s=limits.header_time,
        message_s=limits.message_time,
        read_s=limits.read_time,
        idle_s=limits.idle,
        keepalive_s=limits.keepalive,
        connections_per_source=limits.connections_per_source,
    )


def upstream_settings(config: Config) -> UpstreamSettings:
    """The model server's addresses and limits as the relay takes them."""
    upstream = config.upstream
    health, ejection, retries = upstream.health, upstream.ejection, upstream.retries
    return UpstreamSettings(
        tuple(map(target_of, upstream.address)),
        connections=upstream.connections,
        connections_most=upstream.connections_most or upstream.connections,
        connect_s=upstream.connect_timeout,
        calls_most=upstream.calls_most or 0,
        try_s=upstream.per_try_timeout or 0.0,
        queue=upstream.queue,
        queue_s=upstream.queue_timeout,
        wait=upstream.when_unready == "wait",
        dns_s=upstream.dns_refresh,
        keepalive_s=upstream.keepalive,
        keepalive_answer_s=upstream.keepalive_timeout,
        health=HealthSettings(
            health.check == "grpc", health.service or "", health.interval, health.timeout, health.failures
        ),
        ejection=EjectionSettings(
            failures=ejection.failures,
            ratio=ejection.ratio,
            calls=ejection.calls,
            interval_s=ejection.interval,
            base_s=ejection.time,
            most_s=ejection.time_most,
            share=ejection.share,
        ),
        retries=RetrySettings(retries.attempts, retries.backoff, retries.budget, retries.reserve),
        limits=Limits(
            # An answer's headers may be larger than what callers may send, never smaller.
            header_list=max(64 << 10, config.listen.limits.header_list),
            header_count=max(512, config.listen.limits.header_count),
            stream_window=upstream.stream_window,
            connection_window=upstream.connection_window,
            # The model server is trusted not to flood; its transport probes bandwidth by PING under load.
            resets=Rate(10_000, 100_000),
            pings=Rate(1_000, 10_000),
            settings=Rate(10, 100),
        ),
    )


def target_of(address: Address) -> Target:
    return Target(address.host, address.port) if isinstance(address, TcpAddress) else Target("", 0, address.path)


def address_of(target: Target) -> Address:
    return UnixAddress(target.path) if target.path else TcpAddress(target.host, target.port)


def codecs(config: Config) -> Codecs:
    """What is known of the model server's methods."""
    upstream = config.upstream
    return registry(upstream.protocol, upstream.services)
