"""The model server's reflection, asked over gRPC: the services process's own connection, as the config's `upstream`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from interceptors.contract import Code
from sidecar.services.reflection import METHOD, VERSIONS, ModelServerError

ANSWER_S: Final = 5.0


class GrpcModelServer:
    """connect: makes a channel to the model server, as the relay connects to it: the same address, the same TLS.

    One for each question: there are few, and certificates change.
    """

    def __init__(self, connect: Callable[[], grpc.Channel]) -> None:
        self._connect = connect

    def ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        try:
            channel = self._connect()
        except OSError:
            raise ModelServerError(Code.UNAVAILABLE) from None
        with channel:
            # Who asks us in v1 does not fall back to v1alpha by himself, so it is for us to.
            for version in VERSIONS[:-1]:
                with contextlib.suppress(_UnknownError):
                    return _first(channel, version, question)
            return _first(channel, VERSIONS[-1], question)


class _UnknownError(ModelServerError):
    """This version is not served."""


def _first(channel: grpc.Channel, version: str, question: ServerReflectionRequest) -> ServerReflectionResponse:
    method = channel.stream_stream(
        f"/{version}/{METHOD}", ServerReflectionRequest.SerializeToString, ServerReflectionResponse.FromString
    )
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
