"""How many calls the model server is given at once, found from how long its answers take. Sans-I/O; times come in.

A call counts from when its request is whole until its answer begins, so that neither slow uploads nor open streams do.
Time is cut into windows. Where most answers of several in a row took well over what their method usually takes, the
limit falls to a part of what was in use; else it grows. What is usual is learnt while there is no pressure and, while
calls are refused, measured anew in dips: short times with a fourth of the calls.

Sources: Netflix concurrency-limits, "Gradient2Limit"; Envoy, "Adaptive Concurrency"; RFC 8289 §4.2 for acting only on
what lasts; docs/adr/0009.
"""

from __future__ import annotations

from typing import Final

START: Final = 100.0  # calls: as many as one connection may have open by default
STEP: Final = 5.0  # calls
LEAST: Final = 3.0  # calls
CALM: Final = 10.0  # calls: the least, where not even half of the limit is used
TOLERANCE: Final = 1.75  # times the usual
EASE: Final = 1.25  # times the usual, on average: below it nobody waits in line
SLACK_S: Final = 0.003  # and so much longer: below it the noise of a machine tells more than the model server
SAMPLES: Final = 10  # answers of a window, at least, unless it is long
WINDOW_S: Final = 0.1  # at least
LONG_S: Final = 0.5  # at most, once somebody looks
LATES: Final = 3  # late windows in a row before anything is done
METHODS: Final = 64  # told apart; others are not watched
DIP_S: Final = 5.0  # at most, but for methods that take longer than a tenth of it
DIP_SHARE: Final = 0.04  # of all time
DIP_PAUSE_S: Final = 2.0  # between two, at least
MOST_RATIO: Final = 10.0  # of one answer, lest a single one speak for all


