"""How many calls the model server is given at once, found from how long its answers take. Sans-I/O; times come in.

A call counts from when its request is whole until its answer begins, so that neither slow uploads nor open streams do.
Time is cut into windows, and a window is late where most of its answers took well over what is usual for their method.

A line stands while windows are late and more than a few calls wait. By Little's law it is worked off within its
length divided by the rate of answers. While that is no more than `PATIENCE_S`, nothing is refused: so bursts are
worked off, and callers served who wait for each other. Beyond it calls are refused, and then load is shed: the limit
falls to the rate times the usual, and goes on being found so that answers are in time, until hardly a call is
refused. While load is shed, what is usual is measured in dips: short times with a fourth of the calls. Calls that wait
while far fewer answers come than could are no line: they are held apart, and the limit is found for the others.

Sources: RFC 8289 §4.2, for a line that stands; BBR (Cardwell et al. 2016), for the limit that is begun with; Envoy,
"Adaptive Concurrency", for dips; docs/adr/0009.
"""

from __future__ import annotations

from math import inf
from typing import Final

from sidecar.relay.usual import COHORT_S, TOLERANCE, Usual, Usuals

BURST: Final = 1000.0  # calls, where no line stands
SHORT: Final = 10  # calls: no more are no line
PATIENCE_S: Final = 1.0  # in which a line is worked off that may stand
PATIENCE: Final = 5.0  # or so many times the usual
STANDS: Final = 2  # late windows in a row, until a line stands; in the first, some answers are from before it
FADE: Final = 0.95  # of the highest rate, from window to window
LEAST: Final = 3.0  # calls, while load is shed
LATES: Final = 3  # late windows in a row, until the limit falls
MOST_RATIO: Final = 10.0  # of one answer, lest a single one speak for all
EASE: Final = 1.25  # times the usual, on average: below it nobody waits in line
PRESSURE: Final = 0.1  # calls refused for each that was taken: fewer are no overload
RELEASE_S: Final = 1.0  # without pressure, until load is shed no more
SAMPLES: Final = 10  # answers of a window, at least, unless it is long
WINDOW_S: Final = 0.1  # at least
LONG_S: Final = 0.5  # enough for a window of few answers, if none takes longer than half of it
STEP: Final = 5.0  # calls
IDLE: Final = 4.0  # times fewer answers than a standing line had: then what waits is no line
DIP_S: Final = 5.0  # at most
DIP_IDLE_S: Final = 1.5  # at most, where answers fail to come
DIP_USUALS: Final = 1.0  # or so many times the usual
DIP_SHARE: Final = 0.04  # of all time
DIP_PAUSE_S: Final = 2.0  # between two, at least


