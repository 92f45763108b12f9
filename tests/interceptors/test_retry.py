"""The detail and the trailer that say when to come again, beside protobuf's own parser."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from interceptors import retry
from interceptors.contract import RETRY_PUSHBACK


@given(st.integers(0, 1 << 40))
def test_retry_info_is_what_protobuf_writes(delay_ms: int) -> None:
    theirs = error_details_pb2.RetryInfo()
    theirs.retry_delay.FromMilliseconds(delay_ms)
    assert retry.retry_info(delay_ms) == theirs.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("delay_s", "delay_ms"),
    [(0.0, 1), (0.0001, 1), (0.001, 1), (0.0011, 2), (1.0, 1000), (864.0, 864_000), (1e12, (1 << 31) - 1)],
)
def test_both_are_rounded_up_to_the_same_millisecond(delay_s: float, delay_ms: int) -> None:
    detail, trailer = retry.after(delay_s)
    assert trailer == (RETRY_PUSHBACK, str(delay_ms).encode())
    info = error_details_pb2.RetryInfo.FromString(detail.value)
    assert info.retry_delay.ToMilliseconds() == delay_ms
    assert detail.type_url == f"type.googleapis.com/{info.DESCRIPTOR.full_name}"
