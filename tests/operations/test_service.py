"""SidecarService over the wire, by the client that ships, through the front: what comes in and what goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

import langtrain
from langtrain.v1 import sidecar_pb2 as pb
from sidecar.operations import model, service
from sidecar.services.server import CALLS
from tests.operations.in_memory import STATUS
from tests.services.calls import call, seal
from tests.services.front import ALICE
from tests.services.running import KEY, Running


@pytest.fixture
def sidecar(services: Running) -> Iterator[langtrain.Sidecar]:
    with langtrain.Sidecar(services.target) as opened:
        yield opened


@pytest.mark.parametrize(
    ("values", "names", "prefix"),
    [
        (model.WorkerState, pb.WorkerState, "WORKER_STATE_"),
        (model.UpstreamState, pb.UpstreamState, "UPSTREAM_STATE_"),
        (model.Depth, pb.Depth, "DEPTH_"),
        (model.LogLevel, pb.LogLevel, "LOG_LEVEL_"),
    ],
)
def test_names_and_numbers_are_the_same_on_both_sides(values: Any, names: Any, prefix: str) -> None:
    ours = {f"{prefix}{each.name}": each.value for each in values}
    assert {**ours, f"{prefix}UNSPECIFIED": 0} == dict(names.items())


def test_status_tells_all_that_is_known(sidecar: langtrain.Sidecar) -> None:
    told = sidecar.status()
    assert (told.version, told.config_digest, told.draining) == ("0.1.0", STATUS.config_digest, False)
    assert told.started.ToDatetime(UTC) == datetime(2027, 1, 15, 8, 0, 0, 250_000, UTC)
    assert told.uptime == Duration(seconds=3725, nanos=500_000_000)
    assert told.workers[1] == pb.Worker(
        role="relay", pid=4712, state=pb.WORKER_STATE_DRAINING, restarts=2, memory=97 << 20, connections=3, calls=3
    )
    assert told.upstreams[1] == pb.Upstream(
        address="127.0.0.1:8002", state=pb.UPSTREAM_STATE_EJECTED, connections=1, failures=12
    )
    assert [(link.name, link.depth) for link in told.chains[0].links] == [
        ("identify", pb.DEPTH_METADATA), ("authorize", pb.DEPTH_BYTES), ("record", pb.DEPTH_METADATA),
    ]  # fmt: skip
    assert told.certificates[0].setting == "listen.tls.certificate"
    assert told.certificates[0].expires.ToDatetime(UTC) == datetime(2028, 1, 15, 8, tzinfo=UTC)
    assert told.feeds[0].staleness == Duration(nanos=250_000_000)
    assert not told.feeds[1].HasField("staleness")
    assert len(told.SerializeToString()) == len(service.status(STATUS).SerializeToString())


def test_watching_tells_it_again(sidecar: langtrain.Sidecar, services: Running) -> None:
    watched = sidecar.watch_status(interval_s=0.2)
    assert not next(watched).draining
    services.operations.now = replace(STATUS, draining=True)
    while not next(watched).draining:
        pass
    watched.close()


def test_a_config_is_checked(sidecar: langtrain.Sidecar) -> None:
    good = sidecar.check_config()
    assert (good.digest, list(good.faults), list(good.restarts)) == ("ab" * 32, [], ["listen.address"])
    bad = sidecar.check_config("workers: many")
    assert bad.digest == ""
    assert list(bad.faults) == [pb.Fault(path="workers", expected="a whole number", came="'many'", origin="line 1")]
    # An empty text is a config, and not the file on disk.
    assert sidecar.check_config("").digest == "ab" * 32


def test_drain_and_log_level_know_who_asked(sidecar: langtrain.Sidecar, services: Running) -> None:
    assert sidecar.drain(30, "rollout") == datetime.fromtimestamp(services.operations.ends, UTC)
    sidecar.drain()
    assert sidecar.log_level() == "info"
    assert sidecar.set_log_level("debug") == "info"
    assert sidecar.log_level() == "debug"
    assert services.operations.asked == [
        ("drain", 30.0, "rollout", ALICE.name),
        ("drain", None, "", ALICE.name),
        ("set_log_level", model.LogLevel.DEBUG, ALICE.name),
    ]


@pytest.mark.parametrize(
    ("ask", "fields"),
    [
        (lambda sidecar: sidecar.drain(-1), {"grace": "expected 0 to 3600 seconds"}),
        (lambda sidecar: sidecar.drain(3600.001), {"grace": "expected 0 to 3600 seconds"}),
        (lambda sidecar: sidecar.drain(1, "x" * 201), {"reason": "expected at most 200 characters"}),
        (lambda sidecar: sidecar.check_config("#" * (1 << 20) + "#"), {"config": "expected at most 1048576 bytes"}),
        (lambda sidecar: next(sidecar.watch_status(0.1)), {"interval": "expected 0.2 to 3600 seconds"}),
    ],
)
def test_a_request_that_cannot_be_meant_names_its_field(
    sidecar: langtrain.Sidecar, services: Running, ask: Callable[[langtrain.Sidecar], object], fields: dict[str, str]
) -> None:
    with pytest.raises(langtrain.InvalidError) as error:
        ask(sidecar)
    assert error.value.reason == "REQUEST_INVALID"
    assert error.value.fields == fields
    assert services.operations.asked == []


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        ("Drain", pb.DrainRequest(grace=Duration(seconds=1, nanos=-1)), ["grace"]),
        ("Drain", pb.DrainRequest(grace=Duration(nanos=1_000_000_000)), ["grace"]),
        ("Drain", pb.DrainRequest(grace=Duration(seconds=-(1 << 62))), ["grace"]),
        ("SetLogLevel", pb.SetLogLevelRequest(), ["level"]),
        ("SetLogLevel", pb.SetLogLevelRequest(level=99), ["level"]),  # type: ignore[arg-type]
    ],
)
def test_what_the_client_would_not_send_is_refused_as_well(
    services: Running, method: str, request_: Any, fields: list[str]
) -> None:
    path = f"/langtrain.v1.SidecarService/{method}"
    answered = call(services.sockets / CALLS, path, (seal(KEY, path),), request_.SerializeToString())
    assert (answered.code, list(answered.fields)) == ("INVALID_ARGUMENT", fields)
    assert services.operations.asked == []
