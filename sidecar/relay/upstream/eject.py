"""Which endpoints are left out although they are connected: those that fail calls where others do not.

As Envoy's outlier detection: too many failures in a row, or too large a share of them, put an endpoint out for a time
that grows when it comes back no better. What a caller brings about, a deadline or a cancellation, is no failure.
"""

from __future__ import annotations

from sidecar.relay.settings import EjectionSettings


class Record:
    """One endpoint's calls and times out. Times are seconds on any clock that does not go back."""

    def __init__(self, settings: EjectionSettings, now: float) -> None:
        self.calls = 0  # that ended by the endpoint's doing
        self.failures = 0  # of these
        self.running = 0  # failures since the last success
        self.until: float | None = None  # out until then
        self._settings = settings
        self._begun, self._calls_before, self._failures_before = now, 0, 0  # of the interval
        self._times = 0  # out without a good while in between
        self._back = now  # when it last came back

    def succeed(self) -> None:
        self.calls += 1
        self.running = 0

    def fail(self) -> None:
        self.calls += 1
        self.failures += 1
        self.running += 1

    def bad(self, now: float) -> bool:
        """Whether its calls say that it should be out; one that came back lately has a single failure."""
        settings = self._settings
        if now - self._begun >= settings.interval_s:
            self._begun, self._calls_before, self._failures_before = now, self.calls, self.failures
        if settings.failures and self.running >= (1 if self._on_trial(now) else settings.failures):
            return True
        calls, failures = self.calls - self._calls_before, self.failures - self._failures_before
        return bool(settings.ratio) and calls >= settings.calls and failures >= settings.ratio * calls

    def _on_trial(self, now: float) -> bool:
        return self._times > 0 and now - self._back < self._settings.base_s

    def eject(self, now: float) -> float:
        """Put it out; for how many seconds. Each good while of `base_s` since it came back takes one time off."""
        settings = self._settings
        self._times = max(0, self._times - int((now - self._back) / settings.base_s)) + 1
        self.until = now + min(settings.base_s * self._times, settings.most_s)
        return self.until - now

    def readmit(self, now: float) -> bool:
        """Let it back in when its time is over; whether it is."""
        if self.until is None or now < self.until:
            return False
        self.until, self.running, self._back = None, 0, now
        self._begun, self._calls_before, self._failures_before = now, self.calls, self.failures
        return True


def room(out: int, endpoints: int, share: float) -> bool:
    """Whether one more of `endpoints` may be put out, `out` of them being so: a share of them, and never the last."""
    return out + 1 < endpoints and out + 1 <= max(1, int(endpoints * share))
