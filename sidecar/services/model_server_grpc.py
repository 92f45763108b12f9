"""The model server's reflection, asked over gRPC: the services process's own connection, as the config's `upstream`."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from interceptors.contract import Code
from sidecar.services.reflection import METHOD, VERSIONS, ModelServerError

ANSWER_S: Final = 5.0


class GrpcModelServer:
    """channel: to the model server, as the relay connects to it: the same address, the same TLS."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._methods: list[Any] = [
            channel.stream_stream(
                f"/{version}/{METHOD}", ServerReflectionRequest.SerializeToString, ServerReflectionResponse.FromString
            )
            for version in VERSIONS
        ]

    def ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        # Who asks us in v1 does not fall back to v1alpha by himself, so it is for us to.
        for method in self._methods[:-1]:
            with contextlib.suppress(_UnknownError):
                return _first(method, question)
        return _first(self._methods[-1], question)


class _UnknownError(ModelServerError):
    """This version is not served."""


def _first(method: Any, question: ServerReflectionRequest) -> ServerReflectionResponse:
    answers = method(iter((question,)), timeout=ANSWER_S)
    try:
        answer: ServerReflectionResponse = next(answers)
    except StopIteration:
        raise ModelServerError(Code.INTERNAL) from None
    except grpc.RpcError as error:
        code = Code(error.code().value[0])
        raise (_UnknownError if code == Code.UNIMPLEMENTED else ModelServerError)(code) from None
    finally:
        answers.cancel()
    return answer
