"""The bench's message: of an exact size, and one that an Open Inference codec reads, on either side."""

from __future__ import annotations

import pytest

from bench.harness import payload
from interceptors.contract import ModelName
from sidecar.relay.codecs.registry import registry


@pytest.mark.parametrize("size", [512, 1024, 16383, 16384, 600_000])
def test_size_and_prefix(size: int) -> None:
    framed = payload.framed(size)
    assert framed[:5] == bytes((0,)) + size.to_bytes(4, "big")
    assert len(framed) == 5 + size


@pytest.mark.parametrize("size", [100, 511, (1 << 21) + 1])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size is {size} bytes, expected 512 to 2097152"):
        payload.framed(size)


@pytest.mark.parametrize("response", [False, True])
def test_a_codec_reads_the_model_and_the_method_is_unary(response: bool) -> None:
    codecs = registry("open-inference")
    method = codecs.method(payload.METHOD)
    assert method is not None
    assert (method.unary_request, method.unary_response, method.permission) == (True, True, "models.inference")
    models = codecs.codec(payload.METHOD).models(payload.framed(1024)[5:], response)
    assert models == (ModelName(payload.MODEL.decode(), "1"),)
