"""A hook that asked something: its questions go out one by one, until it gives its result or the call is over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from interceptors.contract import Steps

if TYPE_CHECKING:
    from sidecar.relay.driver import Exchange


def _nobody(result: Any) -> None:
    """In place of who wanted a result."""


class Asking:
    """Runs one generator of the plan's. Answers may come at once, later or never; only the first to each counts."""

    __slots__ = ("_answer", "_done", "_exchange", "_putting", "_steps", "_turn")

    def __init__(self, exchange: Exchange, steps: Steps[Any], done: Callable[[Any], None]) -> None:
        """done: gets the result, unless the call has ended before."""
        self._exchange: Exchange | None = exchange
        self._steps = steps
        self._done = done
        self._turn = 0  # the question whose answer is awaited
        self._putting = False
        self._answer: tuple[Any, Exception | None] | None = None  # came while its question was being put

    def run(self) -> None:
        self._go(None, None)

    def close(self) -> None:
        """The call is over: the hook is left where it is, its clean-up run, and no answer reaches it any more."""
        # Whoever is to answer may keep its reply for ever: nothing of the call hangs on it.
        self._exchange, self._done = None, _nobody
        self._steps.close()

    def _go(self, value: Any, error: Exception | None) -> None:
        while (exchange := self._exchange) is not None:
            relay = exchange.relay
            exchange.call.now = relay.wall()
            try:
                question = self._steps.send(value) if error is None else self._steps.throw(error)
            except StopIteration as stop:
                done, self._exchange, self._done = self._done, None, _nobody
                if exchange.asking is not None:
                    exchange.asking.remove(self)
                done(stop.value)
                return
            self._putting = True
            relay.answers(question, partial(self._reply, self._turn))
            self._putting = False
            if self._answer is None:
                return
            (value, error), self._answer = self._answer, None

    def _reply(self, turn: int, value: Any, error: Exception | None) -> None:
        if turn != self._turn or self._exchange is None:
            return
        self._turn += 1
        if self._putting:
            self._answer = value, error
        else:
            self._go(value, error)