class Concurrency:
    """limit: calls that may wait for an answer.  waiting: those that do.  pressure: refused for each that was taken.

    shedding: whether the limit is what is answered in time, not how long a line may be.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_began",
        "_count",
        "_dip_began",
        "_dip_calls",
        "_dip_s",
        "_eager",
        "_held",
        "_held_until",
        "_late",
        "_lates",
        "_looked",
        "_measuring",
        "_next_dip",
        "_peak",
        "_pressed",
        "_probed",
        "_rate",
        "_ratios",
        "_refused",
        "_saved",
        "_seen",
        "_shown",
        "_since",
        "_usual",
        "_usual_s",
        "limit",
        "pressure",
        "shedding",
        "waiting",
    )

    def __init__(self, now: float) -> None:
        """now: seconds of any clock that does not go back, as everywhere here."""
        self.limit = BURST
        self.waiting = 0
        self.pressure = 0.0
        self.shedding = False
        self._usual = Usuals(now)
        self._lates = 0
        self._rate = 0.0  # answers a second, since the line stands
        self._shown = 0.0  # the highest that was seen lately, line or no line
        self._pressed = now  # there was pressure
        self._eager = False  # the limit doubles when it is used and nobody waits in line
        self._since = now  # answers to what was asked earlier tell of another limit
        self._looked = now
        self._seen = 0  # answers since then
        self._held = 0  # calls that wait long by nature, and make no line: the limit is found for the others
        self._held_until = now  # they were asked until then
        self._saved = 0.0  # the limit before a dip, less what was held; 0.0 where there is none
        self._dip_began = now
        self._dip_s = DIP_S
        self._dip_calls = 0  # that may wait in it besides
        self._measuring = False  # in it: no line stands
        self._probed = inf  # in it: since when calls are let in although more wait
        self._next_dip = now
        self._open(now)

    def _open(self, now: float) -> None:
        """Begin a window."""
        self._began = now
        self._peak = self.waiting
        self._count = self._late = self._answers = self._asked = self._refused = 0
        self._ratios = self._usual_s = 0.0

    @property
    def full(self) -> bool:
        return self.waiting >= self.limit

    def refused(self) -> None:
        """A call was refused because of this limit."""
        self._refused += 1

    def asked(self) -> int:
        """A whole request goes to the model server. Returns the mark to give back when it waits no more."""
        self._asked += 1
        self.waiting += 1
        if self.waiting > self._peak:
            self._peak = self.waiting
        return self._usual.choose(self.waiting)

    def answered(self, path: str, mark: int, seconds: float, now: float) -> None:
        """An answer has begun, so long after it was asked for. path: of the method."""
        self._answers += 1
        self._seen += 1
        usual = self._usual.of(path)
        if mark and self._usual.end(mark, usual, seconds):
            self._learn(now)
        self._ended(usual, seconds, now)

    def left(self, path: str, mark: int, seconds: float, now: float, worked_off: bool) -> None:
        """A call ended so long after it was asked, and no answer had begun: it would have taken longer still.

        worked_off: by the model server's own status, which says nothing of what answers take.
        """
        self._answers += worked_off
        self._seen += worked_off
        usual = self._usual.known(path)
        if mark and self._usual.end(mark, None, seconds):
            self._learn(now)
        self._ended(usual if usual is not None and usual.late(seconds) else None, seconds, now)

    def look(self, now: float) -> None:
        """Called now and then, for windows, cohorts and dips in which little happens."""
        longest = self._usual.longest
        idles = self._idles(now) and self.full
        if self._saved:
            self._look_at_dip(idles, now)
            return
        if now - self._usual.began > COHORT_S:
            self._learn(now)
        elif not longest and self.waiting > BURST:
            self._usual.learn()  # no cohort may keep a line from being seen by a call that does not end
        if now - self._began >= LONG_S:
            if not self.waiting or (self._count and now - self._began >= 2 * longest):
                self._close(now)
            elif self.full and not self.shedding:
                # Whoever waits long by nature must not shut out all others, however many they are.
                self.limit = (self.waiting if idles else self.limit) + STEP
            elif idles:
                self._hold(now, STEP)  # nor where all that is allowed is theirs

    def _idles(self, now: float) -> bool:
        """Whether far fewer answers come than did while a line stood: the model server could take more.

        Where few are to be expected, whether none has come for as long as any is awaited.
        """
        elapsed = now - self._looked
        expected = (self._rate or self._shown) * elapsed
        if expected < SAMPLES and elapsed < COHORT_S:
            return False
        idles = IDLE * self._seen < expected if expected >= SAMPLES else not self._seen
        self._looked, self._seen = now, 0
        return idles

    def _hold(self, now: float, others: float) -> None:
        """What waits now is no line: so many others may wait besides."""
        self._held, self._held_until = self.waiting, now
        self.limit = self._held + others

    def _ended(self, usual: Usual | None, seconds: float, now: float) -> None:
        """A call waits no more. usual: of its method, if it tells anything."""
        self.waiting -= 1
        if usual is not None and not self._saved and now - seconds >= self._since:
            self._late += usual.late(seconds)
            self._count += 1
            self._usual_s += usual.seconds
            self._ratios += min(MOST_RATIO, seconds / usual.seconds) if usual.seconds else 1.0
        if self.waiting == SHORT and self._lates and not self.shedding:
            self._lates, self._rate, self.limit = 0, 0.0, BURST  # no line stands
        if self._held and (now - seconds <= self._held_until or self._held > self.waiting):
            self._held -= 1  # the second, lest rounding keeps one for good
        if (
            self._saved
            and not self._measuring
            and (self.waiting <= self._held + self._dip_calls or now - seconds >= self._probed)
        ):
            self._measure(now)
        if self._count >= SAMPLES and now - self._began >= WINDOW_S:
            self._close(now)

    def _learn(self, now: float) -> None:
        """A cohort is complete, or has lasted long enough."""
        if self._saved:
            self._end_dip(now)
        else:
            self._usual.learn()
            self._usual.gather(now)

    def _close(self, now: float) -> None:
        """A window has ended: judge it."""
        late = self._late * 2 > self._count
        self._lates = self._lates + 1 if late else 0
        self.pressure = self._refused / max(1, self._asked)
        if self._refused > PRESSURE * self._asked:
            self._pressed = now
        if not self.shedding:
            self._wait(late, now)
        elif now - self._pressed >= RELEASE_S:
            self.shedding, self.limit = False, BURST
        else:
            self._find(late, now)
        self._open(now)

    def _wait(self, late: bool, now: float) -> None:
        """Limit a line that stands; shed load where that has been too little."""
        self._shown = max(FADE * self._shown, self._answers / (now - self._began))
        if not late:
            self._rate, self.limit = 0.0, max(BURST, 2.0 * self._peak)
            return
        if self._lates < STANDS:
            return
        self._follow(now)
        usual_s = self._usual_s / self._count
        # By what has been shown before too: whoever halts for a moment works his line off afterwards as ever.
        self.limit = max(2.0 * SHORT, self._shown * max(PATIENCE_S, PATIENCE * usual_s))
        if self._refused:
            self.shedding, self._pressed, self._eager = True, now, False
            self._looked, self._seen = now, 0
            self.limit = self._held + max(LEAST, min(self.limit, TOLERANCE * self._rate * usual_s))
            self._begin_dip(now)

    def _follow(self, now: float) -> None:
        """The rate of answers, while the model server has enough to do."""
        self._rate = max(FADE * self._rate, self._answers / (now - self._began))

    def _find(self, late: bool, now: float) -> None:
        """Look for the highest limit at which answers are in time."""
        used = (self._peak - self._held) * 2 >= self.limit - self._held
        if used:
            self._follow(now)
        if used and self._lates >= LATES:
            self._shrink(now)
        elif used and not late:
            self._grow(now)
        if self._refused and not self._eager and now >= self._next_dip and self.waiting <= self.limit:
            self._begin_dip(now)

    def _shrink(self, now: float) -> None:
        """To what would have been in time, had all that was in use waited in one line."""
        share = TOLERANCE * self._count / self._ratios
        wanted = (min(self.limit, self._peak) - self._held) * max(0.2, min(0.9, share))
        self.limit = min(self.limit, self._held + max(LEAST, wanted))
        self._eager = False
        self._lates = LATES - 1  # the next late window acts again, for it tells of this limit
        self._since = now

    def _grow(self, now: float) -> None:
        if not self._eager:
            self.limit += max(1.0, (self.limit - self._held) / 16)
        elif self._ratios <= EASE * self._count:
            self.limit = self._held + 2.0 * (self._peak - self._held)
            self._since = now

    def _begin_dip(self, now: float) -> None:
        found = self.limit - self._held
        self._dip_calls = max(1, int(min(found, self._peak - self._held) / 4))
        self._dip_s = max(DIP_S, DIP_USUALS * self._usual_s / max(1, self._count))
        self._saved, self.limit = found, float(self._held + self._dip_calls)
        self._drain(now, inf)
        if self.waiting <= self.limit:
            self._measure(now)

    def _look_at_dip(self, idles: bool, now: float) -> None:
        """Where answers fail to come, what waits does so by nature: a few others are let in besides.

        The first of them to be answered shows that no line is before it.
        """
        drains = not self._measuring and self._probed == inf
        if idles:
            self._hold(now, self._dip_calls)
            self._usual.quiet = int(self.limit)
            if drains:
                self._drain(now, now)
        # A line that is being worked off is waited for: nothing that could be let in would be answered before it.
        elif drains:
            return
        if now - self._dip_began > (DIP_IDLE_S if idles else self._dip_s):
            self._end_dip(now)

    def _drain(self, now: float, probed: float) -> None:
        """A line may stand: nothing is measured."""
        self._usual.forget()
        self._usual.pause()
        self._measuring, self._probed, self._dip_began = False, probed, now

    def _measure(self, now: float) -> None:
        """No line stands: what is asked from now on tells what is usual."""
        self.limit = float(self._held + self._dip_calls)
        self._usual.gather(now, self._held + self._dip_calls)
        self._measuring = True
        if self._probed == inf:
            self._dip_began = now

    def _end_dip(self, now: float) -> None:
        if self._usual.complete:
            self._eager = self._usual.replace() or self._eager
        self._next_dip = now + max(DIP_PAUSE_S, (now - self._dip_began) / DIP_SHARE)
        self.limit, self._saved = self._held + self._saved, 0.0
        self._since, self._lates = now, 0
        self._usual.gather(now)
        self._open(now)
