"""Waiting for what must come true soon."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic

LOOK_S = 0.02


def eventually(holds: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
    """Return as soon as `holds`. Raises AssertionError, which names `what`, when it does not in time."""
    until = monotonic() + within_s
    while not holds():
        assert monotonic() < until, f"not within {within_s:g} s: {what}"
        Event().wait(LOOK_S)
