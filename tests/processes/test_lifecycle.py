"""The life of a child as a table, and the pauses between its starts."""

from __future__ import annotations

import pytest

from sidecar.processes.lifecycle import TABLE, Backoff, Effect, Input, State, step

S, I, E = State, Input, Effect  # noqa: E741

LIVES: dict[str, list[tuple[Input, Effect, State]]] = {
    "starts, serves, crashes, starts again": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.EXITED, E.RETRY, S.WAITING),
        (I.DUE, E.SPAWN, S.STARTING),
    ],
    "is asked of a nursery that is ended first": [
        (I.DUE, E.SPAWN, S.STARTING), (I.UNBORN, E.NOTHING, S.WAITING), (I.DUE, E.SPAWN, S.STARTING),
    ],
    "is told to stop while the nursery that is asked for it is ended": [
        (I.DUE, E.SPAWN, S.STARTING), (I.STOP, E.DRAIN, S.DRAINING), (I.UNBORN, E.FORGET, S.GONE),
    ],
    "crashes while it starts": [(I.DUE, E.SPAWN, S.STARTING), (I.EXITED, E.RETRY, S.WAITING)],
    "never gets ready": [
        (I.DUE, E.SPAWN, S.STARTING), (I.SILENT, E.KILL, S.DYING), (I.EXITED, E.RETRY, S.WAITING),
    ],
    "hangs": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.SILENT, E.KILL, S.DYING),
        (I.READY, E.NOTHING, S.DYING), (I.SILENT, E.NOTHING, S.DYING), (I.EXITED, E.RETRY, S.WAITING),
    ],
    "grows, and gives way to its successor": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.OUTGROWN, E.REPLACE, S.OUTGOING),
        (I.OUTGROWN, E.NOTHING, S.OUTGOING), (I.SUCCEEDED, E.DRAIN, S.DRAINING), (I.EXITED, E.FORGET, S.GONE),
    ],
    "grows, and ends before its successor serves": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.OUTGROWN, E.REPLACE, S.OUTGOING),
        (I.EXITED, E.FORGET, S.GONE), (I.SUCCEEDED, E.NOTHING, S.GONE),
    ],
    "is told to stop": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.STOP, E.DRAIN, S.DRAINING),
        (I.STOP, E.NOTHING, S.DRAINING), (I.EXITED, E.FORGET, S.GONE),
    ],
    "is told to stop, and does not": [
        (I.DUE, E.SPAWN, S.STARTING), (I.READY, E.SERVE, S.SERVING), (I.STOP, E.DRAIN, S.DRAINING),
        (I.OVERDUE, E.KILL, S.CONDEMNED), (I.OVERDUE, E.NOTHING, S.CONDEMNED), (I.EXITED, E.FORGET, S.GONE),
    ],
    "is told to stop between two starts": [(I.STOP, E.FORGET, S.GONE)],
    "is told to stop while it is being killed": [
        (I.DUE, E.SPAWN, S.STARTING), (I.SILENT, E.KILL, S.DYING), (I.STOP, E.NOTHING, S.CONDEMNED),
        (I.EXITED, E.FORGET, S.GONE),
    ],
}  # fmt: skip


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_a_life(life: list[tuple[Input, Effect, State]]) -> None:
    state = S.WAITING
    for what, effect, after in life:
        state, done = step(state, what)
        assert (done, state) == (effect, after), what


def test_every_pair_moves_or_changes_nothing() -> None:
    for state in State:
        for what in Input:
            after, effect = step(state, what)
            assert (state, what) in TABLE or (after, effect) == (state, Effect.NOTHING)


def test_whoever_has_a_process_leaves_its_state_when_that_exits() -> None:
    for state in set(State) - {S.WAITING, S.GONE}:
        assert step(state, I.EXITED)[0] in (S.WAITING, S.GONE)


def test_whoever_may_not_be_born_yet_leaves_its_state_when_it_is_not_to_be() -> None:
    for state in (S.STARTING, S.DRAINING, S.DYING, S.CONDEMNED):
        assert step(state, I.UNBORN)[0] is step(state, I.EXITED)[0]


def test_once_stopping_nothing_starts_again() -> None:
    seen, new = set[State](), {step(state, I.STOP)[0] for state in State}
    while new:
        seen |= new
        new = {step(state, what)[0] for state in seen for what in set(Input) - {I.STOP}} - seen
    assert seen <= {S.DRAINING, S.CONDEMNED, S.GONE}


def test_pauses_double_and_end_with_a_child_that_lasts() -> None:
    backoff = Backoff(first_s=1.0, most_s=5.0, lasting_s=30.0)
    lived = [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 31.0, 3.0, 3.0]
    assert [backoff.pause(each, 1.0) for each in lived] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0, 0.0, 0.0, 1.0]


def test_pauses_are_spread() -> None:
    assert [_second(jitter) for jitter in (0.0, 0.5, 1.0)] == [0.5, 0.75, 1.0]


def _second(jitter: float) -> float:
    backoff = Backoff(first_s=1.0)
    backoff.pause(0.0, jitter)
    return backoff.pause(0.0, jitter)


def test_a_crash_loop_of_any_length() -> None:
    backoff = Backoff()
    assert max(backoff.pause(0.0, 0.99) for _ in range(5000)) <= 15.0
