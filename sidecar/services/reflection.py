"""Server reflection for both sides of the one front door: ours is answered here, the rest by the model server.

v1 and v1alpha differ in name only: grpc/src/proto/grpc/reflection. One stream may ask about both sides in turn, and
every question is answered by itself, so each of the model server's is put to it in a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

from interceptors.contract import Code
from langtrain.v1 import permissions_pb2
from sidecar.errors import SidecarError
from sidecar.relay.routes import OWN
from sidecar.services import catalogue

VERSIONS: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD: Final = "ServerReflectionInfo"
HEALTH: Final = "grpc.health.v1.Health"
_OWN_FILES: Final = OWN.replace(".", "/")
_OPTION: Final = ("google.protobuf.MethodOptions", permissions_pb2.PERMISSION_FIELD_NUMBER)
_NAMED: Final = ("file_containing_symbol", "all_extension_numbers_of_type")


class ModelServerError(SidecarError):
    """The model server did not answer. status: gRPC's."""

    def __init__(self, status: Code) -> None:
        self.status = status
        super().__init__(f"the model server's reflection: {status.name}")


class ModelServer(Protocol):
    def ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        """Raises ModelServerError: UNIMPLEMENTED where it has no reflection."""


class Reflection:
    """One behaviour for both versions."""

    def __init__(self, model_server: ModelServer) -> None:
        self._model_server = model_server
        self._own = reflection.ReflectionServicer(catalogue.services())

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        method = grpc.stream_stream_rpc_method_handler(
            self.answers, ServerReflectionRequest.FromString, ServerReflectionResponse.SerializeToString
        )
        return tuple(grpc.method_handlers_generic_handler(version, {METHOD: method}) for version in VERSIONS)

    def answers(
        self, questions: Iterator[ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[ServerReflectionResponse]:
        for question in questions:
            if question.WhichOneof("message_request") == "list_services":
                yield self._list(question)
            elif self._is_own(question):
                yield from self._own.ServerReflectionInfo(iter((question,)), context)
            else:
                yield self._passed_on(question)

    @staticmethod
    def _is_own(question: ServerReflectionRequest) -> bool:
        kind = question.WhichOneof("message_request")
        if kind == "file_by_filename":
            return question.file_by_filename.startswith(_OWN_FILES)
        if kind == "file_containing_extension":
            asked = question.file_containing_extension
            option = (asked.containing_type, asked.extension_number) == _OPTION
            return option or asked.containing_type.startswith(OWN)
        # A question that asks nothing is as good as ours: it gets INVALID_ARGUMENT.
        return kind is None or (kind in _NAMED and getattr(question, kind).startswith(OWN))

    def _passed_on(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        try:
            return self._model_server.ask(question)
        except ModelServerError as error:
            return _failed(question, error.status)

    def _list(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        """Both sides' services. A list that lacks the model server's because it is down would pass for whole."""
        names = {*catalogue.services(), *VERSIONS, HEALTH}
        try:
            theirs = self._model_server.ask(question)
        except ModelServerError as error:
            if error.status != Code.UNIMPLEMENTED:
                return _failed(question, error.status)
        else:
            if theirs.HasField("error_response"):
                return theirs
            listed = (service.name for service in theirs.list_services_response.service)
            names.update(name for name in listed if not name.startswith(OWN))
        services = [ServiceResponse(name=name) for name in sorted(names)]
        return ServerReflectionResponse(
            valid_host=question.host,
            original_request=question,
            list_services_response=ListServiceResponse(service=services),
        )


def _failed(question: ServerReflectionRequest, status: Code) -> ServerReflectionResponse:
    text = "the model server has no reflection" if status == Code.UNIMPLEMENTED else "the model server did not answer"
    error = ErrorResponse(error_code=int(status), error_message=text)
    return ServerReflectionResponse(valid_host=question.host, original_request=question, error_response=error)
