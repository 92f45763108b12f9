"""Patterns of identities, methods and models, matched in time linear in the text whatever the pattern.

Path-like: `*` stays within a segment, `**` crosses `/`. Model names: `*` crosses `/` too, `?` is one character.
Stars take any number of characters, none included; every other character stands for itself; a pattern covers the
whole text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LONGEST: Final = 2048  # characters of a pattern; no SPIFFE ID is longer


class PatternError(ValueError):
    """A text that is no pattern."""


class Pattern:
    """A compiled pattern: an automaton whose state n says that the first n parts are matched.

    A set of states is an int of one bit each, so that no state is ever tried twice.  prefix: how every text begins that
    the pattern covers.
    Source: Baeza-Yates and Gonnet 1992, "A new approach to text searching" (Shift-And).
    """

    __slots__ = ("_any", "_crossing", "_end", "_literals", "_plain", "_stars", "prefix", "text")

    def __init__(self, text: str, path_like: bool) -> None:
        """Raises PatternError for an empty text, and for one longer than LONGEST."""
        if not 0 < len(text) <= LONGEST:
            raise PatternError(f"pattern has {len(text)} characters, expected 1 to {LONGEST}")
        self.text = text
        self._literals: dict[str, int] = {}  # character → parts that it matches
        self._any = 0  # parts that any one character matches
        self._stars = 0  # parts that match any number of characters
        self._crossing = 0  # those of them that "/" does not stop
        parts: list[str] = re.findall(r"\*+|[^*]", text, re.DOTALL)
        for at, part in enumerate(parts):
            if part[0] == "*":
                self._stars |= 1 << at
                self._crossing |= (len(part) > 1 or not path_like) << at
            elif part == "?" and not path_like:
                self._any |= 1 << at
            else:
                self._literals[part] = self._literals.get(part, 0) | 1 << at
        self._end = 1 << len(parts)
        self._plain = not self._any and not self._stars
        self.prefix = text if self._plain else re.split(r"\*" if path_like else r"[*?]", text, maxsplit=1)[0]

    def matches(self, text: str) -> bool:
        """Whether the pattern covers the whole of `text`."""
        if self._plain:
            return text == self.text
        if not text.startswith(self.prefix):
            return False
        literals, one, stars = self._literals, self._any, self._stars
        states = 1 | (stars & 1) << 1
        for character in text:
            moved = (states & (literals.get(character, 0) | one)) << 1
            states = moved | states & (self._crossing if character == "/" else stars)
            if not states:
                return False
            states |= (states & stars) << 1  # a star that takes nothing
        return bool(states & self._end)

    def includes(self, text: str) -> bool:
        """Whether it covers all that another path-like pattern does; it may say no where that is so.

        What a star of the other stands for must be taken by one star here: nothing else takes whatever there is.
        """
        if self._plain:
            return text == self.text
        states = 1 | (self._stars & 1) << 1
        for part in re.findall(r"\*+|[^*]", text, re.DOTALL):
            if part[0] == "*":
                states &= self._crossing if len(part) > 1 else self._stars
            else:
                moved = (states & (self._literals.get(part, 0) | self._any)) << 1
                states = moved | states & (self._crossing if part == "/" else self._stars)
            if not states:
                return False
            states |= (states & self._stars) << 1
        return bool(states & self._end)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@lru_cache(maxsize=4096)
def path_pattern(text: str) -> Pattern:
    """Of identities and methods. Raises PatternError."""
    return Pattern(text, path_like=True)


@lru_cache(maxsize=4096)
def name_pattern(text: str) -> Pattern:
    """Of model names. Raises PatternError."""
    return Pattern(text, path_like=False)
