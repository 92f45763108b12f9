"""Notices that files have changed, by looking at them: inotify does not see what a mount or a network puts there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

Print: TypeAlias = tuple[int, int, int, int] | None


def fingerprint(path: Path) -> Print:
    """Device, inode, time of change in nanoseconds and size of what a path leads to; None where nothing is.

    Symbolic links are followed, so that a Kubernetes volume, which swaps a link above the files, is seen to change.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class Watch:
    """look: as `fingerprint`."""

    def __init__(self, paths: Iterable[Path], look: Callable[[Path], Print] = fingerprint) -> None:
        self._look = look
        self._paths: tuple[Path, ...] = ()
        self._acted: tuple[Print, ...] = ()
        self._seen: tuple[Print, ...] = ()
        self.follow(paths)

    def follow(self, paths: Iterable[Path]) -> None:
        """Look at these files from now on. What is known of one that was looked at before stays known."""
        known = dict(zip(self._paths, self._acted, strict=True))
        self._paths = tuple(sorted(set(paths)))
        self._acted = tuple(known[path] if path in known else self._look(path) for path in self._paths)
        self._seen = self._acted

    def settle(self) -> None:
        """Take the files for unchanged as they are now: they are about to be read."""
        self._acted = self._seen = self._prints()

    def changed(self) -> bool:
        """Whether something has changed since it was last true, and nothing since the last look.

        A certificate and its key are written one after the other: between the two they do not fit.
        """
        before, self._seen = self._seen, self._prints()
        if self._seen == self._acted or self._seen != before:
            return False
        self._acted = self._seen
        return True

    def _prints(self) -> tuple[Print, ...]:
        return tuple(self._look(path) for path in self._paths)
