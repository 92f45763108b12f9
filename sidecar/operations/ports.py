"""What the operators' service needs of the running sidecar."""

from __future__ import annotations

from typing import Protocol

from sidecar.operations.model import LogLevel, Status, Verdict


class Operations(Protocol):
    """Every method may be called from any thread, may block for a moment, and raises SidecarError where it fails.

    Who called, and that they may, is settled before.
    """

    def status(self) -> Status: ...

    def check(self, config: str | None) -> Verdict:
        """On a config's text, or for None on the file on disk. Changes nothing."""

    def drain(self, grace: float | None, reason: str, by: str) -> float:
        """Begin to end, and return at once: when what is still open will be cut, in Unix seconds.

        grace: seconds, the config's for None.  by: the principal who asked.
        The first drain stands; one after it changes nothing and returns the first one's end.
        """

    def log_level(self) -> LogLevel: ...

    def set_log_level(self, level: LogLevel, by: str) -> LogLevel:
        """For every process, until the sidecar stops; returns the level before."""
