"""What is kept under patterns is found as if each of them were asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.patterns import path_pattern
from sidecar.policy.index import ByPattern

PATTERNS = st.lists(st.text("ab/*", min_size=1, max_size=6), max_size=3)
NAMES = st.lists(st.text("ab/", min_size=1, max_size=6), min_size=1, max_size=3)


@given(st.lists(PATTERNS, max_size=8), st.sets(st.integers(0, 7)), NAMES)
def test_beside_asking_each(kept: list[list[str]], dropped: set[int], names: list[str]) -> None:
    index: ByPattern[int] = ByPattern()
    for number, patterns in enumerate(kept):
        index.add(patterns, number)
    left = {number: patterns for number, patterns in enumerate(kept) if number not in dropped}
    for number in dropped & set(range(len(kept))):
        index.remove(kept[number], number)
    covering = {
        number
        for number, patterns in left.items()
        for text in patterns
        for name in names
        if path_pattern(text).matches(name)
    }
    assert set(index.find(names)) == covering
    assert set(index.all()) == {number for number, patterns in left.items() if patterns}
    assert bool(index) is any(left.values())


def test_what_was_not_added_cannot_be_removed() -> None:
    index: ByPattern[str] = ByPattern()
    index.add(("a/*",), "x")
    for pattern, thing in (("a/*", "y"), ("a/b", "x"), ("b/*", "x")):
        with pytest.raises((KeyError, ValueError)):
            index.remove((pattern,), thing)
    assert list(index.find(("a/b",))) == ["x"]
