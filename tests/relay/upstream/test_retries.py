from __future__ import annotations

import pytest

from sidecar.relay.upstream.retries import PUSHBACK, pause_of


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        (None, 7.0),
        (b"0", 0.0),
        (b"250", 0.25),
        (b"-1", None),
        (b"", None),
        (b"1.5", None),
        (b"+1", None),
        (b"9" * 10, None),
    ],
)
def test_the_servers_word_goes_first(value: bytes | None, pause: float | None) -> None:
    answer = () if value is None else ((b"grpc-status", b"14"), (PUSHBACK, value))
    assert pause_of(answer, 7.0) == pause
