"""The call that benchmarks send: an Open Inference ModelInfer of an exact size, as it travels.

The upstream echoes, so the message is valid as a request and as a response: both name the model in field 1, the
version in 2, the id in 3 and tensors of like shape in 5 (grpc_service.proto of the Open Inference Protocol).
"""

from __future__ import annotations

import struct

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MODEL = b"digits"
PREFIX = struct.Struct(">BL")  # gRPC over HTTP/2, "Length-Prefixed-Message"
VALUES = 64  # an image of 8 by 8


def framed(size: int) -> bytes:
    """A message of `size` bytes, uncompressed, behind its 5-byte prefix.

    Raises ValueError unless size is 512 to 16,383: the lengths of its larger fields then take two bytes.
    """
    if not 512 <= size < 1 << 14:
        raise ValueError(f"size is {size} bytes, expected 512 to 16383")
    values = _field(6, struct.pack(f"<{VALUES}f", *(float(i % 17) for i in range(VALUES))))
    shape = _field(3, bytes((1, VALUES)))
    tensor = _field(5, _field(1, b"input-0") + _field(2, b"FP32") + shape + _field(5, values))
    named = _field(1, MODEL) + _field(2, b"1")
    room = size - len(named) - len(tensor)
    identifier = _field(3, b"i" * (room - 3))  # the id fills what is left; its header takes 3 bytes
    return PREFIX.pack(0, size) + named + identifier + tensor


def _field(number: int, value: bytes) -> bytes:
    length = len(value)
    varint = bytes((length,)) if length < 0x80 else bytes((length & 0x7F | 0x80, length >> 7))
    return bytes((number << 3 | 2,)) + varint + value
