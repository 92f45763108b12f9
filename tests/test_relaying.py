from __future__ import annotations

from dataclasses import replace

from sidecar.config.addresses import parse
from sidecar.relay.http2.limits import Limits, Rate
from sidecar.relay.settings import (
    EjectionSettings,
    FrontSettings,
    HealthSettings,
    RetrySettings,
    Target,
    UpstreamSettings,
)
from sidecar.relaying import address_of, front_settings, target_of, upstream_settings
from tests.config.configs import SOUND, load


def test_the_configs_defaults_are_the_relays() -> None:
    settings = upstream_settings(load(SOUND))
    assert settings == replace(UpstreamSettings((Target("127.0.0.1", 8001),)), limits=settings.limits)


def test_the_configs_default_limits_are_the_relays() -> None:
    assert front_settings(load(SOUND)) == FrontSettings()


def test_limits_of_the_config_reach_the_relay() -> None:
    text = """
worker_memory: 4GiB
listen:
  tls: none
  limits:
    buffered_per_connection: 2MiB
    calls: 3
    adaptive: false
    handshakes: 5
    message_time: 12s
    read_time: 13s
    output: 1MiB
    refusals: {rate: 6/second, burst: 7}
    unknown: {rate: 8/second, burst: 9}
    window_updates: {rate: 10/second, burst: 11}
"""
    assert front_settings(load(text)) == FrontSettings(
        Limits(output=1 << 20, refusals=Rate(6, 7), unknown=Rate(8, 9), window_updates=Rate(10, 11)),
        buffered_per_connection=2 << 20,
        calls=3,
        adaptive=False,
        memory=6 << 30,
        handshakes=5,
        message_s=12.0,
        read_s=13.0,
    )


def test_what_the_config_says_reaches_the_relay() -> None:
    text = """
upstream:
  address: ["[::1]:1", "unix:///run/m.sock"]
  connections: 2
  connections_most: 3
  calls_most: 4
  connect_timeout: 5s
  per_try_timeout: 6s
  queue: 7
  queue_timeout: 8s
  when_unready: wait
  dns_refresh: 9s
  keepalive: 10s
  keepalive_timeout: 11s
  health: {check: grpc, service: a.B, interval: 12s, timeout: 13s, failures: 14}
  ejection: {failures: 15, ratio: 0.16, calls: 17, interval: 18s, time: 19s, time_most: 20s, share: 0.21}
  retries: {attempts: 2, backoff: 1s, budget: 0.3, reserve: 4}
"""
    settings = upstream_settings(load(SOUND + text))
    assert settings == UpstreamSettings(
        (Target("::1", 1), Target("", 0, "/run/m.sock")),
        connections=2,
        connections_most=3,
        calls_most=4,
        connect_s=5,
        try_s=6,
        queue=7,
        queue_s=8,
        wait=True,
        dns_s=9,
        keepalive_s=10,
        keepalive_answer_s=11,
        health=HealthSettings(True, "a.B", 12, 13, 14),
        ejection=EjectionSettings(15, 0.16, 17, 18, 19, 20, 0.21),
        retries=RetrySettings(2, 1, 0.3, 4),
        limits=settings.limits,
    )


def test_places_and_addresses() -> None:
    for text in ("127.0.0.1:1", "[::1]:1", "model.test:1", "unix:///run/m.sock"):
        assert str(target_of(parse(text))) == text
        assert address_of(target_of(parse(text))) == parse(text)
