"""Facts of calls on their way from a worker to the telemetry process, over a socket whose kernel buffer is the bound.

A pair of AF_UNIX SOCK_SEQPACKET sockets, made by whoever starts both processes and kept by it, so that either may be
restarted and what is in between stays. One packet holds a batch, as marshal writes it: both ends are this program, of
one version. The writer never waits: a batch that finds no room is dropped, and counted on the worker's board.
"""

from __future__ import annotations

import errno
import marshal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from interceptors.events import CallDetail, SpanFact
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board

BATCH: Final = 64  # facts in one packet: about 20 KB
GATHER_S: Final = 0.1  # the longest that a fact waits for others
BUFFER: Final = 4 << 20  # bytes asked for; the kernel gives as much as net.core.wmem_max allows
PACKET_MOST: Final = 1 << 20  # bytes read at once
FULL: Final = ("feed_full",)
_VERSION: Final = 4  # of marshal: texts that several facts share travel once
Plain: TypeAlias = tuple[Any, ...]  # a SpanFact's values in their order, its detail as a tuple of its own
SPAN_ID: Final = 1  # where in a Plain
DETAIL: Final = 10
LOGGED: Final = 8  # where in its detail


def pair() -> tuple[socket.socket, socket.socket]:
    """The worker's end and the telemetry process's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ours, theirs


class SpanFeed:
    """The worker's end: a SpanSink. later: runs a function after so many seconds, as loop.call_later does."""

    def __init__(self, end: socket.socket, board: Board, later: Callable[[float, Callable[[], None]], object]) -> None:
        end.setblocking(False)
        self._end = end
        self._board = board
        self._later = later
        self._facts: list[Plain] = []
        self._closed = False
        self.dropped = 0

    def offer(self, fact: SpanFact) -> None:
        self.note(plain(fact))

    def note(self, fact: Plain) -> None:
        """The same, of a fact that was never put together."""
        facts = self._facts
        facts.append(fact)
        if len(facts) == 1:
            self._later(GATHER_S, self.flush)
        elif len(facts) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered, or drop it."""
        facts, self._facts = self._facts, []
        if facts:
            self._send(facts)

    def close(self) -> None:
        """Send what has gathered; what is offered afterwards is dropped."""
        if not self._closed:
            self.flush()
            self._closed = True
            self._end.close()

    def _send(self, facts: list[Plain]) -> None:
        try:
            self._end.send(packet(facts))
        except (OSError, ValueError) as error:
            # Too long for a packet, or a link put what is no plain value into one of them.
            apart = not isinstance(error, OSError) or error.errno == errno.EMSGSIZE
            if apart and len(facts) > 1:
                middle = len(facts) // 2
                self._send(facts[:middle])
                self._send(facts[middle:])
            else:
                self._drop(facts)

    def _drop(self, facts: Sequence[Plain]) -> None:
        spans = sum(1 for fact in facts if fact[SPAN_ID])
        lines = sum(map(is_logged, facts))
        self.dropped += spans
        if spans:
            self._board.count(metrics.SPANS_DROPPED, FULL, spans)
        if lines:
            self._board.count(metrics.LINES_DROPPED, FULL, lines)


class FeedEnd:
    """The telemetry process's end of one feed."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def read(self) -> list[Plain] | None:
        """The next batch, [] where none is there, or None where nobody will write again."""
        try:
            data = self._end.recv(PACKET_MOST)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        if not data:
            return None
        facts: list[Plain] = marshal.loads(data)  # noqa: S302 - only our own processes hold the socket
        return facts

    def close(self) -> None:
        self._end.close()


def packet(facts: list[Plain]) -> bytes:
    """As `FeedEnd.read` expects it."""
    return marshal.dumps(facts, _VERSION)


def is_logged(fact: Plain) -> bool:
    """Whether the access log wants it."""
    detail = fact[DETAIL]
    return detail is not None and detail[LOGGED]


def plain(fact: SpanFact) -> Plain:
    return (
        fact.trace_id, fact.span_id, fact.parent_id, fact.name, fact.start, fact.end, fact.status, fact.principal,
        fact.model, fact.decision, None if fact.detail is None else tuple(fact.detail),
    )  # fmt: skip


def restored(fact: Plain) -> SpanFact:
    *span, detail = fact
    whole = SpanFact(*span)
    whole.detail = None if detail is None else CallDetail(*detail)
    return whole
