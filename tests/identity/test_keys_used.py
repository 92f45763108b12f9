"""Uses are gathered, the last of each key, within bounds."""

from __future__ import annotations

from sidecar.identity.keys_used import MOST, Used


def test_the_last_use_of_each_is_taken_once() -> None:
    used = Used()
    for key_id, now in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        used.note(key_id, now)
    assert used.take() == {"a": 3.0, "b": 2.0}
    assert used.take() == {}


def test_it_holds_so_many_and_still_moves_them_on() -> None:
    used = Used()
    for number in range(MOST + 5):
        used.note(str(number), 1.0)
    used.note("0", 2.0)
    taken = used.take()
    assert len(taken) == MOST
    assert taken["0"] == 2.0
