"""What answers take, learnt from cohorts of calls."""

from __future__ import annotations

from random import Random

import pytest

from sidecar.relay.usual import COHORT, FEW, MANY, METHODS, Usual, Usuals

PATH = "/t.S/Infer"


def cohort(usuals: Usuals, *seconds: float, waiting: int = 1) -> None:
    """Calls that end in the order in which they were asked."""
    for each in seconds:
        usuals.end(usuals.choose(waiting), usuals.of(PATH), each)


def seconds(usuals: Usuals) -> float:
    usual = usuals.known(PATH)
    return 0.0 if usual is None else usual.seconds


def test_the_first_cohort_tells_whoever_waited() -> None:
    usuals = Usuals(0.0)
    cohort(usuals, *[0.3] * (COHORT - 1), waiting=9)
    assert not usuals.complete
    cohort(usuals, 0.5, waiting=9)
    assert usuals.complete
    usuals.learn()
    assert seconds(usuals) == pytest.approx(0.32)


def test_no_more_calls_are_chosen_than_a_cohort_has() -> None:
    usuals = Usuals(0.0)
    marks = [usuals.choose(1) for _ in range(COHORT + 2)]
    assert marks[COHORT:] == [0, 0]
    assert not usuals.end(0, usuals.of(PATH), 9.0)
    for mark in marks[:COHORT]:
        assert not usuals.complete
        usuals.end(mark, usuals.of(PATH), 0.1)
    assert usuals.complete
    usuals.learn()
    assert seconds(usuals) == pytest.approx(0.1)


def test_calls_of_an_earlier_cohort_tell_nothing() -> None:
    usuals = Usuals(0.0)
    early = usuals.choose(1)
    usuals.gather(1.0)
    usuals.end(early, usuals.of(PATH), 9.0)
    cohort(usuals, *[0.1] * COHORT)
    usuals.learn()
    assert seconds(usuals) == pytest.approx(0.1)


def test_while_it_pauses_none_is_chosen_nor_awaited() -> None:
    usuals = Usuals(0.0)
    marks = [usuals.choose(1) for _ in range(COHORT)]
    usuals.pause()
    assert usuals.choose(1) == 0
    for mark in marks:
        usuals.end(mark, usuals.of(PATH), 0.1)
    assert not usuals.complete
    usuals.gather(1.0)
    assert usuals.choose(1) != 0


@pytest.mark.parametrize("answered", [0.1, 10.0], ids=["shorter", "longer"])
def test_quiet_calls_are_believed(answered: float) -> None:
    usuals = Usuals(0.0)
    for took in (1.0, answered):
        usuals.gather(0.0)
        cohort(usuals, *[took] * COHORT)
        usuals.learn()
        assert seconds(usuals) == pytest.approx(took)


def test_calls_that_waited_only_lower_it_and_only_many_do() -> None:
    usuals = Usuals(0.0)
    cohort(usuals, *[1.0] * COHORT, waiting=5)
    usuals.learn()
    for took, expected in ((9.0, 1.0), (0.2, 0.8)):
        for done in range(COHORT, MANY + 1, COHORT):
            usuals.gather(0.0)
            cohort(usuals, *[took] * COHORT, waiting=5)
            usuals.learn()
            assert seconds(usuals) == pytest.approx(expected if done == MANY else 1.0)


def test_a_dip_tells_by_few_calls_and_whether_they_take_much_longer() -> None:
    for took, longer in ((1.4, False), (1.6, True)):
        usual = Usual()
        usual.seconds = 1.0
        for _ in range(FEW - 1):
            usual.note(took, True)
        usual.note(5.0, False)
        assert not usual.replace()
        assert usual.seconds == 1.0
        usual.note(took, True)
        assert usual.replace() is longer
        assert usual.seconds == pytest.approx(took)


def test_the_short_ones_that_end_first_do_not_tell_alone() -> None:
    """Of calls asked within a second, exponential times of a second on average: the first ten that end take 0.2 s."""
    chance, usuals = Random(1), Usuals(0.0)
    calls = [(at / 40, chance.expovariate(1.0), usuals.choose(at + 1)) for at in range(40)]
    for _, took, mark in sorted(calls, key=lambda call: call[0] + call[1]):
        usuals.end(mark, usuals.of(PATH), took)
        if usuals.complete:
            break
    usuals.learn()
    first = sorted(calls, key=lambda call: call[0] + call[1])[:COHORT]
    assert sum(took for _, took, _ in first) / COHORT < 0.3
    assert 0.6 < seconds(usuals) < 1.4


def test_the_method_answered_longest_ago_gives_its_place_up() -> None:
    """Whoever calls many methods once does not keep those that are called from being watched."""
    usuals = Usuals(0.0)
    watched = usuals.of(PATH)
    usuals.of("/t.S/Once")
    for number in range(10 * METHODS):
        usuals.of(f"/t.S/M{number}")
        assert usuals.of(PATH) is watched
    kept = [number for number in range(10 * METHODS) if usuals.known(f"/t.S/M{number}")]
    assert kept == list(range(10 * METHODS - METHODS + 1, 10 * METHODS))
    assert usuals.known("/t.S/Once") is None


def test_late_is_well_over_the_usual() -> None:
    usual = Usual()
    assert not usual.late(100.0)  # nothing is known yet
    usual.seconds = 0.1
    assert [usual.late(took) for took in (0.1, 0.17, 0.19)] == [False, False, True]
    usual.seconds = 0.0001
    assert not usual.late(0.003)  # the noise of a machine
