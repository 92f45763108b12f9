"""The Operations that asks the supervisor over the control channel, from whichever thread a call runs on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar, Final

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.operations import plain
from sidecar.operations.model import LogLevel, Status, Verdict
from sidecar.processes.messages import Answer, Message, Question

ANSWER_S: Final = 20.0  # reading a config runs the code of interceptors


class SupervisorError(SidecarError):
    """The supervisor has not answered, or could not."""

    code: ClassVar[Code] = Code.UNAVAILABLE
    public: ClassVar[str] = "the sidecar cannot tell at the moment"


class SupervisorOperations:
    """send: puts a message on the control channel, on the loop's thread; what comes back goes to `answered`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Message], None]) -> None:
        self._loop = loop
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Answer]] = {}  # touched by the loop's thread alone

    def answered(self, message: Message) -> None:
        assert isinstance(message, Answer)
        future = self._asked.pop(message.number, None)
        if future is not None:
            future.set_result(message)

    def status(self) -> Status:
        return plain.read(Status, self._ask("status"))

    def check(self, config: str | None) -> Verdict:
        return plain.read(Verdict, self._ask("check", config=config))

    def drain(self, grace: float | None, reason: str, by: str) -> float:
        return float(self._ask("drain", grace=grace, reason=reason, by=by)["ends"])

    def log_level(self) -> LogLevel:
        return LogLevel[self._ask("log_level")["level"].upper()]

    def set_log_level(self, level: LogLevel, by: str) -> LogLevel:
        return LogLevel[self._ask("set_log_level", level=level.name.lower(), by=by)["before"].upper()]

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Raises SupervisorError."""
        future: Future[Answer] = Future()
        number = next(self._numbers)

        def put() -> None:
            self._asked[number] = future
            self._send(Question(number, what, arguments))

        self._loop.call_soon_threadsafe(put)
        try:
            answer = future.result(ANSWER_S)
        except TimeoutError:
            self._loop.call_soon_threadsafe(self._asked.pop, number, None)
            raise SupervisorError(f"no answer to {what} within {ANSWER_S:g} s") from None
        if answer.fault:
            raise SupervisorError(answer.fault)
        return answer.result
