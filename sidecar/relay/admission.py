"""Whether a call is taken at all. Sans-I/O: decided from counts, before anything is done for the call.

What is refused is told when to come again, in answers that are encoded once. Health checks and the sidecar's own
services keep places of their own, so that whoever watches or mends it is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from interceptors.contract import Code, Deny
from interceptors.retry import after
from sidecar.relay.concurrency import Concurrency
from sidecar.relay.grpc_wire import denial_block
from sidecar.relay.settings import FrontSettings

RESERVE: Final = 100  # calls of the reserve (`requests.RESERVED`) open at once
_STEP_S: Final = 0.05  # delays are multiples of it
_MOST_STEPS: Final = 100
_FEW: Final = 4.0  # steps: what is told where nothing says how long it lasts


@dataclass(frozen=True, slots=True)
class Cause:
    """Why calls are refused. reason: stable, in records and metrics.  public: what the caller is told."""

    code: Code
    reason: str
    public: str


CALLS: Final = Cause(Code.RESOURCE_EXHAUSTED, "overload.calls", "too many calls are open")
RESERVE_TAKEN: Final = Cause(Code.RESOURCE_EXHAUSTED, "overload.reserve", "too many calls of this kind are open")
MEMORY: Final = Cause(Code.RESOURCE_EXHAUSTED, "overload.memory", "memory is short")
BUFFERED: Final = Cause(Code.RESOURCE_EXHAUSTED, "overload.buffered", "too many messages are held")
CONCURRENCY: Final = Cause(Code.UNAVAILABLE, "overload.concurrency", "model server is busy")


@dataclass(frozen=True, slots=True)
class Refused:
    """One way to be refused. block: the whole answer, encoded."""

    deny: Deny
    block: bytes


class Admission:
    """Counts what is open and says what is refused.

    open: calls, without those of the reserve; reserved: those.  memory: bytes that the process holds.
    """

    __slots__ = ("_answers", "_chance", "_held_most", "_settings", "concurrency", "memory", "open", "reserved")

    def __init__(self, settings: FrontSettings, now: float, chance: Callable[[], float]) -> None:
        """now: as of Concurrency.  chance: numbers in [0, 1), which spread those who come again."""
        self.concurrency = Concurrency(now)
        self.open = 0
        self.reserved = 0
        self.memory = 0
        self._chance = chance
        self._answers: dict[tuple[str, int], Refused] = {}
        self.switch(settings)

    def switch(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._held_most = settings.buffered // 4 * 3  # the rest is for calls that are open

    def refuse(self, reserved: bool, buffered: int, held: int) -> Refused | None:
        """How a new call is refused, or None: it is taken.

        buffered: bytes of messages held for links; held: those of the call's connection. Who holds none is not refused
        for what others do.
        """
        settings = self._settings
        if reserved:
            return self._refusal(RESERVE_TAKEN, _FEW) if self.reserved >= RESERVE else None
        if self.open >= settings.calls:
            return self._refusal(CALLS, _FEW)
        if self.memory >= settings.memory:
            return self._refusal(MEMORY, 4 * _FEW)
        if held and buffered >= self._held_most:
            return self._refusal(BUFFERED, _FEW)
        concurrency = self.concurrency
        if settings.adaptive and concurrency.waiting >= concurrency.limit:
            concurrency.refused()
            return self._refusal(CONCURRENCY, _FEW * (1.0 + concurrency.pressure))
        return None

    def enter(self, reserved: bool) -> None:
        """A call has begun; `leave` is called once for each."""
        if reserved:
            self.reserved += 1
        else:
            self.open += 1

    def leave(self, reserved: bool) -> None:
        if reserved:
            self.reserved -= 1
        else:
            self.open -= 1

    def look(self, now: float, memory: int) -> None:
        """Called a few times a second. memory: what the process holds, which costs too much to ask for every call."""
        self.memory = memory
        self.concurrency.look(now)

    def _refusal(self, cause: Cause, steps: float) -> Refused:
        """steps: of the delay, in the middle; half of it less or more by chance."""
        step = min(_MOST_STEPS, max(1, round(steps * (0.5 + self._chance()))))
        refused = self._answers.get((cause.reason, step))
        if refused is None:
            refused = self._answers[cause.reason, step] = _encoded(cause, step * _STEP_S)
        return refused


def _encoded(cause: Cause, delay_s: float) -> Refused:
    detail, trailer = after(delay_s)
    deny = Deny(cause.code, cause.reason, cause.public, (detail,), (trailer,))
    return Refused(deny, denial_block(deny, False))
