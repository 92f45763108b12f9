"""The interop cases with grpcio's blocking client; each takes a channel and raises AssertionError on a fault."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.peers import interop_requests as r
from tests.peers import messages as m
from tests.peers.compressed import reader
from tests.peers.targets import DEADLINE

CASES: dict[str, Callable[[grpc.Channel], None]] = {}


def case(function: Callable[[grpc.Channel], None]) -> Callable[[grpc.Channel], None]:
    CASES[function.__name__] = function
    return function


class Pipe:
    """A request stream that its owner feeds."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def send(self, message: Any) -> None:
        self._queue.put(message)

    def close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def empty_call(channel: grpc.Channel, path: str = f"/{m.SERVICE}/EmptyCall") -> Any:
    return channel.unary_unary(path, m.Empty.SerializeToString, reader(m.Empty))


def unary_call(channel: grpc.Channel) -> Any:
    path = f"/{m.SERVICE}/UnaryCall"
    return channel.unary_unary(path, m.SimpleRequest.SerializeToString, reader(m.SimpleResponse))


def input_call(channel: grpc.Channel) -> Any:
    write, read = m.StreamingInputCallRequest.SerializeToString, reader(m.StreamingInputCallResponse)
    return channel.stream_unary(f"/{m.SERVICE}/StreamingInputCall", write, read)


def output_call(channel: grpc.Channel) -> Any:
    write, read = m.StreamingOutputCallRequest.SerializeToString, reader(m.StreamingOutputCallResponse)
    return channel.unary_stream(f"/{m.SERVICE}/StreamingOutputCall", write, read)


def duplex_call(channel: grpc.Channel) -> Any:
    write, read = m.StreamingOutputCallRequest.SerializeToString, reader(m.StreamingOutputCallResponse)
    return channel.stream_stream(f"/{m.SERVICE}/FullDuplexCall", write, read)


def fails(code: grpc.StatusCode, call: Callable[[], object]) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert isinstance(error, grpc.Call)
    assert error.code() is code, f"expected {code}, got {error.code()}: {error.details()}"
    return error


@case
def empty_unary(channel: grpc.Channel) -> None:
    assert empty_call(channel)(m.Empty(), timeout=DEADLINE).message == m.Empty()


@case
def large_unary(channel: grpc.Channel) -> None:
    r.check_body(unary_call(channel)(r.large(), timeout=DEADLINE).message, r.LARGE_RESPONSE)


@case
def client_compressed_unary(channel: grpc.Channel) -> None:
    unary, plain, packed = unary_call(channel), grpc.Compression.NoCompression, grpc.Compression.Gzip
    probe = r.large_expecting(True)
    fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: unary(probe, timeout=DEADLINE, compression=plain))
    for packing, request in ((packed, r.large_expecting(True)), (plain, r.large_expecting(False))):
        r.check_body(unary(request, timeout=DEADLINE, compression=packing).message, r.LARGE_RESPONSE)


@case
def server_compressed_unary(channel: grpc.Channel) -> None:
    for wanted in (True, False):
        received = unary_call(channel)(r.large_wanting(wanted), timeout=DEADLINE)
        assert received.compressed is wanted
        r.check_body(received.message, r.LARGE_RESPONSE)


@case
def client_streaming(channel: grpc.Channel) -> None:
    answer = input_call(channel)(iter(r.inputs()), timeout=DEADLINE)
    assert answer.message.aggregated_payload_size == sum(r.INPUT_SIZES) == 74922


@case
def client_compressed_streaming(channel: grpc.Channel) -> None:
    call, packed = input_call(channel), grpc.Compression.Gzip
    first, second = r.COMPRESSED_INPUT
    probe = r.input_expecting(True, r.zeros(first))
    fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: call(iter([probe]), timeout=DEADLINE))
    requests = [probe, r.input_expecting(False, r.noise(second))]
    answer = call(iter(requests), timeout=DEADLINE, compression=packed)
    assert answer.message.aggregated_payload_size == first + second == 73086