class Usual:
    """What a method's answers take.  seconds: 0.0 until known."""

    __slots__ = ("_count", "_total", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._total = 0.0
        self._count = 0

    def note(self, seconds: float) -> None:
        self._total += seconds
        self._count += 1

    def late(self, seconds: float) -> bool:
        return self.seconds > 0.0 and seconds > TOLERANCE * self.seconds + SLACK_S

    def lower(self) -> None:
        """Learn from a window that may have been under pressure: the usual is not more than that."""
        if self._count >= 3:
            mean = self._take()
            if self.seconds == 0.0:
                self.seconds = mean
            elif mean < self.seconds:
                self.seconds += (mean - self.seconds) / 4

    def replace(self) -> bool:
        """Learn from a dip; whether it takes much longer than was thought."""
        if self._count < 3:
            return False
        before, self.seconds = self.seconds, self._take()
        return self.seconds > 1.5 * before

    def forget(self) -> None:
        self._total, self._count = 0.0, 0

    def _take(self) -> float:
        mean = self._total / self._count
        self.forget()
        return mean


class Concurrency:
    """limit: calls that may wait for an answer.  waiting: those that do.  pressure: refused for each that was taken."""

    __slots__ = (
        "_asked",
        "_began",
        "_count",
        "_dip_began",
        "_eager",
        "_late",
        "_lates",
        "_measured",
        "_next_dip",
        "_peak",
        "_ratios",
        "_refused",
        "_saved",
        "_since",
        "_usual",
        "limit",
        "pressure",
        "waiting",
    )

    def __init__(self, now: float) -> None:
        """now: seconds of any clock that does not go back, as everywhere here."""
        self.limit = START
        self.waiting = 0
        self.pressure = 0.0
        self._usual: dict[str, Usual] = {}
        self._eager = True  # nothing has been late: the limit doubles when it is used
        self._lates = 0
        self._since = now  # answers to what was asked earlier tell of another limit
        self._saved = 0.0  # the limit before a dip; 0.0 where there is none
        self._dip_began = now
        self._next_dip = now
        self._measured = 0
        self._open(now)

    def _open(self, now: float) -> None:
        """Begin a window."""
        self._began = now
        self._peak = self.waiting
        self._count = self._late = self._asked = self._refused = 0
        self._ratios = 0.0

    @property
    def full(self) -> bool:
        return self.waiting >= self.limit

    def refused(self) -> None:
        """A call was refused because of this limit."""
        self._refused += 1

    def asked(self) -> None:
        """A whole request goes to the model server."""
        self._asked += 1
        self.waiting += 1
        if self.waiting > self._peak:
            self._peak = self.waiting

    def answered(self, path: str, seconds: float, now: float) -> None:
        """An answer has begun, so long after it was asked for. path: of the method."""
        self.waiting -= 1
        usual = self._usual.get(path)
        if usual is None:
            if len(self._usual) < METHODS:
                usual = self._usual[path] = Usual()
        if usual is not None:
            self._learn(usual, seconds, now)
        if self._saved:
            self._drain(now)

    def left(self, path: str, seconds: float, now: float) -> None:
        """A call ended so long after it was asked, and no answer had begun: it would have taken longer still."""
        self.waiting -= 1
        usual = self._usual.get(path)
        if usual is not None and usual.late(seconds):
            self._learn(usual, seconds, now)
        if self._saved:
            self._drain(now)

    def look(self, now: float) -> None:
        """Called now and then, for windows and dips in which little happens."""
        if self._saved:
            longest = max([usual.seconds for usual in self._usual.values()], default=0.0)
            if now - self._dip_began > max(DIP_S, 10 * longest):
                self._end_dip(now)
        elif now - self._began >= LONG_S:
            if self._count or not self.waiting:
                self._close(now)
            elif self._eager and self.full:
                self.limit += STEP  # whoever waits long by nature must not shut out all others

    def _learn(self, usual: Usual, seconds: float, now: float) -> None:
        if now - seconds < self._since:
            return
        if self._saved:
            usual.note(seconds)
            self._measured += 1
            if self._measured >= SAMPLES:
                self._end_dip(now)
            return
        if usual.late(seconds):
            self._late += 1
        self._count += 1
        self._ratios += min(MOST_RATIO, seconds / usual.seconds) if usual.seconds else 1.0
        usual.note(seconds)
        if self._count >= SAMPLES and now - self._began >= WINDOW_S:
            self._close(now)

    def _close(self, now: float) -> None:
        """A window has ended: judge it."""
        late = self._late * 2 > self._count
        self._lates = self._lates + 1 if late else 0
        self.pressure = self._refused / max(1, self._asked)
        for usual in self._usual.values():
            usual.lower()
        if self._lates >= LATES:
            self._shrink(now)
        elif not late:
            self._grow(now)
        if self._refused and not self._eager and now >= self._next_dip and self.waiting <= self.limit:
            self._begin_dip(now)
        self._open(now)

    def _shrink(self, now: float) -> None:
        """To what would have been in time, had all that was in use waited in one line."""
        share = TOLERANCE * self._count / self._ratios
        wanted = min(self.limit, self._peak) * max(0.2, min(0.9, share))
        # A few calls are no line: whoever has no more than that is slow by itself, and a burst may well be in time.
        least = CALM if self._peak * 2 < self.limit else LEAST
        self.limit = min(self.limit, max(least, wanted))
        self._eager = False
        self._lates = LATES - 1  # the next late window acts again, for it tells of this limit
        self._since = now

    def _grow(self, now: float) -> None:
        used = self._peak * 2 >= self.limit
        if self._eager:
            if self._peak * 2 > self.limit and self._ratios <= EASE * self._count:
                self.limit = 2.0 * self._peak
                self._since = now
        elif used:
            self.limit += max(1.0, self.limit / 16)
        elif self.limit < START:
            self.limit = min(START, self.limit * 1.25 + 1.0)
        else:
            self._eager = True

    def _begin_dip(self, now: float) -> None:
        self._saved, self.limit = self.limit, max(1.0, min(self.limit, self._peak) / 4)
        self._dip_began, self._measured = now, 0
        self._since = float("inf")
        for usual in self._usual.values():
            usual.forget()
        self._drain(now)

    def _drain(self, now: float) -> None:
        """Measure what is asked from when no more than a dip's calls wait."""
        if self._since == float("inf") and self.waiting <= self.limit:
            self._since = now

    def _end_dip(self, now: float) -> None:
        for usual in self._usual.values():
            self._eager = usual.replace() or self._eager
        self.limit, self._saved = self._saved, 0.0
        since = self._since if self._measured else self._dip_began
        self._next_dip = now + max(DIP_PAUSE_S, (now - since) / DIP_SHARE)
        self._since, self._lates = now, 0
        self._open(now)
