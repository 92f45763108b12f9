"""The requests of the interop test descriptions, and what must come of them; shared by the Python clients.

Source: grpc/doc/interop-test-descriptions.md, sections "Client". One departure: where a message of a stream must
travel plain beside compressed ones, its payload is random instead of zeros, for grpcio has no switch per message,
and grpc core sends plain what compression does not shrink.
"""

from __future__ import annotations

import random
from typing import Any

from tests.peers import messages as m

LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
INPUT_SIZES = (27182, 8, 1828, 45904)
OUTPUT_SIZES = (31415, 9, 2653, 58979)
COMPRESSED_INPUT = (27182, 45904)
COMPRESSED_OUTPUT = (31415, 92653)
STATUS_CODE, STATUS_MESSAGE = 2, "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
INITIAL = ("x-grpc-test-echo-initial", "test_initial_metadata_value")
TRAILING = ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")
UNIMPLEMENTED_METHOD = f"/{m.SERVICE}/UnimplementedCall"
UNIMPLEMENTED_SERVICE = "/grpc.testing.UnimplementedService/UnimplementedCall"


def zeros(size: int) -> Any:
    return m.Payload(body=bytes(size))


def noise(size: int) -> Any:
    return m.Payload(body=random.Random(size).randbytes(size))


def large(**fields: Any) -> Any:
    return m.SimpleRequest(response_size=LARGE_RESPONSE, payload=zeros(LARGE_REQUEST), **fields)


def large_expecting(compressed: bool) -> Any:
    return large(expect_compressed=m.BoolValue(value=compressed))


def large_wanting(compressed: bool) -> Any:
    return large(response_compressed=m.BoolValue(value=compressed))


def inputs() -> list[Any]:
    return [m.StreamingInputCallRequest(payload=zeros(size)) for size in INPUT_SIZES]


def input_expecting(compressed: bool, payload: Any) -> Any:
    return m.StreamingInputCallRequest(payload=payload, expect_compressed=m.BoolValue(value=compressed))


def outputs() -> Any:
    return m.StreamingOutputCallRequest(response_parameters=[m.ResponseParameters(size=size) for size in OUTPUT_SIZES])


def outputs_wanting() -> Any:
    """The first response compressed, the second not."""
    first, second = COMPRESSED_OUTPUT
    return m.StreamingOutputCallRequest(
        response_parameters=[
            m.ResponseParameters(size=first, compressed=m.BoolValue(value=True)),
            m.ResponseParameters(size=second, compressed=m.BoolValue(value=False)),
        ]
    )


def pings() -> list[Any]:
    return [
        m.StreamingOutputCallRequest(response_parameters=[m.ResponseParameters(size=size)], payload=zeros(payload))
        for size, payload in zip(OUTPUT_SIZES, INPUT_SIZES, strict=True)
    ]


def large_ping() -> Any:
    return m.StreamingOutputCallRequest(
        response_parameters=[m.ResponseParameters(size=LARGE_RESPONSE)], payload=zeros(LARGE_REQUEST)
    )


def sleeper() -> Any:
    return m.StreamingOutputCallRequest(payload=zeros(27182))


def status(kind: Any, message: str) -> Any:
    return kind(response_status=m.EchoStatus(code=STATUS_CODE, message=message))


def check_body(response: Any, size: int) -> None:
    assert response.payload.body == bytes(size), f"expected {size} zeros, got {len(response.payload.body)} bytes"
