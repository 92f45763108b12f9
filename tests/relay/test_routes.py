"""Which side answers which method, and how a health check's first message decides."""

from __future__ import annotations

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.contract import CodecError
from sidecar.relay.routes import HEALTH_CHECK, HEALTH_WATCH, Route, Routes, health_service

ROUTES = Routes(["/langtrain.v1.SidecarService/WatchStatus"])


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/langtrain.v1.SidecarService/GetStatus", Route.CALLS),
        ("/langtrain.v1.SidecarService/WatchStatus", Route.STREAMS),
        ("/langtrain.v1.None/None", Route.CALLS),
        ("/langtrain.v2.KeyService/Get", Route.CALLS),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Route.STREAMS),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Route.STREAMS),
        ("/grpc.health.v1.Health/Check", Route.BY_MESSAGE),
        ("/grpc.health.v1.Health/Watch", Route.BY_MESSAGE),
        # Everything else, however near:
        ("/grpc.health.v1.Health/List", Route.MODEL_SERVER),
        ("/grpc.reflection.v1.ServerReflection/Other", Route.MODEL_SERVER),
        ("/langtrain/GetStatus", Route.MODEL_SERVER),
        ("/langtrainer.v1.Service/Get", Route.MODEL_SERVER),
        ("/Langtrain.v1.SidecarService/GetStatus", Route.MODEL_SERVER),
        ("/my.langtrain.v1.Service/Get", Route.MODEL_SERVER),
        ("/inference.GRPCInferenceService/ModelInfer", Route.MODEL_SERVER),
    ],
)
def test_paths(path: str, route: Route) -> None:
    assert ROUTES.route(path) is route


@pytest.mark.parametrize(
    ("service", "ours"),
    [
        ("langtrain.v1.SidecarService", True),
        ("langtrain.", True),
        ("", False),
        ("langtrain", False),
        ("langtrainer.v1", False),
        ("Langtrain.v1", False),
        ("inference.GRPCInferenceService", False),
    ],
)
def test_health_checks(service: str, ours: bool) -> None:
    raw = HealthCheckRequest(service=service).SerializeToString()
    assert ROUTES.by_message(HEALTH_CHECK, raw) is (Route.CALLS if ours else Route.MODEL_SERVER)
    assert ROUTES.by_message(HEALTH_WATCH, raw) is (Route.STREAMS if ours else Route.MODEL_SERVER)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a",  # a field without its length
        b"\x0a\x05ab",  # one that runs beyond the message
        b"\x08\x01",  # a number where the text belongs: parsers skip it, and read "" here
        b"\x0a\x01\xff",  # not UTF-8
        b"\x0b",  # a group
        b"\x8a\x00\x01a",  # a padded tag
        b"\x0a\x81\x00a",  # a padded length
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    for path in (HEALTH_CHECK, HEALTH_WATCH):
        with pytest.raises(CodecError):
            ROUTES.by_message(path, raw)


def test_the_last_of_several_names_counts() -> None:
    ours, theirs = (HealthCheckRequest(service=name).SerializeToString() for name in ("langtrain.a", "b"))
    assert ROUTES.by_message(HEALTH_CHECK, ours + theirs) is Route.MODEL_SERVER
    assert ROUTES.by_message(HEALTH_CHECK, theirs + ours) is Route.CALLS


@given(st.binary(max_size=60))
def test_it_is_read_as_protobuf_reads_it_or_refused(raw: bytes) -> None:
    try:
        name = health_service(raw)
    except CodecError:
        return
    assert HealthCheckRequest.FromString(raw).service == name
