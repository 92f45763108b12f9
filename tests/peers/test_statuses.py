"""Every status, its message, its details and its trailers arrive as the server sent them.

With grpcio's blocking client: its asyncio client puts INTERNAL in place of the status of a stream that ends while
it writes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import grpc
import pytest

from tests.peers.conftest import LOOKED, MTLS
from tests.peers.statuses import Ending, endings
from tests.peers.targets import DEADLINE, Target, Upstream, plain_stream, plain_unary

CODES = {code.value[0]: code for code in grpc.StatusCode}
AT_ONCE = 16  # calls in flight
CALLS = 500  # for each status and shape
Shape: TypeAlias = Callable[[grpc.Channel, Ending], Any]


@pytest.fixture(scope="module", params=(MTLS, pytest.param(LOOKED, marks=pytest.mark.slow)), ids=str)
def ended(request: pytest.FixtureRequest, through: Any) -> Iterator[Target]:
    with through(request.param) as target:
        yield target


def unary(channel: grpc.Channel, ending: Ending) -> Any:
    echo = plain_unary(channel, "/peers.Echo/Unary")
    call: Any = echo.future(b"x", metadata=(ending.field(),), timeout=DEADLINE)
    call.exception()
    return call


def bidi(channel: grpc.Channel, ending: Ending) -> Any:
    """Writes for as long as the call lasts, so that its end crosses what is still on the way up."""
    over = threading.Event()
    writes = iter(lambda: b"" if over.is_set() else b"x" * 100, b"")
    call: Any = plain_stream(channel, "/peers.Echo/Bidi")(writes, metadata=(ending.field(),), timeout=DEADLINE)
    call.add_callback(over.set)
    for number in range(ending.after):
        assert next(call) == b"%d" % number
    call.code()  # returns once the call has ended
    return call


def fault(channel: grpc.Channel, shape: Shape, ending: Ending) -> str | None:
    """How the call ended otherwise than asked, or None."""
    call = shape(channel, ending)
    got = (call.code(), call.details(), tuple(map(tuple, call.trailing_metadata())))
    want = (CODES[ending.code], ending.message, ending.trailers())
    return None if got == want else f"asked for {want}, got {got}"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [unary, bidi])
def test_every_ending_arrives_unchanged(shape: Shape, code: int, ended: Target, upstream: Upstream) -> None:
    wanted = endings(code, CALLS, shape is bidi, random.Random(code))
    with ended.channel() as channel, ThreadPoolExecutor(AT_ONCE) as pool:
        faults = [found for found in pool.map(lambda ending: fault(channel, shape, ending), wanted) if found]
    assert not faults, f"{len(faults)} of {CALLS} changed, the first: {faults[0]}"
    upstream.wait_quiet()
