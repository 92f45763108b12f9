from __future__ import annotations

import pytest

from interceptors.bounded import Bounded


def test_the_oldest_goes_first() -> None:
    cache: Bounded[int, int] = Bounded(2)
    for key in (1, 2, 1, 3):
        assert cache.keep(key, key * 10) == key * 10
    assert dict(cache) == {2: 20, 3: 30}


def test_a_cache_holds_something() -> None:
    with pytest.raises(ValueError, match="at least 1 entry, got 0"):
        Bounded(0)
