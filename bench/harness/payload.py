"""The call that benchmarks send: an Open Inference ModelInfer of an exact size, as it travels.

The upstream echoes, so the message is valid as a request and as a response: both name the model in field 1, the
version in 2, the id in 3 and tensors of like shape in 5 (grpc_service.proto of the Open Inference Protocol).
"""

from __future__ import annotations

import struct

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelInferStream"  # what the upstream answers with many messages
STREAMED = 100 * (5 + 200)  # bytes of them, prefixes included
MODEL = b"digits"
PREFIX = struct.Struct(">BL")  # gRPC over HTTP/2, "Length-Prefixed-Message"
VALUES = 64  # an image of 8 by 8


def framed(size: int) -> bytes:
    """A message of `size` bytes, uncompressed, behind its 5-byte prefix.

    Raises ValueError unless size is 512 to 2 MiB, and for the few sizes at which a longer id has a longer header.
    """
    if not 512 <= size <= 1 << 21:
        raise ValueError(f"size is {size} bytes, expected 512 to {1 << 21}")
    values = _field(6, struct.pack(f"<{VALUES}f", *(float(i % 17) for i in range(VALUES))))
    shape = _field(3, bytes((1, VALUES)))
    tensor = _field(5, _field(1, b"input-0") + _field(2, b"FP32") + shape + _field(5, values))
    named = _field(1, MODEL) + _field(2, b"1")
    room = size - len(named) - len(tensor)
    identifier = _field(3, b"i" * (room - 1 - len(_varint(room - 4))))  # the id fills what is left
    if len(identifier) != room:
        raise ValueError(f"size is {size} bytes, which the id cannot fill; one more can be had")
    return PREFIX.pack(0, size) + named + identifier + tensor


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