@case
def server_streaming(channel: grpc.Channel) -> None:
    responses = list(output_call(channel)(r.outputs(), timeout=DEADLINE))
    for response, size in zip(responses, r.OUTPUT_SIZES, strict=True):
        r.check_body(response.message, size)


@case
def server_compressed_streaming(channel: grpc.Channel) -> None:
    responses = list(output_call(channel)(r.outputs_wanting(), timeout=DEADLINE))
    assert [response.compressed for response in responses] == [True, False]
    for response, size in zip(responses, r.COMPRESSED_OUTPUT, strict=True):
        r.check_body(response.message, size)


@case
def ping_pong(channel: grpc.Channel) -> None:
    pipe = Pipe()
    responses = duplex_call(channel)(iter(pipe), timeout=DEADLINE)
    for request, size in zip(r.pings(), r.OUTPUT_SIZES, strict=True):
        pipe.send(request)
        r.check_body(next(responses).message, size)
    pipe.close()
    assert list(responses) == []


@case
def empty_stream(channel: grpc.Channel) -> None:
    assert list(duplex_call(channel)(iter(()), timeout=DEADLINE)) == []


@case
def custom_metadata(channel: grpc.Channel) -> None:
    metadata = (r.INITIAL, r.TRAILING)
    response, unary = unary_call(channel).with_call(r.large(), timeout=DEADLINE, metadata=metadata)
    r.check_body(response.message, r.LARGE_RESPONSE)
    duplex = duplex_call(channel)(iter([r.large_ping()]), timeout=DEADLINE, metadata=metadata)
    (response,) = duplex
    r.check_body(response.message, r.LARGE_RESPONSE)
    for call in (unary, duplex):
        assert [field for field in call.initial_metadata() if field[0] == r.INITIAL[0]] == [r.INITIAL]
        assert [field for field in call.trailing_metadata() if field[0] == r.TRAILING[0]] == [r.TRAILING]


@case
def status_code_and_message(channel: grpc.Channel) -> None:
    _status(channel, r.STATUS_MESSAGE)
    request = r.status(m.StreamingOutputCallRequest, r.STATUS_MESSAGE)
    call = duplex_call(channel)(iter([request]), timeout=DEADLINE)
    error = fails(grpc.StatusCode.UNKNOWN, lambda: list(call))
    assert error.details() == r.STATUS_MESSAGE


@case
def special_status_message(channel: grpc.Channel) -> None:
    _status(channel, r.SPECIAL_MESSAGE)


def _status(channel: grpc.Channel, message: str) -> None:
    request = r.status(m.SimpleRequest, message)
    error = fails(grpc.StatusCode.UNKNOWN, lambda: unary_call(channel)(request, timeout=DEADLINE))
    assert error.details() == message


@case
def unimplemented_method(channel: grpc.Channel) -> None:
    call = empty_call(channel, r.UNIMPLEMENTED_METHOD)
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: call(m.Empty(), timeout=DEADLINE))


@case
def unimplemented_service(channel: grpc.Channel) -> None:
    call = empty_call(channel, r.UNIMPLEMENTED_SERVICE)
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: call(m.Empty(), timeout=DEADLINE))


@case
def cancel_after_begin(channel: grpc.Channel) -> None:
    pipe = Pipe()
    call = input_call(channel).future(iter(pipe), timeout=DEADLINE)
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    pipe.close()


@case
def cancel_after_first_response(channel: grpc.Channel) -> None:
    pipe = Pipe()
    call = duplex_call(channel)(iter(pipe), timeout=DEADLINE)
    pipe.send(r.pings()[0])
    r.check_body(next(call).message, r.OUTPUT_SIZES[0])
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    pipe.close()


@case
def timeout_on_sleeping_server(channel: grpc.Channel) -> None:
    pipe = Pipe()
    pipe.send(r.sleeper())
    call = duplex_call(channel)(iter(pipe), timeout=0.001)
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(call))
    pipe.close()
