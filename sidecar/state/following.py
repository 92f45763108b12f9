"""For those who follow the log of changes and tell others what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from sidecar.state.changes import MOST, Change, changes_since
from sidecar.state.ports import Store

LOOK_S: Final = 0.25  # between looks at changes, those of other sidecars with the same database as well
MOST_TOLD: Final = 256 << 10  # bytes of changes that are told at once

Tell = Callable[..., None]  # puts changes, as of `changes.said.Change`, into the feed


def changes_after(store: Store, sequence: int) -> Iterator[list[Change]]:
    """All that was written after `sequence` by now, some at a time. Raises GapError and StateError."""
    while changes := store.read(partial(changes_since, sequence=sequence)):
        sequence = changes[-1].sequence
        yield changes
        if len(changes) < MOST:
            break


def portions(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """In order, so many at once as are no burden on whoever is told."""
    some: list[Change] = []
    size = 0
    for each in changes:
        length = len(each.key) + len(each.body)
        if some and size + length > MOST_TOLD:
            yield some
            some, size = [], 0
        some.append(each)
        size += length
    if some:
        yield some
