"""What is kept under patterns of names, found by a name without asking most of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from interceptors.patterns import path_pattern

T = TypeVar("T")


class ByPattern(Generic[T]):
    """Things under path-like patterns: those without a star in a table, the others by how what they cover begins.

    The same thing may stand under several patterns, and is found once for each that covers a name.
    """

    __slots__ = ("_exact", "_starred")

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._starred: dict[int, dict[str, list[tuple[str, T]]]] = {}  # by length of what it begins with

    def __bool__(self) -> bool:
        return bool(self._exact or self._starred)

    def add(self, patterns: Iterable[str], thing: T) -> None:
        for text in patterns:
            if "*" not in text:
                self._exact.setdefault(text, []).append(thing)
            else:
                prefix = text[: text.index("*")]
                self._starred.setdefault(len(prefix), {}).setdefault(prefix, []).append((text, thing))

    def remove(self, patterns: Iterable[str], thing: T) -> None:
        """As it was added. Raises KeyError or ValueError when it was not."""
        for text in patterns:
            if "*" not in text:
                _without(self._exact, text, thing)
                continue
            prefix = text[: text.index("*")]
            _without(self._starred[len(prefix)], prefix, (text, thing))
            if not self._starred[len(prefix)]:
                del self._starred[len(prefix)]

    def find(self, names: Iterable[str]) -> Iterator[T]:
        """What covers any of `names`, the first of them first."""
        for name in names:
            yield from self._exact.get(name, ())
            for length, prefixes in self._starred.items():
                for text, thing in prefixes.get(name[:length], ()):
                    if path_pattern(text).matches(name):
                        yield thing

    def all(self) -> Iterator[T]:
        for things in self._exact.values():
            yield from things
        for prefixes in self._starred.values():
            for pairs in prefixes.values():
                yield from (thing for _, thing in pairs)


K = TypeVar("K")
V = TypeVar("V")


def _without(kept: dict[K, list[V]], key: K, thing: V) -> None:
    """Keeps no empty list: what is gone costs nothing."""
    kept[key].remove(thing)
    if not kept[key]:
        del kept[key]
