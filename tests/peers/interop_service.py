"""TestService on grpcio, as the interop test descriptions ask of a server, compression checks included.

Source: grpc/doc/interop-test-descriptions.md, section "Server".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import grpc

from tests.peers import messages
from tests.peers.compressed import Received, reader

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"


def _payload(size: int) -> Any:
    return messages.Payload(body=bytes(size))


def _echo_metadata(context: grpc.ServicerContext) -> None:
    fields = dict(context.invocation_metadata())
    if ECHO_INITIAL in fields:
        context.send_initial_metadata(((ECHO_INITIAL, fields[ECHO_INITIAL]),))
    if ECHO_TRAILING in fields:
        context.set_trailing_metadata(((ECHO_TRAILING, fields[ECHO_TRAILING]),))


def _end(context: grpc.ServicerContext, status: Any) -> NoReturn:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    context.abort(code, status.message)


def _expect(context: grpc.ServicerContext, received: Received) -> None:
    request = received.message
    if request.HasField("expect_compressed") and request.expect_compressed.value != received.compressed:
        wanted = "compressed" if request.expect_compressed.value else "plain"
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected a {wanted} request")


def _compress(context: grpc.ServicerContext, holder: Any, field: str) -> None:
    if not holder.HasField(field):
        return
    if not getattr(holder, field).value:
        context.disable_next_message_compression()


def empty_call(received: Received, context: grpc.ServicerContext) -> Any:
    _echo_metadata(context)
    return messages.Empty()


def unary_call(received: Received, context: grpc.ServicerContext) -> Any:
    request = received.message
    if request.HasField("response_compressed"):
        context.set_compression(grpc.Compression.Gzip)
    _expect(context, received)
    _echo_metadata(context)
    if request.HasField("response_status"):
        _end(context, request.response_status)
    _compress(context, request, "response_compressed")
    return messages.SimpleResponse(payload=_payload(request.response_size))


def streaming_input_call(requests: Iterator[Received], context: grpc.ServicerContext) -> Any:
    size = 0
    for received in requests:
        _expect(context, received)
        size += len(received.message.payload.body)
    return messages.StreamingInputCallResponse(aggregated_payload_size=size)


def _responses(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    for parameters in request.response_parameters:
        _compress(context, parameters, "compressed")
        yield messages.StreamingOutputCallResponse(payload=_payload(parameters.size))


def streaming_output_call(received: Received, context: grpc.ServicerContext) -> Iterator[Any]:
    request = received.message
    if any(parameters.HasField("compressed") for parameters in request.response_parameters):
        context.set_compression(grpc.Compression.Gzip)
    yield from _responses(request, context)


def full_duplex_call(requests: Iterator[Received], context: grpc.ServicerContext) -> Iterator[Any]:
    _echo_metadata(context)
    for received in requests:
        request = received.message
        if request.HasField("response_status"):
            _end(context, request.response_status)
        yield from _responses(request, context)


def handler() -> grpc.GenericRpcHandler:
    """TestService less UnimplementedCall, for a server that has `compressed.WATCHED` set."""

    def method(shape: Any, behaviour: Any, request: Any, response: Any) -> Any:
        return shape(behaviour, reader(request), response.SerializeToString)

    m = messages
    return grpc.method_handlers_generic_handler(
        m.SERVICE,
        {
            "EmptyCall": method(grpc.unary_unary_rpc_method_handler, empty_call, m.Empty, m.Empty),
            "UnaryCall": method(grpc.unary_unary_rpc_method_handler, unary_call, m.SimpleRequest, m.SimpleResponse),
            "StreamingInputCall": method(
                grpc.stream_unary_rpc_method_handler,
                streaming_input_call,
                m.StreamingInputCallRequest,
                m.StreamingInputCallResponse,
            ),
            "StreamingOutputCall": method(
                grpc.unary_stream_rpc_method_handler,
                streaming_output_call,
                m.StreamingOutputCallRequest,
                m.StreamingOutputCallResponse,
            ),
            "FullDuplexCall": method(
                grpc.stream_stream_rpc_method_handler,
                full_duplex_call,
                m.StreamingOutputCallRequest,
                m.StreamingOutputCallResponse,
            ),
        },
    )
