"""The interop cases with grpcio's asyncio client; each takes a channel and raises AssertionError on a fault."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest

from tests.peers import interop_requests as r
from tests.peers import messages as m
from tests.peers.compressed import reader
from tests.peers.targets import DEADLINE

Case: TypeAlias = Callable[[grpc.aio.Channel], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[getattr(function, "__name__")] = function  # noqa: B009
    return function


def empty_call(channel: grpc.aio.Channel, path: str = f"/{m.SERVICE}/EmptyCall") -> Any:
    return channel.unary_unary(path, m.Empty.SerializeToString, reader(m.Empty))


def unary_call(channel: grpc.aio.Channel) -> Any:
    path = f"/{m.SERVICE}/UnaryCall"
    return channel.unary_unary(path, m.SimpleRequest.SerializeToString, reader(m.SimpleResponse))


def input_call(channel: grpc.aio.Channel) -> Any:
    write, read = m.StreamingInputCallRequest.SerializeToString, reader(m.StreamingInputCallResponse)
    return channel.stream_unary(f"/{m.SERVICE}/StreamingInputCall", write, read)


def output_call(channel: grpc.aio.Channel) -> Any:
    write, read = m.StreamingOutputCallRequest.SerializeToString, reader(m.StreamingOutputCallResponse)
    return channel.unary_stream(f"/{m.SERVICE}/StreamingOutputCall", write, read)


def duplex_call(channel: grpc.aio.Channel) -> Any:
    write, read = m.StreamingOutputCallRequest.SerializeToString, reader(m.StreamingOutputCallResponse)
    return channel.stream_stream(f"/{m.SERVICE}/FullDuplexCall", write, read)


async def fails(code: grpc.StatusCode, call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, f"expected {code}, got {caught.value.code()}: {caught.value.details()}"
    return caught.value


async def collect(call: Any) -> list[Any]:
    return [response async for response in call]


@case
async def empty_unary(channel: grpc.aio.Channel) -> None:
    assert (await empty_call(channel)(m.Empty(), timeout=DEADLINE)).message == m.Empty()


@case
async def large_unary(channel: grpc.aio.Channel) -> None:
    r.check_body((await unary_call(channel)(r.large(), timeout=DEADLINE)).message, r.LARGE_RESPONSE)


@case
async def client_compressed_unary(channel: grpc.aio.Channel) -> None:
    unary, plain, packed = unary_call(channel), grpc.Compression.NoCompression, grpc.Compression.Gzip
    await fails(grpc.StatusCode.INVALID_ARGUMENT, unary(r.large_expecting(True), timeout=DEADLINE, compression=plain))
    for packing, request in ((packed, r.large_expecting(True)), (plain, r.large_expecting(False))):
        r.check_body((await unary(request, timeout=DEADLINE, compression=packing)).message, r.LARGE_RESPONSE)


@case
async def server_compressed_unary(channel: grpc.aio.Channel) -> None:
    for wanted in (True, False):
        received = await unary_call(channel)(r.large_wanting(wanted), timeout=DEADLINE)
        assert received.compressed is wanted
        r.check_body(received.message, r.LARGE_RESPONSE)


@case
async def client_streaming(channel: grpc.aio.Channel) -> None:
    answer = await input_call(channel)(iter(r.inputs()), timeout=DEADLINE)
    assert answer.message.aggregated_payload_size == sum(r.INPUT_SIZES) == 74922


@case
async def client_compressed_streaming(channel: grpc.aio.Channel) -> None:
    call, packed = input_call(channel), grpc.Compression.Gzip
    first, second = r.COMPRESSED_INPUT
    probe = r.input_expecting(True, r.zeros(first))
    await fails(grpc.StatusCode.INVALID_ARGUMENT, call(iter([probe]), timeout=DEADLINE))
    requests = [probe, r.input_expecting(False, r.noise(second))]
    answer = await call(iter(requests), timeout=DEADLINE, compression=packed)
    assert answer.message.aggregated_payload_size == first + second == 73086


@case
async def server_streaming(channel: grpc.aio.Channel) -> None:
    responses = await collect(output_call(channel)(r.outputs(), timeout=DEADLINE))
    for response, size in zip(responses, r.OUTPUT_SIZES, strict=True):
        r.check_body(response.message, size)


@case
async def server_compressed_streaming(channel: grpc.aio.Channel) -> None:
    responses = await collect(output_call(channel)(r.outputs_wanting(), timeout=DEADLINE))
    assert [response.compressed for response in responses] == [True, False]
    for response, size in zip(responses, r.COMPRESSED_OUTPUT, strict=True):
        r.check_body(response.message, size)


@case
async def ping_pong(channel: grpc.aio.Channel) -> None:
    call = duplex_call(channel)(timeout=DEADLINE)
    for request, size in zip(r.pings(), r.OUTPUT_SIZES, strict=True):
        await call.write(request)
        r.check_body((await call.read()).message, size)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@case
async def empty_stream(channel: grpc.aio.Channel) -> None:
    call = duplex_call(channel)(timeout=DEADLINE)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@case
async def custom_metadata(channel: grpc.aio.Channel) -> None:
    metadata = (r.INITIAL, r.TRAILING)
    unary = unary_call(channel)(r.large(), timeout=DEADLINE, metadata=metadata)
    r.check_body((await unary).message, r.LARGE_RESPONSE)
    duplex = duplex_call(channel)(iter([r.large_ping()]), timeout=DEADLINE, metadata=metadata)
    (response,) = await collect(duplex)
    r.check_body(response.message, r.LARGE_RESPONSE)
    for call in (unary, duplex):
        assert (await call.initial_metadata()).get_all(r.INITIAL[0]) == [r.INITIAL[1]]
        assert (await call.trailing_metadata()).get_all(r.TRAILING[0]) == [r.TRAILING[1]]


@case
async def status_code_and_message(channel: grpc.aio.Channel) -> None:
    await _status(channel, r.STATUS_MESSAGE)
    call = duplex_call(channel)(timeout=DEADLINE)
    await call.write(r.status(m.StreamingOutputCallRequest, r.STATUS_MESSAGE))
    await call.done_writing()
    assert (await fails(grpc.StatusCode.UNKNOWN, collect(call))).details() == r.STATUS_MESSAGE


@case
async def special_status_message(channel: grpc.aio.Channel) -> None:
    await _status(channel, r.SPECIAL_MESSAGE)


async def _status(channel: grpc.aio.Channel, message: str) -> None:
    call = unary_call(channel)(r.status(m.SimpleRequest, message), timeout=DEADLINE)
    assert (await fails(grpc.StatusCode.UNKNOWN, call)).details() == message


@case
async def unimplemented_method(channel: grpc.aio.Channel) -> None:
    call = empty_call(channel, r.UNIMPLEMENTED_METHOD)(m.Empty(), timeout=DEADLINE)
    await fails(grpc.StatusCode.UNIMPLEMENTED, call)


@case
async def unimplemented_service(channel: grpc.aio.Channel) -> None:
    call = empty_call(channel, r.UNIMPLEMENTED_SERVICE)(m.Empty(), timeout=DEADLINE)
    await fails(grpc.StatusCode.UNIMPLEMENTED, call)


@case
async def cancel_after_begin(channel: grpc.aio.Channel) -> None:
    call = input_call(channel)(timeout=DEADLINE)
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


@case
async def cancel_after_first_response(channel: grpc.aio.Channel) -> None:
    call = duplex_call(channel)(timeout=DEADLINE)
    await call.write(r.pings()[0])
    r.check_body((await call.read()).message, r.OUTPUT_SIZES[0])
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


@case
async def timeout_on_sleeping_server(channel: grpc.aio.Channel) -> None:
    while True:
        call = duplex_call(channel)(timeout=0.001)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.write(r.sleeper())
        # A write that fails before the client knows why gives the call this status of the client's own: once more.
        if (await call.code(), await call.details()) != (grpc.StatusCode.INTERNAL, "Internal error from Core"):
            break
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
