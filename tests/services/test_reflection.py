"""Reflection and health through one front door, with grpcio's own reflection server as the model server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ListServiceResponse, ServiceResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Answer

from interceptors.contract import Code
from sidecar.services.reflection import METHOD, VERSIONS, ModelServerError, Reflection
from tests.peers import messages
from tests.services.running import Running

_NO_CONTEXT: Any = None  # answers need none
OURS = "langtrain.v1.SidecarService"
ALL_OURS = [f"langtrain.v1.{name}Service" for name in ("Administrator", "ApiKey", "Policy", "Revocation", "Sidecar")]
LISTED = ["grpc.health.v1.Health", *VERSIONS, messages.SERVICE, *ALL_OURS]


@pytest.fixture
def channel(services: Running) -> Iterator[grpc.Channel]:
    """As a caller reaches both sides."""
    with grpc.insecure_channel(services.target) as opened:
        yield opened


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


class Boasting:
    """A model server that claims services of ours."""

    def ask(self, question: Question) -> Answer:
        listed = ListServiceResponse(service=[ServiceResponse(name=name) for name in ("langtrain.v1.Keys", "model.M")])
        return Answer(list_services_response=listed)


def test_a_model_server_cannot_claim_names_of_ours() -> None:
    questions = iter((Question(list_services=""), Question(file_containing_symbol="langtrain.v1.Keys")))
    listed, keys = Reflection(Boasting()).answers(questions, _NO_CONTEXT)
    assert names(listed) == ["grpc.health.v1.Health", *VERSIONS, *ALL_OURS, "model.M"]
    assert keys.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


class Silent:
    """A model server without reflection."""

    def ask(self, question: Question) -> Answer:
        raise ModelServerError(Code.UNIMPLEMENTED)


def test_a_model_server_without_reflection_leaves_the_list_to_us() -> None:
    questions = iter((Question(list_services=""), Question(file_containing_symbol="model.M")))
    listed, theirs = Reflection(Silent()).answers(questions, _NO_CONTEXT)
    assert names(listed) == ["grpc.health.v1.Health", *VERSIONS, *ALL_OURS]
    assert theirs.error_response.error_code == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert theirs.error_response.error_message == "the model server has no reflection"


def test_a_model_server_that_is_down_makes_no_short_list(channel: grpc.Channel, services: Running) -> None:
    services.model_server.stop()
    listed, theirs = ask(
        channel, VERSIONS[0], Question(list_services=""), Question(file_containing_symbol=messages.SERVICE)
    )
    for answer in (listed, theirs):
        assert answer.error_response.error_code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert answer.error_response.error_message == "the model server did not answer"


def test_health_goes_by_the_name_that_is_asked_for(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
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


def test_health_is_watched_on_both_sides(channel: grpc.Channel, services: Running) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status = health_pb2.HealthCheckResponse
    ours = stub.Watch(health_pb2.HealthCheckRequest(service=OURS))
    theirs = stub.Watch(health_pb2.HealthCheckRequest(service="model.Service"))
    assert (next(ours).status, next(theirs).status) == (status.SERVING, status.NOT_SERVING)
    services.model_server.health.set("model.Service", status.SERVING)
    assert next(theirs).status == status.SERVING
    ours.cancel()
    theirs.cancel()
