"""CPU time of the relay's own code per call: both protocols and the chain, without sockets, TLS or an event loop.

A traced unary call of 1 KB, 8 in a batch: the client's bytes go in, what leaves for the model server is dropped, its
answers go in, what leaves for the client is dropped. As `python -m` finds the code: the compiled build where
`.cache/compiled` stands before the sources (`make bench-in-memory` runs both).
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import hpack

from bench.harness.payload import METHOD, framed
from interceptors.access import Access
from interceptors.authorize import Authorize, Rule
from interceptors.chain import Chain
from interceptors.contract import Peer
from interceptors.events import Event
from interceptors.facts import PeerCertificate
from interceptors.identify import Identify
from interceptors.record import Record
from interceptors.sequences import KEY, Sequences
from interceptors.tokens import Tokens
from interceptors.trace import Trace
from interceptors.visible import Visible
from sidecar.build import of as build
from sidecar.relay.codecs.registry import registry
from sidecar.relay.front import Front
from sidecar.relay.http2 import frames
from sidecar.relay.http2.blocks import encode
from sidecar.relay.relay import Relay
from sidecar.relay.settings import FrontSettings, Target, UpstreamSettings
from sidecar.relay.upstream.endpoint import Endpoint
from sidecar.relay.upstream.pool import Pool
from sidecar.relay.upstream.wire import UpstreamWire

BATCH: Final = 8
MESSAGE: Final = framed(1024)
PATH: Final = METHOD.encode()
ANSWER: Final = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
TRAILERS: Final = encode(((b"grpc-status", b"0"),))
CALLER: Final = PeerCertificate(("spiffe://example.org/bench/a",), (), "", 9e18, "", frozenset({"example.org"}))
WIDE: Final = frames.SETTINGS_ACK + frames.window_update(0, 1 << 30)


class Loop:
    """As much of an event loop as the relay's own code asks for."""

    def __init__(self) -> None:
        self._soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    time = staticmethod(time.monotonic)

    def call_soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._soon.append((function, arguments))

    def create_future(self) -> Any:
        return Idle()

    def call_at(self, when: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return Idle()

    def turn(self) -> None:
        while self._soon:
            soon, self._soon = self._soon, []
            for function, arguments in soon:
                function(*arguments)


class Idle:
    """A future that nobody waits for, a timer that no call lives long enough to see fire."""

    def done(self) -> bool:
        return True

    def cancel(self) -> None:
        pass


class Transport:
    def __init__(self) -> None:
        self.count = 0

    def write(self, data: bytes) -> None:
        self.count += len(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Recorder:
    failed: str | None = None

    def __init__(self) -> None:
        self.count = 0

    def record(self, event: Event, done: object = None) -> None:
        assert event.kind == "call.allowed", event
        self.count += 1


class Bench:
    """varying: whether every call has header values of its own, put into the HPACK table, as real clients have.

    access: roles and policies that decide as well.  tokens: who knows callers by `token`, which comes with each call.
    """

    def __init__(
        self, varying: bool, access: Access | None = None, tokens: Tokens | None = None, token: str = ""
    ) -> None:
        self._random = Random(1)
        self._varying = varying
        self._beside = ((b"authorization", f"Bearer {token}".encode()),) if token else ()
        loop: Any = Loop()
        self._loop = loop
        self.recorder: Any = Recorder()
        rules = (Rule(("spiffe://example.org/bench/*", "user:bench/*"), (METHOD,)),)
        trace, identify = Trace(self._random.randbytes, 0.0), Identify(["example.org"], tokens=tokens)
        chain = Chain([trace, identify, Authorize(rules, access=access), Visible(), Sequences(bytes(KEY)), Record()])
        no_answers: Any = None
        relay = Relay(
            loop, FrontSettings(), chain, registry("open-inference"), self.recorder, None, no_answers
        )  # fmt: skip
        target = Target("127.0.0.1", 1)
        relay.pool = pool = Pool(loop, relay, UpstreamSettings((target,)), None, None, lambda: 0.5)
        self._front, front_transport = Front(loop, relay, None, b"http").protocol(), Transport()
        self._up, up_transport = UpstreamWire(Endpoint(pool, target, ""), None), Transport()
        self._front.connection_made(front_transport)  # type: ignore[arg-type]
        self._front.peer = Peer("127.0.0.1:1", "127.0.0.1", CALLER)
        self._up.connection_made(up_transport)  # type: ignore[arg-type]
        self._loop.turn()
        self._front.data_received(frames.PREFACE + frames.settings(()) + WIDE)
        self._up.data_received(frames.settings(((frames.INITIAL_WINDOW_SIZE, 1 << 30),)) + WIDE)
        pool._wires.append(self._up)
        self._loop.turn()
        self._numbers = iter(range(1, 1 << 31, 2))
        self._answered = iter(range(1, 1 << 31, 2))
        self._same = encode(self._head())
        self._encoder = hpack.Encoder()

    def round(self, batches: int) -> float:
        """Microseconds of CPU a call."""
        asked, answers = list(self._requests(batches)), list(self._responses(batches))
        gc.collect()
        gc.disable()
        began = time.thread_time_ns()
        for request, response in zip(asked, answers, strict=True):
            self._front.data_received(request)
            self._loop.turn()
            self._up.data_received(response)
            self._loop.turn()
        spent = time.thread_time_ns() - began
        gc.enable()
        return spent / (batches * BATCH) / 1e3

    def _head(self) -> tuple[tuple[bytes, bytes], ...]:
        trace, span = self._random.randbytes(16).hex(), self._random.randbytes(8).hex()
        fields = (
            (b":method", b"POST"), (b":scheme", b"https"), (b":path", PATH), (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"grpc-python/1.0"),
            (b"traceparent", f"00-{trace}-{span}-00".encode()), *self._beside,
        )  # fmt: skip
        if not self._varying:
            return fields
        request = self._random.randbytes(8).hex().encode()
        return (*fields, (b"grpc-timeout", b"%dm" % self._random.randrange(1000, 99_999)), (b"x-request-id", request))

    def _requests(self, batches: int) -> Iterator[bytes]:
        for _ in range(batches):
            yield b"".join(self._request(next(self._numbers)) for _ in range(BATCH))

    def _request(self, number: int) -> bytes:
        head = self._encoder.encode(self._head()) if self._varying else self._same
        return _frame(frames.HEADERS, frames.END_HEADERS, number, head) + _frame(
            frames.DATA, frames.END_STREAM, number, MESSAGE
        )

    def _responses(self, batches: int) -> Iterator[bytes]:
        for _ in range(batches):
            yield b"".join(map(_response, (next(self._answered) for _ in range(BATCH))))


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return frames.frame_header(len(payload), kind, flags, number) + payload


def _response(number: int) -> bytes:
    return (
        _frame(frames.HEADERS, frames.END_HEADERS, number, ANSWER)
        + _frame(frames.DATA, 0, number, MESSAGE)
        + _frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, TRAILERS)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.in_memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="the least of which counts: all else is other work")
    parser.add_argument("--batches", type=int, default=500, help="of 8 calls, in a round")
    arguments = parser.parse_args()
    for varying in (False, True):
        bench = Bench(varying)
        bench.round(arguments.batches)
        least = min(bench.round(arguments.batches) for _ in range(arguments.rounds))
        calls = (arguments.rounds + 1) * arguments.batches * BATCH
        assert bench.recorder.count == calls, f"expected {calls} calls, {bench.recorder.count} were recorded"
        print(f"{least:6.1f} us of CPU a call, {'varying' if varying else 'the same'} headers, {build()} build")


if __name__ == "__main__":
    main()
