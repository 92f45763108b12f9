"""Counts alike events into one, so that whoever needs no identity to be refused cannot fill the disk.

Within a window the first event of a kind, source and reason is written at once; the others are counted and
written as one when the window ends. INVARIANT: the counts given out sum to the counts taken in, once closed.
At most 2 * (2 * sources + 1) events come out of one window, however many go in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from interceptors.events import Event

OTHER_SOURCES = "other sources"
OTHER_KINDS = "events.other"
Key: TypeAlias = tuple[str, str, str]  # kind, source, reason


@dataclass(slots=True)
class Entry:
    """ends: seconds on the caller's clock.  last: Unix seconds of the latest event counted."""

    ends: float
    count: int = 0
    last: float = 0.0


class Fold:
    """window: seconds.  sources: kinds, sources and reasons told apart; further sources share one entry."""

    def __init__(self, window: float = 10.0, sources: int = 128) -> None:
        self._window = window
        self._sources = sources
        self._entries: dict[Key, Entry] = {}  # in order of their ends

    def __len__(self) -> int:
        """Windows that are open."""
        return len(self._entries)

    def add(self, event: Event, now: float) -> list[Event]:
        """What is to be written now. now: seconds, never less than in an earlier call."""
        written = self.sweep(now)
        key = self._key(event)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = Entry(now + self._window)
            written.append(event)
        else:
            entry.count += event.count
            entry.last = event.time
        return written

    def sweep(self, now: float) -> list[Event]:
        """The counted events of every window that has ended."""
        written = []
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.ends > now:
                break
            del self._entries[key]
            if entry.count:
                written.append(folded(key, entry))
        return written

    def close(self) -> list[Event]:
        """The counted events of every window, which ends here."""
        return self.sweep(float("inf"))

    def _key(self, event: Event) -> Key:
        key = (event.kind, event.source, event.reason)
        if key in self._entries or len(self._entries) < self._sources:
            return key
        # Kinds and reasons are few by contract; the bound holds even where an interceptor breaks it.
        key = (event.kind, OTHER_SOURCES, event.reason)
        if key in self._entries or len(self._entries) < 2 * self._sources:
            return key
        return OTHER_KINDS, OTHER_SOURCES, ""


def folded(key: Key, entry: Entry) -> Event:
    """One event for many: it says only what they share."""
    kind, source, reason = key
    return Event(kind=kind, time=entry.last, source=source, reason=reason, fold=True, count=entry.count)
