"""A map that forgets its oldest entries: callers choose some of the keys, so every cache has a bound."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A dict of at most `most` entries; `keep` is the way in, the oldest entry goes out first."""

    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        """Raises ValueError unless most >= 1."""
        if most < 1:
            raise ValueError(f"a bounded map holds at least 1 entry, got {most}")
        super().__init__()
        self.most = most

    def keep(self, key: K, value: V) -> V:
        """Store `value` under `key` and give it back."""
        if len(self) >= self.most and key not in self:
            del self[next(iter(self))]
        self[key] = value
        return value
