"""A worker's Meter (the relay's port): what happens is counted on the worker's board.

Callers choose method names. A method has rows of its own once it is known to be one: its shape is known, or the model
server has answered it with OK. Everything else is "other", so that nobody can fill the board with inventions.

Calls are noted in the worker's own memory and published four times a second; everything else is rare enough to be
counted on the board at once. A worker that is killed takes the calls of its last quarter second along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from interceptors.contract import Call, Code, Outcome
from interceptors.events import Travel
from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.details import Details
from sidecar.telemetry.metrics import OTHER
from sidecar.telemetry.tally import Tally

ALLOWED: Final = "allowed"
DENIED: Final = "denied"
WOULD_DENY: Final = "would_deny"
LIMITS: Final = ("limit.", "overload.", "upstream.queue_full")  # reasons, or what they begin with, that are limits
CODES: Final = {int(code): code.name for code in Code}


class BoardMeter:
    """known: whether the shape of the method at a path is known.  details: what spans and access log are told."""

    def __init__(self, board: Board, known: Callable[[str], bool], details: Details | None = None) -> None:
        self._board = board
        self._cells = board.cells
        self._known = known
        self._details = details
        self._tallies: dict[tuple[str, int, str], Tally] = {}
        self._turned_away: dict[tuple[int, str], int] = {}  # by status and reason
        self._connections = board.cell(metrics.CONNECTIONS)
        self._retries = board.cell(metrics.UPSTREAM_RETRIES)

    def call_ended(self, call: Call, outcome: Outcome, travel: Travel) -> None:
        denied = outcome.denied
        decision = DENIED if denied is not None else WOULD_DENY if call.would_deny else ALLOWED
        tally = self._tallies.get((call.method.path, outcome.status, decision))
        if tally is None:
            tally = self._tally(call.method.path, outcome.status, decision)
        tally.add(
            (
                outcome.seconds,
                travel.chain_s,
                travel.upstream_s,
                travel.first_byte_s,
                travel.request_bytes,
                travel.response_bytes,
                outcome.requests,
                outcome.responses,
            )
        )
        if denied is not None:
            self._denied(denied.reason)
        elif outcome.cause:
            self._failed(outcome.cause)
        if self._details is not None:
            self._details.complete(call, outcome, travel)

    def turned_away(self, status: int, reason: str) -> None:
        key = (status, reason)
        self._turned_away[key] = self._turned_away.get(key, 0) + 1

    def connection_opened(self) -> None:
        self._cells[self._connections] += 1.0

    def tls_refused(self, reason: str) -> None:
        self._board.count(metrics.TLS_ERRORS, (reason,))

    def connection_failed(self, reason: str) -> None:
        self._board.count(metrics.CONNECTION_ERRORS, (reason,))

    def abused(self, reason: str) -> None:
        self._board.count(metrics.ABUSE_CLOSURES, (reason,))

    def retried(self) -> None:
        self._cells[self._retries] += 1.0

    def upstream_connected(self, endpoint: str, result: str) -> None:
        self._board.count(metrics.UPSTREAM_CONNECTS, (endpoint, result))

    def upstream_state(self, endpoint: str, up: bool) -> None:
        self._board.set(metrics.UPSTREAM_UP, float(up), (endpoint,))

    def upstream_forgotten(self, endpoint: str) -> None:
        self._board.unset(metrics.UPSTREAM_UP, (endpoint,))

    def _denied(self, reason: str) -> None:
        self._board.count(metrics.DENIALS, (reason,))
        if reason.startswith(LIMITS):
            self._board.count(metrics.LIMIT_DENIALS, (reason,))

    def _failed(self, cause: str) -> None:
        self._board.count(metrics.FAILURES, (cause,))
        if cause.startswith(LIMITS):
            self._board.count(metrics.LIMIT_DENIALS, (cause,))

    def publish(self) -> None:
        """Put the calls since the last time onto the board: four times a second, and at the end."""
        for tally in self._tallies.values():
            tally.publish(self._board)
        for (status, reason), count in self._turned_away.items():
            # Nobody looked at what they called: that is what makes refusing them cheap.
            self._board.count(metrics.CALLS, (OTHER, CODES[status], DENIED), count)
            self._board.count(metrics.DENIALS, (reason,), count)
            self._board.count(metrics.LIMIT_DENIALS, (reason,), count)
        self._turned_away.clear()

    def _tally(self, path: str, status: int, decision: str) -> Tally:
        """Where a call is counted; what is kept is bounded by the methods that have rows."""
        code = CODES.get(status, OTHER)
        method = self._method(path, status == Code.OK and decision != DENIED)
        key = ("/" + method, -1 if code is OTHER else status, decision)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(self._board, method, code, decision)
        return tally

    def _method(self, path: str, answered: bool) -> str:
        """The label of a method. answered: with OK, which nobody but the model server says."""
        method = path[1:]
        if self._board.has(metrics.CALL_SECONDS, (method,)):
            return method
        if not answered and not self._known(path):
            return OTHER
        fits = self._board.row_or_other(metrics.CALL_SECONDS, (method,)) != self._board.cell(metrics.CALL_SECONDS)
        return method if fits else OTHER
