"""The life of a child as a table: (state, what happened) → (state, what to do). Processes are `supervisor`'s.

    WAITING ──due──► STARTING ──ready──► SERVING ──outgrown──► OUTGOING ──succeeded──► DRAINING ──exited──► GONE
       ▲                 │ exited            │ exited
       └─────────────────┴───────────────────┘

A place whose child has outgrown its memory has two for a while: the one OUTGOING, and its successor.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    WAITING = auto()  # no process: the next begins once its pause is over
    STARTING = auto()  # a process that is not ready yet
    SERVING = auto()
    OUTGOING = auto()  # serves until its successor does
    DRAINING = auto()  # takes nothing new
    DYING = auto()  # killed for hanging, and not yet gone
    CONDEMNED = auto()  # the same, of one that has no need of a successor
    GONE = auto()


class Input(Enum):
    DUE = auto()  # the pause before its start is over
    READY = auto()
    SILENT = auto()  # neither ready nor heard of in time
    OUTGROWN = auto()  # over its memory
    SUCCEEDED = auto()  # its successor serves
    STOP = auto()  # the whole sidecar stops
    OVERDUE = auto()  # has not drained in time
    EXITED = auto()
    UNBORN = auto()  # whoever was to make it has been ended first


class Effect(Enum):
    NOTHING = auto()
    SPAWN = auto()
    SERVE = auto()  # let it begin
    REPLACE = auto()  # start a successor
    DRAIN = auto()
    KILL = auto()
    RETRY = auto()  # start another after a pause
    FORGET = auto()


S, I, E = State, Input, Effect  # noqa: E741 - the table below reads better
TABLE: Final[dict[tuple[State, Input], tuple[State, Effect]]] = {
    (S.WAITING, I.DUE): (S.STARTING, E.SPAWN),
    (S.WAITING, I.STOP): (S.GONE, E.FORGET),
    (S.STARTING, I.READY): (S.SERVING, E.SERVE),
    (S.STARTING, I.SILENT): (S.DYING, E.KILL),
    (S.STARTING, I.STOP): (S.DRAINING, E.DRAIN),
    (S.STARTING, I.EXITED): (S.WAITING, E.RETRY),
    (S.STARTING, I.UNBORN): (S.WAITING, E.NOTHING),
    (S.SERVING, I.SILENT): (S.DYING, E.KILL),
    (S.SERVING, I.OUTGROWN): (S.OUTGOING, E.REPLACE),
    (S.SERVING, I.STOP): (S.DRAINING, E.DRAIN),
    (S.SERVING, I.EXITED): (S.WAITING, E.RETRY),
    (S.OUTGOING, I.SUCCEEDED): (S.DRAINING, E.DRAIN),
    (S.OUTGOING, I.SILENT): (S.CONDEMNED, E.KILL),
    (S.OUTGOING, I.STOP): (S.DRAINING, E.DRAIN),
    (S.OUTGOING, I.EXITED): (S.GONE, E.FORGET),
    (S.DRAINING, I.SILENT): (S.CONDEMNED, E.KILL),
    (S.DRAINING, I.OVERDUE): (S.CONDEMNED, E.KILL),
    (S.DRAINING, I.EXITED): (S.GONE, E.FORGET),
    (S.DRAINING, I.UNBORN): (S.GONE, E.FORGET),
    (S.DYING, I.STOP): (S.CONDEMNED, E.NOTHING),
    (S.DYING, I.EXITED): (S.WAITING, E.RETRY),
    (S.DYING, I.UNBORN): (S.WAITING, E.NOTHING),
    (S.CONDEMNED, I.EXITED): (S.GONE, E.FORGET),
    (S.CONDEMNED, I.UNBORN): (S.GONE, E.FORGET),
}
LIVE: Final = frozenset(State) - {State.WAITING, State.GONE}  # states that have a process


def step(state: State, what: Input) -> tuple[State, Effect]:
    """What is not in the table changes nothing: a report may cross an order on its way."""
    return TABLE.get((state, what), (state, Effect.NOTHING))


class Backoff:
    """Pauses between the starts of one place's children: none at first, then doubled each time one did not last.

    first_s, most_s: of the pauses.  lasting_s: a child that lived so long was no failure.
    """

    def __init__(self, first_s: float = 0.25, most_s: float = 15.0, lasting_s: float = 30.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._lasting_s = lasting_s
        self.failures = 0  # in a row

    def pause(self, lived_s: float, jitter: float) -> float:
        """Seconds before the next start.  lived_s: how long the last one lived.  jitter: in [0, 1)."""
        self.failures = 0 if lived_s >= self._lasting_s else self.failures + 1
        if self.failures < 2:
            return 0.0
        longest = min(self._most_s, self._first_s * 2.0 ** min(self.failures - 2, 32))
        return longest * (0.5 + jitter / 2)
