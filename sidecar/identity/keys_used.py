"""Which API keys were used, gathered by a worker until it hands them in: `last_used` is coarse, and so may this be."""

from __future__ import annotations

from typing import Final

MOST: Final = 10_000  # keys between two hand-ins; those beyond are noted by a later use


class Used:
    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def note(self, key_id: str, now: float) -> None:
        """now: Unix seconds."""
        if key_id in self._last or len(self._last) < MOST:
            self._last[key_id] = now

    def take(self) -> dict[str, float]:
        """Since it was taken last: when each was used, for `keys.touch`."""
        taken, self._last = self._last, {}
        return taken
