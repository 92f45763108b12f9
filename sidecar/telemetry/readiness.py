"""Whether the sidecar should be sent calls, and whether it lives: checks, each with its name and its reason."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sidecar.telemetry import metrics
from sidecar.telemetry.merge import Merged, Process, gauge, merged


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. reason: what was found; the probe shows it to whoever asks."""

    name: str
    passed: bool
    reason: str


class Readiness(Protocol):
    """What the probe listener asks; called on its event loop with every probe."""

    def ready(self) -> Sequence[Check]:
        """Whether calls should come."""

    def alive(self) -> Sequence[Check]:
        """Whether a restart would help: nothing here may fail because of what others do."""


@dataclass(frozen=True, slots=True)
class Needs:
    """directory: where the sidecar keeps its state.  min_free: bytes that must be free there.

    max_staleness_s: the longest that a change feed may be silent.
    """

    directory: Path
    min_free: int
    max_staleness_s: float


class BoardReadiness:
    """Readiness as the workers' boards say it, and the state directory.

    wall, boot_clock: Unix seconds, and CLOCK_BOOTTIME's.
    """

    def __init__(
        self, workers: Sequence[Process], needs: Needs, wall: Callable[[], float], boot_clock: Callable[[], float]
    ) -> None:
        self._workers = workers
        self._needs = needs
        self._wall = wall
        self._boot_clock = boot_clock

    def alive(self) -> Sequence[Check]:
        now = self._boot_clock()
        silent = [worker.name for worker in self._workers if not worker.alive(now)]
        said = f"no sign of life: {', '.join(silent)}" if silent else f"{len(self._workers)} of {len(self._workers)}"
        return (Check("workers", not silent, said),)

    def ready(self) -> Sequence[Check]:
        now = self._boot_clock()
        there = merged(self._workers, now)
        any_alive = any(worker.alive(now) for worker in self._workers)
        return (
            Check("workers", any_alive, "at least one is alive" if any_alive else "none gives a sign of life"),
            self._draining(there),
            self._upstream(there),
            self._recorder(there),
            self._feeds(there),
            self._certificates(there),
            self._disk(),
        )

    @staticmethod
    def _draining(there: Merged) -> Check:
        draining = sum(gauge(there, metrics.DRAINING).values())
        return Check("draining", not draining, f"{draining:.0f} workers drain" if draining else "no")

    def _upstream(self, there: Merged) -> Check:
        """Some endpoint that every worker reaches, or some that each reaches: a worker with none fails its calls."""
        now = self._boot_clock()
        lonely = []
        for worker in self._workers:
            endpoints = gauge(merged((worker,), now), metrics.UPSTREAM_UP)
            if worker.alive(now) and not any(endpoints.values()):
                lonely.append(worker.name)
        known = len(gauge(there, metrics.UPSTREAM_UP))
        said = f"{', '.join(lonely)} reaches none of {known} endpoints" if lonely else f"{known} endpoints"
        return Check("upstream", not lonely and known > 0, said if known else "not reached yet")

    @staticmethod
    def _recorder(there: Merged) -> Check:
        up = all(gauge(there, metrics.RECORDER_UP).values())
        return Check("recorder", up, "records" if up else "events cannot be recorded")

    def _feeds(self, there: Merged) -> Check:
        stale = {
            name: age for (name,), age in gauge(there, metrics.FEED_AGE).items() if age > self._needs.max_staleness_s
        }
        said = ", ".join(
            f"{name} was never heard of" if math.isinf(age) else f"{name} is silent for {age:.1f} s"
            for name, age in stale.items()
        )
        return Check("feed", not stale, said or "fresh")

    def _certificates(self, there: Merged) -> Check:
        now = self._wall()
        ended = [name for (name,), end in gauge(there, metrics.CERTIFICATE_EXPIRY).items() if end <= now]
        return Check("certificates", not ended, f"expired: {', '.join(ended)}" if ended else "valid")

    def _disk(self) -> Check:
        directory, least = self._needs.directory, self._needs.min_free
        try:
            found = os.statvfs(directory)
        except OSError as error:
            return Check("disk", False, f"state directory: {error.strerror}")
        if found.f_flag & os.ST_RDONLY or not os.access(directory, os.W_OK | os.X_OK):
            return Check("disk", False, "state directory is not writable")
        free = found.f_bavail * found.f_frsize
        said = f"{free >> 20} MiB free" if free >= least else f"{free >> 20} MiB free, {least >> 20} MiB are needed"
        return Check("disk", free >= least, said)
