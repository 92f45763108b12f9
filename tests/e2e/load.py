"""Clients that never pause: unary calls one after the other, and streams that stay open, each on a connection of its
own. What went wrong is kept, with when.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import grpc

from tests.e2e.upstream import STREAM, UNARY
from tests.peers.targets import plain_stream, plain_unary
from tests.waiting import eventually

DEADLINE_S = 20.0
Connect = Callable[[], grpc.Channel]


@dataclass
class Load:
    """calls: unary calls that were answered.  errors: who failed, with which status and when.

    echoes: messages that came back on streams.  runs: of failures of a client with no answer between them.
    """

    calls: int = 0
    echoes: int = 0
    errors: list[tuple[str, grpc.StatusCode, str]] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    _failing: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def more(self, count: int = 200, within_s: float = 60.0) -> None:
        """Return once so many further calls were answered."""
        until = self.calls + count
        eventually(lambda: self.calls >= until, f"{count} calls answered", within_s)

    def failed(self, client: str, error: grpc.RpcError) -> None:
        with self._lock:
            self.runs[client] += client not in self._failing
            self._failing.add(client)
            self.errors.append((client, error.code(), f"{monotonic():.3f} {error.details()}"))

    def _unary(self, client: str, connect: Connect) -> None:
        with connect() as channel:
            call = plain_unary(channel, UNARY)
            while not self._stop.is_set():
                try:
                    call(b"x" * 100, timeout=DEADLINE_S)
                except grpc.RpcError as error:
                    self.failed(client, error)
                else:
                    with self._lock:
                        self._failing.discard(client)
                        self.calls += 1

    def _stream(self, client: str, connect: Connect) -> None:
        """An open stream with a message now and then; opened again when it is lost."""
        with connect() as channel:
            while not self._stop.is_set():
                requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
                stream = plain_stream(channel, STREAM)(iter(requests.get, None))
                try:
                    while not self._stop.is_set():
                        requests.put(b"tick")
                        next(stream)
                        with self._lock:
                            self._failing.discard(client)
                            self.echoes += 1
                        self._stop.wait(0.05)
                except grpc.RpcError as error:
                    self.failed(client, error)
                finally:
                    requests.put(None)
                    stream.cancel()


@contextmanager
def load(connect: Connect, *, unary: int = 4, streams: int = 4) -> Iterator[Load]:
    """Keep calling until the block ends. connect: makes a channel with a connection of its own."""
    running = Load()
    threads = [
        threading.Thread(target=running._unary, args=(f"unary-{number}", connect), daemon=True)
        for number in range(unary)
    ] + [
        threading.Thread(target=running._stream, args=(f"stream-{number}", connect), daemon=True)
        for number in range(streams)
    ]
    for thread in threads:
        thread.start()
    try:
        running.more(20)
        eventually(lambda: running.echoes >= streams, "every stream has echoed")
        yield running
    finally:
        running._stop.set()
        for thread in threads:
            thread.join(DEADLINE_S)
