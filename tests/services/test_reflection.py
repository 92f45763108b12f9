"""Reflection and health through one front door, with grpcio's own reflection server as the model server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Answer

from sidecar.services.reflection import METHOD, VERSIONS
from tests.peers import messages
from tests.services.conftest import ModelServer

OURS = "langtrain.v1.SidecarService"
LISTED = ["grpc.health.v1.Health", *VERSIONS, messages.SERVICE, OURS]


def ask(channel: grpc.Channel, version: str, *questions: Question) -> Iterator[Answer]:
    method = channel.stream_stream(f"/{version}/{METHOD}", Question.SerializeToString, Answer.FromString)
    answers: Iterator[Answer] = method(iter(questions), timeout=20)
    return answers


def names(answer: Answer) -> list[str]:
    return [service.name for service in answer.list_services_response.service]


def test_a_client_finds_the_services_of_both_sides(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    assert sorted(database.get_services()) == sorted(LISTED)
    assert "GetStatus" in pool.FindServiceByName(OURS).methods_by_name
    assert "UnaryCall" in pool.FindServiceByName(messages.SERVICE).methods_by_name


@pytest.mark.parametrize("version", VERSIONS)
def test_one_stream_asks_both_sides_in_turn(channel: grpc.Channel, version: str) -> None:
    """The model server knows v1alpha only, and answers v1's questions all the same."""
    extension = Question()
    extension.file_containing_extension.containing_type = "google.protobuf.MethodOptions"
    extension.file_containing_extension.extension_number = 50720
    listed, ours, theirs, by_name, option, unknown, nothing = ask(
        channel, version, Question(list_services="", host="here"), Question(file_containing_symbol=OURS),
        Question(file_containing_symbol=messages.SERVICE), Question(file_by_filename="langtrain/v1/sidecar.proto"),
        extension, Question(file_containing_symbol="langtrain.v1.None"), Question(host="asks nothing"),
    )  # fmt: skip
    assert names(listed) == sorted(LISTED)
    assert listed.valid_host == "here"
    assert b"langtrain/v1/sidecar.proto" in ours.file_descriptor_response.file_descriptor_proto[0]
    assert b"interop.proto" in theirs.file_descriptor_response.file_descriptor_proto[0]
    assert by_name.file_descriptor_response == ours.file_descriptor_response
    assert b"permissions.proto" in option.file_descriptor_response.file_descriptor_proto[0]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_the_model_server_cannot_claim_names_of_ours(channel: grpc.Channel, model_server: ModelServer) -> None:
    """What it says of its own it says; what it says of ours is not asked for."""
    (answer,) = ask(channel, VERSIONS[1], Question(file_containing_symbol="langtrain.v1.Status"))
    assert answer.HasField("file_descriptor_response")
    model_server.stop()
    (answer,) = ask(channel, VERSIONS[1], Question(file_containing_symbol="langtrain.v1.Status"))
    assert answer.HasField("file_descriptor_response")


def test_a_model_server_that_is_down_makes_no_short_list(channel: grpc.Channel, model_server: ModelServer) -> None:
    model_server.stop()
    listed, theirs = ask(
        channel, VERSIONS[0], Question(list_services=""), Question(file_containing_symbol=messages.SERVICE)
    )
    for answer in (listed, theirs):
        assert answer.error_response.error_code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert answer.error_response.error_message == "the model server did not answer"


def test_health_goes_by_the_name_that_is_asked_for(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    status = health_pb2.HealthCheckResponse

    def check(service: str) -> int:
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status)

    assert check(OURS) == status.SERVING
    assert check("") == status.SERVING
    assert check("model.Service") == status.NOT_SERVING
    for unknown in ("langtrain.v1.None", "model.None"):
        with pytest.raises(grpc.RpcError) as error:
            check(unknown)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_watched_on_both_sides(channel: grpc.Channel, model_server: ModelServer) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    status = health_pb2.HealthCheckResponse
    ours = stub.Watch(health_pb2.HealthCheckRequest(service=OURS))
    theirs = stub.Watch(health_pb2.HealthCheckRequest(service="model.Service"))
    assert (next(ours).status, next(theirs).status) == (status.SERVING, status.NOT_SERVING)
    model_server.health.set("model.Service", status.SERVING)
    assert next(theirs).status == status.SERVING
    ours.cancel()
    theirs.cancel()
